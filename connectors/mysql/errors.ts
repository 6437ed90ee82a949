/**
 * Errors of MySQL and MariaDB as codes of the closed list
 * (https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html, https://mariadb.com/kb/en/mariadb-error-codes/).
 * Messages of data errors quote values, and the driver's errors hold the statement: neither is shown or kept as a cause.
 */
import { type ErrorCode, systemErrorCode, WaggleError } from '../../src/support/errors.ts';

export const DUPLICATE_ENTRY = 1062;

const BY_NUMBER: ReadonlyMap<number, ErrorCode> = new Map(
  (
    [
      // Disk full, too many connections, lock wait timeout, deadlock, limits of the user, query interrupted or too slow, read-only, …
      ['SINK_BUSY', [1021, 1040, 1041, 1114, 1180, 1203, 1205, 1206, 1213, 1226, 1290, 1317, 1290, 1614, 1792, 1836, 1969, 3024, 3572, 4031]],
      ['SINK_UNREACHABLE', [1042, 1053, 1077, 1079, 1080, 1152, 1154, 1155, 1156, 1157, 1158, 1159, 1160, 1161, 1184, 1927, 2006, 2013, 2055, 3169]],
      ['SINK_DENIED', [1044, 1045, 1049, 1129, 1130, 1142, 1143, 1227, 1251, 1370, 1410, 1419, 1524, 1698, 1820, 3118, 3159, 4151]],
      [
        'SINK_ROW_REFUSED',
        [
          1048, 1062, 1138, 1153, 1216, 1217, 1242, 1263, 1264, 1265, 1292, 1300, 1364, 1366, 1369, 1406, 1411, 1416, 1441, 1451, 1452, 1525, 1557,
          1586, 1588, 1644, 1690, 1761, 1762, 1906, 3140, 3141, 3144, 3150, 3156, 3157, 3819, 3988, 4025, 4038, 4078,
        ],
      ],
      [
        'SINK_TABLE_MISFIT',
        [
          1051, 1054, 1059, 1060, 1061, 1067, 1068, 1069, 1070, 1071, 1072, 1074, 1075, 1091, 1117, 1118, 1146, 1166, 1170, 1103, 1347, 1356, 1471,
          1709, 1831, 1846, 4161,
        ],
      ],
    ] as const
  ).flatMap(([code, numbers]) => numbers.map((number) => [number, code] as const)),
);

/** The server's error number, or null for what the server did not say. */
export const serverError = (error: unknown): number | null => {
  if (!(error instanceof Error) || !('errno' in error) || typeof error.errno !== 'number' || !('sqlState' in error)) return null;
  return error.errno > 0 && error.sqlState !== undefined ? error.errno : null;
};

const text = (error: unknown): string => {
  const message: unknown = error instanceof Error ? Reflect.get(error, 'sqlMessage') : undefined;
  return typeof message === 'string' ? message : '';
};

/**
 * `target` says which server, without the password; `table` and its `columns` where they are known: of a refused row only a
 * column's name is told, because all else in the server's message may be a value. A WaggleError is given back as it is.
 */
export const toSinkError = (error: unknown, target: string, place?: { readonly table: string; readonly columns: readonly string[] }): WaggleError => {
  if (error instanceof WaggleError) return error;
  const where = place === undefined ? target : `${target}, table ${place.table}`;
  const number = serverError(error);
  if (number !== null) {
    const code = BY_NUMBER.get(number) ?? 'SINK_FAILED';
    if (code === 'SINK_ROW_REFUSED') return refusedByServer(number, where, namedIn(text(error), place?.columns ?? []));
    const message = `${where}: ${text(error).split('\n', 1)[0]} (${number})`;
    if (number === 1049) return new WaggleError(code, message, { hint: 'Create the database, or mend its name in the configuration.' });
    if (number === 1060)
      return new WaggleError(code, message, { hint: 'MySQL takes both names for one, whatever their case: rename the column under `columns`.' });
    return new WaggleError(code, message);
  }
  if (error instanceof RangeError) return new WaggleError('SINK_ROW_REFUSED', `${where}: a value is too large for a statement`);
  const errors: unknown[] = error instanceof AggregateError ? error.errors : [error];
  const system = errors.map(systemErrorCode).find((code) => code !== null && /^(E(?!RR_|R_)|PROTOCOL_|HANDSHAKE_)/.test(code));
  if (system) return new WaggleError('SINK_UNREACHABLE', `${where}: cannot be reached (${system})`);
  const message = error instanceof Error ? error.message.split('\n', 1)[0]! : 'unknown error';
  return new WaggleError(LOST.test(message) ? 'SINK_UNREACHABLE' : 'SINK_FAILED', `${where}: ${message}`);
};

// The driver's words for a connection that is no longer there.
const LOST = /closed|lost|terminat|timeout|timed out|socket|ended|packets out of order/i;

/** The column that the message ends with, if it is one of the table's. */
const namedIn = (message: string, columns: readonly string[]): string | null => {
  const found = [
    ...columns.filter((column) => message.includes(`column '${column}' `) || message.includes(`.\`${column}\` at row `)),
    ...columns.filter((column) => message.startsWith(`Column '${column}' `) || message.startsWith(`Field '${column}' `)),
  ];
  return found.length === 1 ? found[0]! : null;
};

const refusedByServer = (number: number, where: string, column: string | null): WaggleError => {
  const place = column === null ? where : `${where}, column ${column}`;
  return new WaggleError('SINK_ROW_REFUSED', `${place}: ${REASONS[number] ?? 'the target refuses a row'} (${number})`);
};

const REASONS: Readonly<Record<number, string>> = {
  1048: 'the column does not take NULL',
  1062: 'a unique index has another row with the same value',
  1153: 'a row is larger than max_allowed_packet of the server',
  1264: 'a value is out of the range of the column',
  1364: 'a column that the hive does not have needs a value',
  1406: 'a value is too long for the column',
  1451: 'a foreign key refuses a row',
  1452: 'a foreign key refuses a row',
  3819: 'a CHECK constraint refuses a row',
  4025: 'a CHECK constraint refuses a row',
};
