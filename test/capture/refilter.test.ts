/** The filter of captured tables changes between two starts: changes are stored by a table's place in the catalog. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import { CaptureClient } from '../../src/capture/capture-client.ts';
import type { Change } from '../../src/change/change.ts';
import { LogReader } from '../../src/log/log-reader.ts';
import { TableModel } from '../helpers/table-model.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';

const session = async (hive: string, stateDir: string, exclude: readonly string[], write: () => void): Promise<void> => {
  await using capture = CaptureClient.inProcess({
    hive,
    stateDir,
    durability: 'os',
    onGap: 'fail',
    tables: { include: null, exclude },
    maxWalBytes: 16 << 20,
    keeper: { outlive: false, spoolBytes: 1e9, patienceMs: 0 },
    retention: { maxAgeMs: null, maxBytes: null },
  });
  await capture.ready;
  write();
  expect(await capture.stop()).toBeNull();
};

const describeChange = (change: Change): string => {
  if (change.op === 's') return `s ${change.name}${change.table === null ? ' gone' : ''}`;
  if (change.op === 't') return `t ${change.table.name}`;
  return `${change.op} ${change.table.name} ${(change.after ?? change.before)!.values().join('|')}`;
};

const history = (stateDir: string): Change[][] => {
  using reader = LogReader.open(join(stateDir, 'log.db'));
  return reader.transactionsAfter(0).map((transaction) => [...transaction.changes()].flat());
};

describe('a filter that changed while nothing ran', () => {
  it('brings a table in with all its rows and takes one out, and every later change lies in its own table', async () => {
    using directory = temporaryDirectory();
    const hive = join(directory.path, 'db.sqlite');
    const state = join(directory.path, 'state');
    mkdirSync(state);
    const db = new Database(hive);
    db.pragma('journal_mode = WAL');
    db.exec(
      'CREATE TABLE aaa (id INTEGER PRIMARY KEY, v); CREATE TABLE bbb (id INTEGER PRIMARY KEY, v); CREATE TABLE ccc (id INTEGER PRIMARY KEY, v)',
    );
    db.exec("INSERT INTO aaa VALUES (1, 'a'); INSERT INTO bbb VALUES (1, 'secret'); INSERT INTO ccc VALUES (1, 'c')");
    await session(hive, state, ['bbb'], () => db.exec("INSERT INTO ccc VALUES (2, 'c')"));
    await session(hive, state, [], () => db.exec("INSERT INTO bbb VALUES (7, 'b'); INSERT INTO ccc VALUES (3, 'c')"));
    await session(hive, state, ['aaa'], () =>
      db.exec("INSERT INTO aaa VALUES (9, 'unseen'); DELETE FROM bbb WHERE id = 1; INSERT INTO ccc VALUES (4, 'c')"),
    );
    const changes = history(state);
    expect(changes.map((transaction) => transaction.map(describeChange))).toEqual([
      ['c ccc 2|c'],
      ['s bbb', 'c bbb 1|secret'],
      ['c bbb 7|b'],
      ['c ccc 3|c'],
      ['t aaa', 's aaa gone'],
      ['d bbb 1|secret'],
      ['c ccc 4|c'],
    ]);
    const txids = changes.map((transaction) => transaction[0]!.transaction!.txid);
    expect(new Set(txids).size).toBe(txids.length);
    // A consumer that follows strictly ends with what the hive holds of the captured tables.
    using reader = LogReader.open(join(state, 'log.db'));
    const { tables } = reader.info().catalog!;
    expect(tables.map((table) => table.name)).toEqual(['bbb', 'ccc']);
    const model = new TableModel();
    model.tables.set('aaa', new Map());
    model.tables.set(
      'ccc',
      new Map(
        TableModel.read(db, tables)
          .tables.get('ccc')!
          .entries()
          .filter(([key]) => key === 'int 1'),
      ),
    );
    for (const transaction of changes) model.apply(transaction);
    TableModel.read(db, tables).assertEquals(model);
    db.close();
  });
});
