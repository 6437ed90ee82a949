/** Errors of better-sqlite3 as codes of the closed list (https://sqlite.org/rescode.html). */
import { type ErrorCode, systemErrorCode, WaggleError } from '../../src/support/errors.ts';

const CODES: [RegExp, ErrorCode][] = [
  [/^SQLITE_(BUSY|LOCKED|INTERRUPT|NOMEM)/, 'SINK_BUSY'],
  [/^SQLITE_FULL/, 'DISK_FULL'],
  [/^SQLITE_(READONLY|CANTOPEN|PERM|AUTH)/, 'SINK_DENIED'],
  [/^SQLITE_(CONSTRAINT|MISMATCH|TOOBIG)/, 'SINK_ROW_REFUSED'],
  [/^SQLITE_(NOTADB|CORRUPT|FORMAT)/, 'SINK_DENIED'],
  [/^SQLITE_ERROR$/, 'SINK_TABLE_MISFIT'],
];

/** `file` is the target; `table` where it is known. Messages of SQLite name tables and columns, never values. */
export const toSinkError = (error: unknown, file: string, table?: string): WaggleError => {
  if (error instanceof WaggleError) return error;
  const state = systemErrorCode(error);
  const message = error instanceof Error ? error.message.split('\n', 1)[0]! : 'unknown error';
  const where = table === undefined ? `sqlite ${file}` : `sqlite ${file}, table ${table}`;
  const code = CODES.find(([pattern]) => state !== null && pattern.test(state))?.[1];
  if (code === undefined) return new WaggleError('SINK_FAILED', `${where}: ${message}`, { cause: error });
  // A trigger of the user can say anything (RAISE), also values.
  if (state === 'SQLITE_CONSTRAINT_TRIGGER') return new WaggleError(code, `${where}: a trigger refuses a row`);
  if (code === 'SINK_DENIED') {
    const hint =
      state === 'SQLITE_NOTADB' || state === 'SQLITE_CORRUPT'
        ? 'Name another file: this is not a SQLite database, or it is damaged.'
        : 'Check the rights of the file and its directory.';
    return new WaggleError(code, `${where}: ${message}`, { cause: error, hint });
  }
  return new WaggleError(code, `${where}: ${message}`, { cause: error });
};
