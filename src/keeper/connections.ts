/**
 * The keeper's connections to the hive: two pins to alternate between, one for checkpoints, one for the barrier. None
 * can create a file, none waits for a lock (busy timeout 0), none maps the file.
 */
import Database from 'better-sqlite3';
import { systemErrorCode } from '../support/errors.ts';
import { hasOtherReaderOfFile } from './other-readers.ts';

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

interface CheckpointRow {
  readonly busy: number;
}

/** Checkpoints; keeps SQLite's default synchronous mode, so that the WAL and the file are synced as they must be. */
export class Checkpointer {
  readonly #database: Database.Database;
  #passive: Database.Statement<[], CheckpointRow> | null = null;
  #truncate: Database.Statement<[], CheckpointRow> | null = null;
  readonly #onFault: (error: unknown) => void;
  #isFaulty = false;

  /** `onFault`: a checkpoint failed for another reason than a lock (disk full). Told once until one succeeds. */
  constructor(path: string, onFault: (error: unknown) => void) {
    this.#database = open(path);
    this.#onFault = onFault;
  }

  /** Reads once, which makes SQLite create or recover -wal and -shm. Throws SQLITE_BUSY and the like. */
  touch(): void {
    this.#database.pragma('user_version');
  }

  /** Backfills up to the smallest held mark. False if another checkpoint was running, which SQLite never waits for. */
  passive(): boolean {
    this.#passive ??= this.#database.prepare<[], CheckpointRow>('PRAGMA wal_checkpoint(PASSIVE)');
    const statement = this.#passive;
    return this.#run(statement);
  }

  /**
   * The same, tried again for a while: beyond its auto-checkpoint size the application takes the checkpoint lock for an
   * instant after each commit, or for longer if it is quicker to do the backfill that our pin has just allowed.
   */
  passivePatiently(patienceMs: number): boolean {
    const deadline = performance.now() + patienceMs;
    while (!this.passive()) {
      if (performance.now() > deadline) return false;
    }
    return true;
  }

  /** Resets and empties the WAL at once, or gives up at once (and then is a PASSIVE). The caller's pin is on slot 0. */
  truncate(): boolean {
    if (hasOtherReaderOfFile()) return false;
    this.#truncate ??= this.#database.prepare<[], CheckpointRow>('PRAGMA wal_checkpoint(TRUNCATE)');
    return this.#run(this.#truncate);
  }

  #run(statement: Database.Statement<[], CheckpointRow>): boolean {
    let isDone = false;
    try {
      tryLock(() => {
        isDone = statement.get()?.busy === 0;
      });
      this.#isFaulty = false;
    } catch (error) {
      // The frames stay in the WAL, nothing is lost, and a later checkpoint does it.
      if (!this.#isFaulty) this.#onFault(error);
      this.#isFaulty = true;
    }
    return isDone;
  }

  close(): void {
    this.#database.close();
  }
}
