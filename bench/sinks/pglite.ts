/** Floors of PGlite, in one instance with the sink: two would need twice the memory. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PGlite } from '@electric-sql/pglite';
import type { ResultRow, Session } from '../../connectors/postgres/session.ts';
import { SqlSink } from '../../connectors/postgres/sql-sink.ts';
import { COLUMN_LIST, MERGE, UPSERT_ONE } from './postgres.ts';
import type { BenchTarget } from './target.ts';
import { linesOf, setsOf } from './workload.ts';

export const openPglite = async (): Promise<BenchTarget> => {
  const directory = mkdtempSync(join(tmpdir(), 'waggle-bench-'));
  const pglite = await PGlite.create(join(directory, 'pg'));
  const session: Session = {
    query: async (sql, parameters) => (await pglite.query<ResultRow>(sql, [...parameters])).rows,
    script: async (sql) => (await pglite.exec(sql)).findLast((result) => result.fields.length > 0)?.rows ?? [],
    copy: (script, text) => {
      const done = pglite.exec(script("'/dev/blob'"), { blob: new Blob([text]) }).then(() => {});
      return { sent: done, done };
    },
    close: async () => {},
  };
  const copy = async (table: string, rows: readonly (readonly unknown[])[]): Promise<void> =>
    void (await pglite.query(`COPY ${table} FROM '/dev/blob'`, [], { blob: new Blob([linesOf(rows)]) }));
  return {
    name: 'pglite',
    floors: 'COPY from a blob; for changes as in Postgres',
    share: 1,
    createSink: () => new SqlSink({ connect: async () => session, schema: 'public', label: 'pglite' }),
    load: async (table, rows) => {
      await pglite.exec(`CREATE TABLE ${table} ${COLUMN_LIST}`);
      await copy(table, rows);
    },
    mixed: async (table, changes) => {
      const { upserts, deletes } = setsOf(changes);
      await pglite.exec(`BEGIN; CREATE TEMP TABLE stage (LIKE ${table}) ON COMMIT DROP; CREATE TEMP TABLE gone (id text) ON COMMIT DROP`);
      await copy('stage', upserts);
      await copy(
        'gone',
        deletes.map((id) => [id]),
      );
      await pglite.exec(`DELETE FROM ${table} t USING gone g WHERE t.id = g.id; INSERT INTO ${table} SELECT * FROM stage ${MERGE}; COMMIT`);
    },
    oneByOne: async (table, changes) => {
      for (const { op, row } of changes) {
        if (op === 'd') await pglite.query(`DELETE FROM ${table} WHERE id = $1`, [row[0]]);
        else await pglite.query(UPSERT_ONE(table), [...row]);
      }
    },
    drop: async (table) => void (await pglite.exec(`DROP TABLE ${table}`)),
    [Symbol.asyncDispose]: async () => {
      await pglite.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
};
