/**
 * The keeper's connections to the hive: two pins to alternate between, one for checkpoints, one for the barrier. None
 * can create a file, none waits for a lock (busy timeout 0), none maps the file.
 */
import Database from 'better-sqlite3';
import { systemErrorCode } from '../support/errors.ts';

const open = (path: string): Database.Database => {
  // Read-write, because BEGIN IMMEDIATE on a read-only connection silently is a plain read transaction.
  const database = new Database(path, { fileMustExist: true, timeout: 0 });
  database.pragma('mmap_size = 0');
  return database;
};

const isBusy = (error: unknown): boolean => {
  const code = systemErrorCode(error);
  return code !== null && (code.startsWith('SQLITE_BUSY') || code === 'SQLITE_PROTOCOL');
};

/** Runs without collecting a stack: a missed lock is no news, and the trace costs more than the lock. */
const tryLock = (step: () => void): boolean => {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 0;
  try {
    step();
    return true;
  } catch (error) {
    if (isBusy(error)) return false;
    throw error;
  } finally {
    Error.stackTraceLimit = limit;
  }
};

/** A read transaction that is held to keep the WAL from being reset. */
export class Pin {
  readonly #database: Database.Database;
  readonly #begin: Database.Statement;
  readonly #read: Database.Statement;
  readonly #end: Database.Statement;

  constructor(path: string) {
    this.#database = open(path);
    this.#begin = this.#database.prepare('BEGIN');
    // Takes the read mark and reads four bytes; a SELECT would parse the schema first.
    this.#read = this.#database.prepare('PRAGMA user_version');
    this.#end = this.#database.prepare('ROLLBACK');
  }

  /** False if somebody holds the hive exclusively at this moment (recovery, last close). */
  begin(): boolean {
    return tryLock(() => {
      this.#begin.run();
      try {
        this.#read.get();
      } catch (error) {
        this.end();
        throw error;
      }
    });
  }

  end(): void {
    if (this.#database.inTransaction) this.#end.run();
  }

  close(): void {
    this.#database.close();
  }
}

/** `BEGIN IMMEDIATE` … `ROLLBACK`: no one commits in between, nothing is written. */
export class Barrier {
  readonly #database: Database.Database;
  readonly #begin: Database.Statement;
  readonly #end: Database.Statement;

  constructor(path: string) {
    this.#database = open(path);
    this.#begin = this.#database.prepare('BEGIN IMMEDIATE');
    this.#end = this.#database.prepare('ROLLBACK');
  }

  /** False if the application holds the write lock. */
  begin(): boolean {
    return tryLock(() => void this.#begin.run());
  }

  end(): void {
    if (this.#database.inTransaction) this.#end.run();
  }

  close(): void {
    this.#database.close();
  }
}

/** Checkpoints; keeps SQLite's default synchronous mode, so that the WAL and the file are synced as they must be. */
export class Checkpointer {
  readonly #database: Database.Database;
  #passive: Database.Statement | null = null;
  #truncate: Database.Statement | null = null;

  constructor(path: string) {
    this.#database = open(path);
  }

  /** Reads once, which makes SQLite create or recover -wal and -shm. Throws SQLITE_BUSY and the like. */
  touch(): void {
    this.#database.pragma('user_version');
  }

  /** Backfills up to the smallest held mark; waits for nobody. */
  passive(): void {
    tryLock(() => void (this.#passive ??= this.#database.prepare('PRAGMA wal_checkpoint(PASSIVE)')).all());
  }

  /** Resets and empties the WAL at once, or gives up at once (and then is a PASSIVE). */
  truncate(): void {
    tryLock(() => void (this.#truncate ??= this.#database.prepare('PRAGMA wal_checkpoint(TRUNCATE)')).all());
  }

  close(): void {
    this.#database.close();
  }
}
