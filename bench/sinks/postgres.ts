/** Floors of Postgres: COPY, into the table itself or into a temporary one that is merged. */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Client } from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import { createSink } from '../../connectors/postgres/sink.ts';
import { startPostgres } from '../../test/helpers/postgres-server.ts';
import type { BenchTarget } from './target.ts';
import { chunksOf, columnList, COLUMNS, linesOf, setsOf } from './workload.ts';

const TYPES = ['text', 'text', 'text', 'bigint', 'double precision', 'bigint', 'text'];
const quote = (name: string): string => `"${name}"`;
const LINES_A_CHUNK = 1000;

/** Columns of a table of Postgres' SQL. */
export const COLUMN_LIST = columnList(TYPES, quote);
/** The end of an INSERT: what a row becomes that is there already. */
export const MERGE = `ON CONFLICT (id) DO UPDATE SET ${COLUMNS.slice(1)
  .map(({ name }) => `${quote(name)} = excluded.${quote(name)}`)
  .join(', ')}`;
export const UPSERT_ONE = (table: string): string => `INSERT INTO ${table} VALUES ($1, $2, $3, $4, $5, $6, $7) ${MERGE}`;

export const openPostgres = async (): Promise<BenchTarget> => {
  const server = await startPostgres();
  const client = new Client({ connectionString: server.url });
  await client.connect();
  const copy = (table: string, rows: readonly (readonly unknown[])[]): Promise<void> =>
    pipeline(Readable.from(chunksOf(rows, LINES_A_CHUNK).map(linesOf)), client.query(copyFrom(`COPY ${table} FROM STDIN`)));
  return {
    name: 'postgres',
    floors: 'COPY FROM STDIN; for changes into temporary tables, then INSERT … ON CONFLICT and DELETE … USING',
    share: 1,
    createSink: () => createSink({ url: server.url }),
    load: async (table, rows) => {
      await client.query(`CREATE TABLE ${table} ${COLUMN_LIST}`);
      await copy(table, rows);
    },
    mixed: async (table, changes) => {
      const { upserts, deletes } = setsOf(changes);
      await client.query(`BEGIN; CREATE TEMP TABLE stage (LIKE ${table}) ON COMMIT DROP; CREATE TEMP TABLE gone (id text) ON COMMIT DROP`);
      await copy('stage', upserts);
      await copy(
        'gone',
        deletes.map((id) => [id]),
      );
      await client.query(`DELETE FROM ${table} t USING gone g WHERE t.id = g.id; INSERT INTO ${table} SELECT * FROM stage ${MERGE}; COMMIT`);
    },
    oneByOne: async (table, changes) => {
      for (const { op, row } of changes) {
        if (op === 'd') await client.query(`DELETE FROM ${table} WHERE id = $1`, [row[0]]);
        else await client.query(UPSERT_ONE(table), [...row]);
      }
    },
    drop: async (table) => void (await client.query(`DROP TABLE ${table}`)),
    [Symbol.asyncDispose]: async () => {
      await client.end();
      await server.stop();
    },
  };
};
