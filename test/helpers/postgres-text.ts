/** Rows as Postgres itself tells them, every value as text: out of PGlite's directory (nobody may have it open) or a server. */
import { PGlite } from '@electric-sql/pglite';
import { Client } from 'pg';
import { readTextRowsLike, type RowSet } from './row-sets.ts';

type Query = (sql: string) => Promise<Record<string, string | null>[]>;

export const withPglite = async (dir: string, like: RowSet): Promise<RowSet> => {
  const database = await PGlite.create(dir);
  try {
    return await readAll(async (sql) => (await database.query<Record<string, string | null>>(sql)).rows, 'public', like);
  } finally {
    await database.close();
  }
};

export const withPostgres = async (url: string, schema: string, like: RowSet): Promise<RowSet> => {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return await readAll(async (sql) => (await client.query<Record<string, string | null>>(sql)).rows, schema, like);
  } finally {
    await client.end();
  }
};

export const dropSchema = async (url: string, schema: string): Promise<void> => {
  const client = new Client({ connectionString: url });
  await client.connect();
  await client.query(`DROP SCHEMA IF EXISTS ${quote(schema)} CASCADE`);
  await client.end();
};

const readAll = (query: Query, schema: string, like: RowSet): Promise<RowSet> =>
  readTextRowsLike(like, async (table, columns) => {
    const name = `${quote(schema)}.${quote(table)}`;
    const [found] = await query(`SELECT to_regclass('${name.replaceAll("'", "''")}')::text AS name`);
    if (found?.['name'] === null || found === undefined) return null;
    const rows = await query(`SELECT ${columns.map((column, index) => `${quote(column)}::text AS c${index}`).join(', ')} FROM ${name}`);
    return rows.map((row) => columns.map((_, index) => row[`c${index}`] ?? null));
  });

const quote = (name: string): string => `"${name.replaceAll('"', '""')}"`;
