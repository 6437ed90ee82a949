import { renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterAll, describe, expect, it } from 'vitest';
import { createSink } from '../../connectors/sqlite/sink.ts';
import type { Value } from '../../src/change/table.ts';
import type { SinkTable } from '../../src/pipeline/sink.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';
import { auditConformance } from './audit-conformance.ts';
import { conformance } from './conformance.ts';
import { type ConformanceTarget, sqlUsers } from './conformance/target.ts';
import { batchOf, checkpointAt, contextOf, remove, sinkTable, upsert } from './sink-changes.ts';

const directory = temporaryDirectory();
afterAll(() => directory[Symbol.dispose]());
const file = join(directory.path, 'deep', 'copy.sqlite');

const show = (value: Value): string | null => {
  if (value === null) return null;
  if (typeof value === 'bigint') return `integer ${value}`;
  if (typeof value === 'number') return `real ${Object.is(value, -0) ? '-0' : value}`;
  return typeof value === 'string' ? `text ${value}` : `blob ${Buffer.from(value).toString('hex')}`;
};

const withDatabase = <T>(work: (database: Database.Database) => T): T => {
  const database = new Database(file);
  try {
    return work(database);
  } finally {
    database.close();
  }
};

const run = async (sql: string): Promise<void> => withDatabase((database) => void database.exec(sql));

const target: ConformanceTarget = {
  createSink: () => createSink({ file }),
  drop: (table) => run(`DROP TABLE ${table.name}`),
  rows: async (table: SinkTable) =>
    withDatabase((database) => {
      const quote = (name: string): string => `"${name.replaceAll('"', '""')}"`;
      const statement = database.prepare(`SELECT ${table.columns.map((column) => quote(column.name)).join(', ')} FROM ${quote(table.name)}`);
      return (statement.raw().safeIntegers().all() as Value[][]).map((row) => row.map(show));
    }),
  show,
};

