/** SQLite's and the system's errors on files of the state directory, as errors of the closed list. */
import { type ErrorCode, systemErrorCode, WaggleError } from '../support/errors.ts';

/** The error of the closed list for what went wrong with a database file of the state directory. Passes a WaggleError on. */
export const stateError = (error: unknown, path: string): WaggleError => {
  if (error instanceof WaggleError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new WaggleError(stateErrorCode(systemErrorCode(error) ?? ''), `${path}: ${message}`, { cause: error });
};

const stateErrorCode = (code: string): ErrorCode => {
  switch (code) {
    case 'ENOSPC':
    case 'EDQUOT':
    case 'SQLITE_FULL':
      return 'DISK_FULL';
    case 'SQLITE_NOTADB':
      return 'STATE_CORRUPT';
    // better-sqlite3 3-level codes: SQLITE_BUSY_RECOVERY, SQLITE_BUSY_SNAPSHOT, …
    case 'SQLITE_BUSY':
    case 'SQLITE_LOCKED':
      return 'STATE_IN_USE';
    default:
      if (code.startsWith('SQLITE_CORRUPT') || code.startsWith('SQLITE_CONSTRAINT')) return 'STATE_CORRUPT';
      if (code.startsWith('SQLITE_BUSY')) return 'STATE_IN_USE';
      return 'STATE_UNUSABLE';
  }
};
