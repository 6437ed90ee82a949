/**
 * Errors of Postgres as codes of the closed list (https://www.postgresql.org/docs/current/errcodes-appendix.html).
 * Messages of data errors (classes 21, 22, 23, P0) quote values: they are replaced, and never kept as a cause.
 */
import { type ErrorCode, systemErrorCode, WaggleError } from '../../src/support/errors.ts';

/** The SQLSTATE of a server's error, or null. */
export const sqlState = (error: unknown): string | null => {
  const code = systemErrorCode(error);
  return code !== null && /^[0-9A-Z]{5}$/.test(code) && !code.startsWith('E') ? code : null;
};

const field = (error: unknown, name: 'column' | 'constraint'): string | null => {
  const value: unknown = error instanceof Error ? Reflect.get(error, name) : undefined;
  return typeof value === 'string' && value !== '' ? value : null;
};

const BY_STATE: Record<string, ErrorCode> = {
  '3D000': 'SINK_DENIED',
  '25006': 'SINK_BUSY',
  '25P03': 'SINK_UNREACHABLE',
  '42501': 'SINK_DENIED',
  '54000': 'SINK_ROW_REFUSED',
  '55P03': 'SINK_BUSY',
  '55006': 'SINK_BUSY',
  '57014': 'SINK_BUSY',
  '57P01': 'SINK_UNREACHABLE',
  '57P02': 'SINK_UNREACHABLE',
  '57P03': 'SINK_UNREACHABLE',
  '57P05': 'SINK_UNREACHABLE',
};

const BY_CLASS: Record<string, ErrorCode> = {
  '08': 'SINK_UNREACHABLE',
  '0A': 'SINK_TABLE_MISFIT',
  '21': 'SINK_ROW_REFUSED',
  '22': 'SINK_ROW_REFUSED',
  '23': 'SINK_ROW_REFUSED',
  '28': 'SINK_DENIED',
  '3F': 'SINK_DENIED',
  '40': 'SINK_BUSY',
  '42': 'SINK_TABLE_MISFIT',
  '53': 'SINK_BUSY',
  '54': 'SINK_TABLE_MISFIT',
  P0: 'SINK_ROW_REFUSED',
};

/** True for errors that a value of a row is the cause of. */
export const isDataError = (error: unknown): boolean => {
  const state = sqlState(error);
  return state !== null && codeOf(state) === 'SINK_ROW_REFUSED';
};

const codeOf = (state: string): ErrorCode => BY_STATE[state] ?? BY_CLASS[state.slice(0, 2)] ?? 'SINK_FAILED';

// What goes wrong without a SQLSTATE, apart from system errors, is the driver's word for a lost connection.
const LOST = /terminat|timeout|timed out|not queryable|closed|socket|ended/i;
const SYSTEM = /^E(?!RR_)[A-Z_]+$/;

/**
 * `target` says which server, without the password. `place` says which table, where it is known. A WaggleError is
 * given back as it is.
 */
export const toSinkError = (error: unknown, target: string, place?: string): WaggleError => {
  if (error instanceof WaggleError) return error;
  const state = sqlState(error);
  const where = place === undefined ? target : `${target}, table ${place}`;
  if (state !== null) {
    const code = codeOf(state);
    if (code === 'SINK_ROW_REFUSED') return refusedByServer(error, state, where);
    const message = error instanceof Error ? firstLine(error.message) : 'unknown error';
    if (state === '3D000') return new WaggleError(code, `${where}: ${message}`, { hint: 'Create the database, or mend its name in the URL.' });
    return new WaggleError(code, `${where}: ${message} (${state})`);
  }
  // V8's longest string is 512 MB; a blob takes two characters a byte.
  if (error instanceof RangeError || systemErrorCode(error) === 'ERR_STRING_TOO_LONG')
    return new WaggleError('SINK_ROW_REFUSED', `${where}: a value is too large for a statement`);
  const errors: unknown[] = error instanceof AggregateError ? error.errors : [error];
  const system = errors.map(systemErrorCode).find((code) => code !== null && SYSTEM.test(code));
  if (system) return new WaggleError('SINK_UNREACHABLE', `${where}: cannot be reached (${system})`, { cause: error });
  const message = error instanceof Error ? firstLine(error.message) : 'unknown error';
  return new WaggleError(LOST.test(message) ? 'SINK_UNREACHABLE' : 'SINK_FAILED', `${where}: ${message}`, { cause: error });
};

const firstLine = (text: string): string => text.split('\n', 1)[0]!;

const refusedByServer = (error: unknown, state: string, where: string): WaggleError => {
  const column = field(error, 'column');
  const constraint = field(error, 'constraint');
  const place = column === null ? where : `${where}, column ${column}`;
  switch (state) {
    case '21000':
      return new WaggleError('SINK_ROW_REFUSED', `${place}: two rows of the hive have the same key in the target`);
    case '23502':
      return new WaggleError('SINK_ROW_REFUSED', `${place}: the column does not take NULL`);
    case '54000':
      return new WaggleError('SINK_ROW_REFUSED', `${place}: a value is too long for an index`);
    default: {
      const rule = constraint === null ? '' : `, constraint ${constraint}`;
      return new WaggleError('SINK_ROW_REFUSED', `${place}: the target refuses a row (SQLSTATE ${state}${rule})`);
    }
  }
};

/** A value that does not fit a column of a table that waggle did not create, or no column at all. */
export const refusedValue = (place: { target: string; table: string; column: string }, reason: string): WaggleError =>
  new WaggleError('SINK_ROW_REFUSED', `${place.target}, table ${place.table}, column ${place.column}: ${reason}`);
