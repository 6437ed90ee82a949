/** One daemon a state directory: a lock that the kernel takes back. Who holds it stands in a file beside it. */
import { mkdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { replaceFile } from './file.ts';
import { FileLock } from './file-lock.ts';
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
  readonly #lock: FileLock;

  private constructor(lock: FileLock) {
    this.#lock = lock;
  }

  /** Throws STATE_IN_USE with the holder's pid, STATE_UNUSABLE. */
  static acquire(stateDir: string): StateLock {
    const lock = take(stateDir, WAIT_MS);
    if (lock === null) {
      const pid = readHolder(stateDir)?.pid;
      throw new WaggleError('STATE_IN_USE', `another waggle${pid === undefined ? '' : ` (pid ${pid})`} uses the state directory ${stateDir}`);
    }
    try {
      replaceFile(join(stateDir, HOLDER_FILE), Buffer.from(JSON.stringify({ pid: process.pid, startedAtMs: Date.now() })), { durable: false });
      return new StateLock(lock);
    } catch (error) {
      lock[Symbol.dispose]();
      throw unusable(stateDir, error);
    }
  }

  /** Who holds the lock now; null: nobody. */
  static holder(stateDir: string): LockHolder | null {
    using lock = take(stateDir, 0);
    return lock === null ? (readHolder(stateDir) ?? { pid: 0, startedAtMs: 0 }) : null;
  }

  [Symbol.dispose](): void {
    this.#lock[Symbol.dispose]();
  }
}

const take = (stateDir: string, waitMs: number): FileLock | null => {
  try {
    return FileLock.acquire(join(stateDir, LOCK_FILE), waitMs);
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

const unusable = (stateDir: string, cause: unknown): WaggleError =>
  new WaggleError('STATE_UNUSABLE', `the state directory ${stateDir} cannot be used: ${cause instanceof Error ? cause.message : String(cause)}`, {
    cause,
  });
