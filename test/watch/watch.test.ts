import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import { watch } from '../../src/index.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';

const openHive = (path: string): Database.Database => {
  const db = new Database(path);
  db.pragma('journal_mode = WAL');
  db.exec('CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, x TEXT)');
  return db;
};

/** What another process gets when it wants the write lock at once. */
const tryToWrite = (hive: string): string =>
  execFileSync(
    process.execPath,
    [
      '-e',
      `const db = new (require('better-sqlite3'))(process.argv[1], { timeout: 0 });
       try { db.exec('BEGIN IMMEDIATE; ROLLBACK'); console.log('free'); } catch (error) { console.log(error.code); }`,
      hive,
    ],
    { encoding: 'utf8' },
  ).trim();

describe('watch', () => {
  it('gives each committed transaction once, in order, and goes on behind a seq after a restart', async () => {
    using directory = temporaryDirectory();
    const hive = join(directory.path, 'app.sqlite');
    const state = join(directory.path, 'state');
    const db = openHive(hive);
    const insert = db.prepare('INSERT INTO t (x) VALUES (?)');
    const seen: unknown[] = [];
    let last = 0;
    const first = watch(hive, { state });
    const pending = first.next();
    // The first transaction commits when capture is ready; until then they belong to the first state.
    const writing = setInterval(() => insert.run('before'), 5);
    const begun = await pending;
    clearInterval(writing);
    expect(begun.done).toBe(false);
    insert.run('one');
    db.transaction(() => [insert.run('two'), insert.run('three')])();
    db.exec("UPDATE t SET x = 'ONE' WHERE x = 'one'");
    for await (const transaction of first) {
      for (const event of transaction.events()) seen.push([event.op, (event.after as { x: string }).x]);
      last = transaction.lastSeq;
      if (seen.length >= 4 && seen.some((event) => Array.isArray(event) && event[1] === 'ONE')) break;
    }
    expect(seen.filter((event) => Array.isArray(event) && event[1] !== 'before')).toEqual([
      ['c', 'one'],
      ['c', 'two'],
      ['c', 'three'],
      ['u', 'ONE'],
    ]);
    // Committed while nobody watches.
    insert.run('meanwhile');
    for await (const transaction of watch(hive, { state, after: last })) {
      expect(transaction.firstSeq).toBe(last + 1);
      expect([...transaction.events()].map((event) => (event.after as { x: string }).x)).toEqual(['meanwhile']);
      break;
    }
    db.close();
  });

  it("leaves the locks of the application's own connection alone", async () => {
    using directory = temporaryDirectory();
    const hive = join(directory.path, 'app.sqlite');
    const db = openHive(hive);
    const stream = watch(hive);
    const pending = stream.next();
    const writing = setInterval(() => db.exec("INSERT INTO t (x) VALUES ('x')"), 5);
    await pending;
    clearInterval(writing);
    expect(tryToWrite(hive)).toBe('free');
    db.exec("BEGIN IMMEDIATE; INSERT INTO t (x) VALUES ('open')");
    // A descriptor of the hive that this process closed would have dropped the lock that the transaction holds.
    expect(tryToWrite(hive)).toBe('SQLITE_BUSY');
    db.exec('COMMIT');
    await stream.return();
    db.exec("BEGIN IMMEDIATE; INSERT INTO t (x) VALUES ('open')");
    expect(tryToWrite(hive)).toBe('SQLITE_BUSY');
    db.exec('COMMIT');
    db.close();
  });

  it('throws a coded error for a file that cannot be captured', async () => {
    using directory = temporaryDirectory();
    await expect(watch(join(directory.path, 'absent.sqlite')).next()).rejects.toMatchObject({ code: 'HIVE_MISSING' });
  });
});
