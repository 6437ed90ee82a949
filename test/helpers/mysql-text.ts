/** Rows of a MySQL server, every value as text: numbers as JavaScript and SQLite write them, blobs as hex. */
import type { TypeCast } from 'mysql2';
import { createConnection, type RowDataPacket } from 'mysql2/promise';
import { readTextRowsLike, type RowSet } from './row-sets.ts';

export const withMysql = async (url: string, like: RowSet): Promise<RowSet> => {
  const connection = await createConnection({ uri: url, supportBigNumbers: true, bigNumberStrings: true, dateStrings: true });
  try {
    const [tables] = await connection.query<RowDataPacket[][]>({ sql: 'SHOW TABLES', rowsAsArray: true });
    const names = new Set(tables.map(([name]) => name as unknown));
    return await readTextRowsLike(like, async (table, columns) => {
      if (!names.has(table)) return null;
      const sql = `SELECT ${columns.map(quote).join(', ')} FROM ${quote(table)}`;
      const [rows] = await connection.query<RowDataPacket[][]>({ sql, rowsAsArray: true, typeCast: exactDoubles });
      return rows.map((row) => row.map(textOf));
    });
  } finally {
    await connection.end();
  }
};

/** The driver's own reading of a number's digits is wrong in the last of them now and then. */
export const exactDoubles: TypeCast = (field, next) => {
  if (field.type !== 'DOUBLE' && field.type !== 'FLOAT') return next();
  const text = field.string();
  return text === null ? null : Number(text);
};

const quote = (name: string): string => `\`${name.replaceAll('`', '``')}\``;

const textOf = (value: unknown): string | null => {
  if (value === null) return null;
  if (value instanceof Buffer) return `\\x${value.toString('hex')}`;
  return typeof value === 'string' ? value : JSON.stringify(value);
};
