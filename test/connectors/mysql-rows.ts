/** How tests read a MySQL target and what they expect there. */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { quoteName, targetName } from '../../connectors/mysql/names.ts';
import { plainNumber, textOf } from '../../connectors/value-text.ts';
import type { Value } from '../../src/change/table.ts';
import type { SinkTable } from '../../src/pipeline/sink.ts';
import { exactDoubles } from '../helpers/mysql-text.ts';

/** All rows, each value as text: doubles by their value, blobs as `\x` and hex. */
export const mysqlRows = async (connection: Connection, table: SinkTable): Promise<(string | null)[][]> => {
  const names = table.columns.map((column) => quoteName(targetName(column.name)));
  const [rows] = await connection.query<RowDataPacket[][]>({
    sql: `SELECT ${names.join(', ')} FROM ${quoteName(targetName(table.name))}`,
    rowsAsArray: true,
    typeCast: exactDoubles,
  });
  return rows.map((row) => row.map(asText));
};

const asText = (value: unknown): string | null => {
  if (typeof value === 'number') return plainNumber(value);
  return value instanceof Buffer ? `\\x${value.toString('hex')}` : (value as string | null);
};

/** What `mysqlRows` gives for a value. */
export const showInMysql = (value: Value): string | null => (value === null ? null : textOf(value));

/** For `createConnection`: integers as text, because a number does not hold them all. */
export const EXACT = { supportBigNumbers: true, bigNumberStrings: true, dateStrings: true, multipleStatements: true } as const;
