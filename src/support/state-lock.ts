/**
 * One daemon a state directory. The lock is SQLite's own write lock on a small file, held by an open transaction: the
 * kernel takes it back when the process dies, however it dies. Who holds it stands in a file beside it.
 */
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { replaceFile } from './file.ts';
import { systemErrorCode, WaggleError } from './errors.ts';

export interface LockHolder {
  readonly pid: number;
  readonly startedAtMs: number;
}

const LOCK_FILE = 'lock';
const HOLDER_FILE = 'daemon.json';
/** `status` takes the lock for an instant to see whether it is free. */
const WAIT_MS = 300;

/** Makes the state directory (mode 0700). Throws STATE_UNUSABLE. */
export const prepareStateDirectory = (path: string): void => {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    if (!statSync(path).isDirectory()) throw new WaggleError('STATE_UNUSABLE', `${path} is not a directory`);
  } catch (error) {
    if (error instanceof WaggleError) throw error;
    throw new WaggleError('STATE_UNUSABLE', `the state directory ${path} cannot be made: ${systemErrorCode(error) ?? 'unknown error'}`, {
      cause: error,
    });
  }
};

export class StateLock implements Disposable {
  readonly #database: Database.Database;

  private constructor(database: Database.Database) {
    this.#database = database;
  }

  /** Throws STATE_IN_USE with the holder's pid, STATE_UNUSABLE. */
  static acquire(stateDir: string): StateLock {
    const database = openLockFile(stateDir);
    try {
      database.exec('BEGIN IMMEDIATE');
      replaceFile(join(stateDir, HOLDER_FILE), Buffer.from(JSON.stringify({ pid: process.pid, startedAtMs: Date.now() })), { durable: false });
      return new StateLock(database);
    } catch (error) {
      database.close();
      if (isBusy(error)) {
        const pid = readHolder(stateDir)?.pid;
        throw new WaggleError('STATE_IN_USE', `another waggle${pid === undefined ? '' : ` (pid ${pid})`} uses the state directory ${stateDir}`, {
          cause: error,
        });
      }
      throw unusable(stateDir, error);
    }
  }

  /** Who holds the lock now; null: nobody. */
  static holder(stateDir: string): LockHolder | null {
    const database = openLockFile(stateDir);
    try {
      database.pragma('busy_timeout = 0');
      database.exec('BEGIN IMMEDIATE; ROLLBACK');
      return null;
    } catch (error) {
      if (isBusy(error)) return readHolder(stateDir) ?? { pid: 0, startedAtMs: 0 };
      throw unusable(stateDir, error);
    } finally {
      database.close();
    }
  }

  [Symbol.dispose](): void {
    if (this.#database.open) this.#database.close();
  }
}

const openLockFile = (stateDir: string): Database.Database => {
  const path = join(stateDir, LOCK_FILE);
  try {
    // Made by hand for its mode, and only where it is not there: closing a descriptor drops locks that this process has on the file.
    if (!existsSync(path)) closeSync(openSync(path, 'a', 0o600));
    return new Database(path, { timeout: WAIT_MS });
  } catch (error) {
    throw unusable(stateDir, error);
  }
};

const readHolder = (stateDir: string): LockHolder | null => {
  try {
    return JSON.parse(readFileSync(join(stateDir, HOLDER_FILE), 'utf8')) as LockHolder;
  } catch {
    // The holder writes it right after it got the lock: whoever looks in between learns no pid.
    return null;
  }
};

const isBusy = (error: unknown): boolean => error instanceof Database.SqliteError && error.code.startsWith('SQLITE_BUSY');

const unusable = (stateDir: string, cause: unknown): WaggleError =>
  new WaggleError('STATE_UNUSABLE', `the state directory ${stateDir} cannot be used: ${cause instanceof Error ? cause.message : String(cause)}`, {
    cause,
  });
