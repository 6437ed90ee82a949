import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PGlite } from '@electric-sql/pglite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createSink } from '../../connectors/pglite/sink.ts';
import { SqlSink } from '../../connectors/postgres/sql-sink.ts';
import type { ResultRow, Session } from '../../connectors/postgres/session.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';
import { auditConformance } from './audit-conformance.ts';
import { conformance } from './conformance.ts';
import { type ConformanceTarget, sqlUsers } from './conformance/target.ts';
import { canonicalReal, selectRows, showInPostgres } from './postgres-rows.ts';
import { batchOf, checkpointAt, contextOf, sinkTable, upsert } from './sink-changes.ts';

const directory = temporaryDirectory();
afterAll(() => directory[Symbol.dispose]());

// Starting PGlite takes seconds: the suite runs through one instance, in sessions that do not close it.
let shared: PGlite;
beforeAll(async () => {
  shared = await PGlite.create();
}, 60_000);
afterAll(() => shared.close());

const sharedSession = (): Session => ({
  query: async (sql, parameters) => (await shared.query<ResultRow>(sql, [...parameters])).rows,
  script: async (sql) => (await shared.exec(sql)).findLast((result) => result.fields.length > 0)?.rows ?? [],
  copy: (script, text) => {
    const done = shared.exec(script("'/dev/blob'"), { blob: new Blob([text]) }).then(() => {});
    return { sent: done.catch(() => {}), done };
  },
  close: async () => void (await shared.exec('ROLLBACK')),
});

const run = async (sql: string): Promise<void> => void (await shared.exec(sql));

const target: ConformanceTarget = {
  createSink: () => new SqlSink({ connect: async () => sharedSession(), schema: 'public', label: 'pglite' }),
  drop: (table) => run(`DROP TABLE ${table.name}`),
  rows: async (table) => {
    const { rows } = await shared.query<Record<string, string | null>>(selectRows(table));
    return rows.map((row) => table.columns.map((column, index) => canonicalReal(row[`c${index}`]!, column)));
  },
  show: showInPostgres,
};

describe('pglite', { timeout: 60_000 }, () => {
  conformance(async () => target, { holdsNul: false, atomic: true, rekeys: true, users: sqlUsers(run) });
  auditConformance(async () => target);

  it('keeps data and checkpoint in its directory, and keeps a second sink out of it', async () => {
    const dir = join(directory.path, 'deep', 'pg');
    const table = sinkTable('kept', [{ name: 'id', key: true }]);
    const [first, second] = [createSink({ dir }), createSink({ dir })];
    expect(await first.open(contextOf('kept'))).toBeNull();
    await first.apply(batchOf([[upsert(table, ['1'])]], checkpointAt(1)));
    await expect(second.open(contextOf('kept'))).rejects.toMatchObject({ code: 'SINK_BUSY', retryable: true });
    await first.close();
    expect(await second.open(contextOf('kept'))).toEqual(checkpointAt(1));
    await second.close();
  });

  it('tells what is wrong with the directory', async () => {
    const file = join(directory.path, 'file');
    writeFileSync(file, '');
    await expect(createSink({ dir: join(file, 'pg') }).open(contextOf('x'))).rejects.toMatchObject({ code: 'SINK_DENIED' });
  });
});
