/** Floors of SQLite: prepared statements in one transaction, durable at its end as the connector's are. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { createSink } from '../../connectors/sqlite/sink.ts';
import type { BenchTarget } from './target.ts';
import { chunksOf, columnList, COLUMNS, setsOf } from './workload.ts';

const quote = (name: string): string => `"${name}"`;
const COLUMN_LIST = columnList(
  COLUMNS.map(({ type }) => type),
  quote,
);
const MERGE = `ON CONFLICT (id) DO UPDATE SET ${COLUMNS.slice(1)
  .map(({ name }) => `${quote(name)} = excluded.${quote(name)}`)
  .join(', ')}`;
const ROWS_A_STATEMENT = 50;
const valuesOf = (rows: number): string => Array<string>(rows).fill('(?, ?, ?, ?, ?, ?, ?)').join(', ');

export const openSqlite = (): Promise<BenchTarget> => {
  const directory = mkdtempSync(join(tmpdir(), 'waggle-bench-'));
  const db = new Database(join(directory, 'plain.sqlite'));
  db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
  const insertAll = (table: string, rows: readonly (readonly unknown[])[], end: string): void => {
    const many = db.prepare(`INSERT INTO ${table} VALUES ${valuesOf(ROWS_A_STATEMENT)} ${end}`);
    for (const chunk of chunksOf(rows, ROWS_A_STATEMENT)) {
      const insert = chunk.length === ROWS_A_STATEMENT ? many : db.prepare(`INSERT INTO ${table} VALUES ${valuesOf(chunk.length)} ${end}`);
      insert.run(chunk.flat());
    }
  };
  return Promise.resolve({
    name: 'sqlite',
    floors: `prepared statements of ${ROWS_A_STATEMENT} rows in one transaction, synchronous = FULL`,
    share: 1,
    createSink: () => createSink({ file: join(directory, 'sink.sqlite') }),
    load: async (table, rows) => {
      db.exec(`CREATE TABLE ${table} ${COLUMN_LIST}`);
      db.transaction(() => insertAll(table, rows, ''))();
    },
    mixed: async (table, changes) => {
      const { upserts, deletes } = setsOf(changes);
      const remove = db.prepare(`DELETE FROM ${table} WHERE id = ?`);
      db.transaction(() => {
        for (const id of deletes) remove.run(id);
        insertAll(table, upserts, MERGE);
      })();
    },
    oneByOne: async (table, changes) => {
      const remove = db.prepare(`DELETE FROM ${table} WHERE id = ?`);
      const upsert = db.prepare(`INSERT INTO ${table} VALUES ${valuesOf(1)} ${MERGE}`);
      for (const { op, row } of changes) {
        if (op === 'd') remove.run(row[0]);
        else upsert.run(row);
      }
    },
    // The sinks' tables stand in the other file, and do no harm there.
    drop: async (table) => void db.exec(`DROP TABLE IF EXISTS ${table}`),
    [Symbol.asyncDispose]: async () => {
      db.close();
      rmSync(directory, { recursive: true, force: true });
    },
  });
};