describe('sqlite', () => {
  conformance(async () => target, { holdsNul: true, atomic: true, rekeys: false, users: sqlUsers(run) });
  auditConformance(async () => target);

  it('writes WAL mode, the declared types and the same affinities', async () => {
    const table = sinkTable('declared', [
      { name: 'id', type: 'INTEGER', key: true },
      { name: 'a', type: 'VARCHAR(20)' },
      { name: 'b', type: 'ANY', affinity: 'BLOB' },
      { name: 'c', type: 'weird"; DROP', affinity: 'NUMERIC' },
    ]);
    const sink = createSink({ file });
    await sink.open(contextOf('declared'));
    await sink.apply(batchOf([[upsert(table, ['text in a key', '1', '1', '1x'])]], checkpointAt(1)));
    await sink.close();
    withDatabase((database) => {
      expect(database.pragma('journal_mode', { simple: true })).toBe('wal');
      expect(database.prepare("SELECT type FROM pragma_table_info('declared')").pluck().all()).toEqual(['INT', 'VARCHAR(20)', '', 'NUMERIC']);
      expect(database.prepare('SELECT typeof(id), typeof(b) FROM declared').raw().get()).toEqual(['text', 'text']);
    });
  });

  it('a deleted row is gone before another one takes what the target holds for the same key', async () => {
    const table = sinkTable('folded_keys', [{ name: 'id', key: true }, { name: 'v' }]);
    withDatabase((database) => database.exec('CREATE TABLE folded_keys (id TEXT COLLATE NOCASE PRIMARY KEY, v TEXT)'));
    const sink = createSink({ file });
    await sink.open(contextOf('folded_keys'));
    await sink.apply(batchOf([[upsert(table, ['a', 'old'])]], checkpointAt(1)));
    await sink.apply(batchOf([[upsert(table, ['A', 'new']), remove(table, ['a'])]], checkpointAt(2)));
    await sink.close();
    expect(withDatabase((database) => database.prepare('SELECT * FROM folded_keys').raw().all())).toEqual([['A', 'new']]);
  });

  it('unique values change places, over any number of rows; a row that is refused is named', async () => {
    const table = sinkTable('unique_users', [{ name: 'id', type: 'INTEGER', key: true, alwaysInteger: true }, { name: 'email' }]);
    withDatabase((database) => database.exec('CREATE TABLE unique_users (id INTEGER PRIMARY KEY, email TEXT UNIQUE)'));
    const sink = createSink({ file });
    await sink.open(contextOf('unique_users'));
    const apply = (rows: readonly [bigint, string][], deletes: readonly bigint[] = []): Promise<void> =>
      sink.apply(batchOf([rows.map((row) => upsert(table, row)), deletes.map((id) => remove(table, [id]))], checkpointAt(1)));
    const rows = Array.from({ length: 200 }, (_, index): [bigint, string] => [BigInt(index), `e${index}`]);
    await apply(rows);
    // Each row takes the value of the next one, which gives it up only afterwards; the last that of one that is deleted.
    await apply(
      rows.slice(0, -1).map(([id], index) => [id, `e${index + 1}`]),
      [199n],
    );
    const error: unknown = await apply([
      [500n, 'new'],
      [501n, 'e7'],
    ]).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'SINK_ROW_REFUSED', change: { key: [501n] }, message: expect.stringContaining('unique_users.email') });
    await sink.close();
    withDatabase((database) => {
      const found = database.prepare('SELECT id, email FROM unique_users ORDER BY id').raw().all();
      expect(found).toEqual(rows.slice(0, -1).map(([id], index) => [Number(id), `e${index + 1}`]));
      database.exec('ALTER TABLE unique_users ADD COLUMN note; UPDATE unique_users SET note = 1');
    });
    // Who has a column of his own in the table would lose it with a deleted row.
    await sink.open(contextOf('unique_users'));
    await expect(
      apply([
        [0n, 'e2'],
        [1n, 'e1'],
      ]),
    ).rejects.toMatchObject({ code: 'SINK_ROW_REFUSED' });
    await sink.close();
  });

  it('tells what is wrong with the file', async () => {
    await expect(createSink({ file: directory.path }).open(contextOf('x'))).rejects.toMatchObject({ code: 'SINK_DENIED' });
    const text = join(directory.path, 'text');
    await import('node:fs/promises').then((fs) => fs.writeFile(text, 'this is not a database, it is a text file that is long enough'.repeat(20)));
    await expect(createSink({ file: text }).open(contextOf('x'))).rejects.toMatchObject({ code: 'SINK_DENIED' });
    rmSync(text);
  });

  it('says SINK_BUSY when another process holds the file', { timeout: 20_000 }, async () => {
    const holder = new Database(file);
    holder.exec('BEGIN IMMEDIATE');
    const sink = createSink({ file });
    await expect(sink.open(contextOf('busy'))).rejects.toMatchObject({ code: 'SINK_BUSY', retryable: true });
    holder.exec('ROLLBACK');
    holder.close();
    await sink.open(contextOf('busy'));
    await sink.close();
  });

  it.each(['removed', 'replaced'])('does not go on in a file that was %s while it was open', async (how) => {
    const place = join(directory.path, `${how}.sqlite`);
    const table = sinkTable('kept', [{ name: 'id', key: true }]);
    const sink = createSink({ file: place });
    await sink.open(contextOf('s'));
    await sink.apply(batchOf([[upsert(table, ['1'])]], checkpointAt(1)));
    if (how === 'removed') rmSync(place);
    else {
      const other = createSink({ file: `${place}.new` });
      await other.open(contextOf('s'));
      await other.close();
      renameSync(`${place}.new`, place);
    }
    await expect(sink.apply(batchOf([[upsert(table, ['2'])]], checkpointAt(2)))).rejects.toMatchObject({
      code: 'SINK_CHECKPOINT_UNKNOWN',
      retryable: true,
    });
    await sink.close();
    expect(await sink.open(contextOf('s'))).toBeNull();
    await sink.apply(batchOf([[upsert(table, ['3'])]], checkpointAt(3)));
    await sink.close();
    const database = new Database(place);
    expect(database.prepare('SELECT id FROM kept').pluck().all()).toEqual(['3']);
    database.close();
  });

  it("refuses a row that a constraint of the user's table refuses", async () => {
    await run("CREATE TABLE checked (id TEXT PRIMARY KEY, v TEXT CHECK (v <> 'SECRET'))");
    const table = sinkTable('checked', [{ name: 'id', key: true }, { name: 'v' }]);
    const sink = createSink({ file });
    await sink.open(contextOf('checked'));
    const refused = sink.apply(batchOf([[upsert(table, ['1', 'SECRET'])]], checkpointAt(1)));
    await expect(refused).rejects.toMatchObject({ code: 'SINK_ROW_REFUSED', retryable: false });
    await sink.close();
  });
});
