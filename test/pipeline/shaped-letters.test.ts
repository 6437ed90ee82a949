/** Refused rows beside what shapes them: keys that move, types that do not fit, conditions. After a retry the target is as the hive. */
import Database from 'better-sqlite3';
import { expect, it } from 'vitest';
import { DaemonScene } from '../helpers/daemon-scene.ts';
import { until } from '../helpers/until.ts';
import { waggle } from '../helpers/waggle-command.ts';

const scene = (tables: string): DaemonScene =>
  new DaemonScene({ hive: 'app.sqlite', sinks: { copy: `{ type: sqlite, file: copy.sqlite, tables: { a: ${tables} } }` } });

const openHive = ({ hive }: DaemonScene): Database.Database => {
  const db = new Database(hive);
  db.exec('PRAGMA journal_mode = WAL; CREATE TABLE a (id INTEGER PRIMARY KEY, handle TEXT NOT NULL, flag, v)');
  db.exec("INSERT INTO a VALUES (1, 'h1', 1, 'x'), (2, 'h2', 0, 'y')");
  return db;
};

const rows = (of: DaemonScene): unknown[] => {
  const copy = new Database(of.path('copy.sqlite'), { readonly: true });
  try {
    return copy.prepare('SELECT handle, flag FROM a ORDER BY handle').raw().all();
  } finally {
    copy.close();
  }
};

const letters = (of: DaemonScene): string => waggle(['dead-letters', 'list', '-c', of.config]).stdout;

it('a row that was refused for its type is deleted without a retry', { timeout: 60_000 }, async () => {
  await using of = scene('{ columns: { types: { flag: boolean } } }');
  const hive = openHive(of);
  await of.startReady();
  await of.settled();
  hive.exec("UPDATE a SET flag = 'bad' WHERE id = 1");
  await of.settled();
  expect(letters(of)).toMatch(/copy {2}a/);
  hive.exec('DELETE FROM a WHERE id = 1');
  await of.settled();
  expect(rows(of)).toEqual([['h2', 0]]);
  expect(letters(of)).toBe('no dead letters\n');
  hive.close();
});

it('a row whose key in the target moves while it is refused leaves nothing behind', { timeout: 60_000 }, async () => {
  await using of = scene('{ key: [handle], columns: { types: { flag: boolean } } }');
  const hive = openHive(of);
  await of.startReady();
  await of.settled();
  hive.exec("UPDATE a SET handle = 'h5', flag = 'bad' WHERE id = 1");
  await of.settled();
  hive.exec("UPDATE a SET handle = 'h6', flag = 0 WHERE id = 1");
  await of.settled();
  expect(rows(of)).toEqual([
    ['h1', 1],
    ['h2', 0],
  ]);
  expect(waggle(['dead-letters', 'retry', 'copy', '-c', of.config]).status).toBe(0);
  await until('the letter to go', () => letters(of) === 'no dead letters\n');
  expect(rows(of)).toEqual([
    ['h2', 0],
    ['h6', 0],
  ]);
  hive.close();
});

it('a row that is deleted while its new key is refused leaves nothing under the old one', { timeout: 60_000 }, async () => {
  await using of = scene('{ key: [handle], columns: { types: { flag: boolean } } }');
  const hive = openHive(of);
  await of.startReady();
  await of.settled();
  hive.exec("UPDATE a SET handle = 'h5', flag = 'bad' WHERE id = 1");
  await of.settled();
  hive.exec("UPDATE a SET handle = 'h6' WHERE id = 1");
  await of.settled();
  expect(letters(of)).toMatch(/copy {2}a/);
  hive.exec('DELETE FROM a WHERE id = 1');
  await of.settled();
  expect(rows(of)).toEqual([['h2', 0]]);
  expect(letters(of)).toBe('no dead letters\n');
  hive.close();
});

it('where deletes are soft it is the row as the target has it that gets the mark', { timeout: 60_000 }, async () => {
  await using of = scene('{ key: [handle], deleted: soft }');
  const copy = new Database(of.path('copy.sqlite'));
  copy.exec("CREATE TABLE a (id INT, handle TEXT PRIMARY KEY, flag CHECK (flag <> 'bad'), v, deleted_at TEXT)");
  const hive = openHive(of);
  await of.startReady();
  await of.settled();
  hive.exec("UPDATE a SET handle = 'h5', flag = 'bad' WHERE id = 1; UPDATE a SET flag = 'bad' WHERE id = 2");
  await of.settled();
  expect(letters(of).split('\n').length).toBe(3);
  hive.exec('DELETE FROM a');
  await of.settled();
  expect(copy.prepare('SELECT id, handle, flag, deleted_at IS NOT NULL FROM a ORDER BY id').raw().all()).toEqual([
    [1, 'h1', 1, 1],
    [2, 'h2', 0, 1],
  ]);
  expect(letters(of)).toBe('no dead letters\n');
  copy.close();
  hive.close();
});

it('verify tells of rows that are refused, and writes no letter', { timeout: 60_000 }, async () => {
  await using of = scene('{ columns: { types: { flag: boolean } } }');
  const hive = openHive(of);
  await of.startReady();
  await of.settled();
  hive.exec("INSERT INTO a VALUES (3, 'h3', 'bad', 'z')");
  await of.settled();
  expect(waggle(['verify', 'copy', '-c', of.config])).toMatchObject({ status: 0, stdout: expect.stringContaining('1 dead letter') });
  const before = letters(of);
  expect(waggle(['dead-letters', 'discard', 'copy', '-c', of.config]).status).toBe(0);
  expect(waggle(['verify', 'copy', '-c', of.config])).toMatchObject({ stdout: expect.stringContaining('1 dead letter') });
  expect([before === 'no dead letters\n', letters(of)]).toEqual([false, 'no dead letters\n']);
  hive.close();
});
