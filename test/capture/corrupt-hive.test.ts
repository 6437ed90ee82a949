/**
 * A page of the hive is damaged while waggle runs: capture says which page of which table, and waits for the hive to be mended. The daemon
 * lives on, the sinks keep what they had, and afterwards everything is equal again.
 */
import { closeSync, copyFileSync, openSync, readSync, renameSync, rmSync, writeSync } from 'node:fs';
import Database from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import { SinkStore } from '../../src/pipeline/sink-store.ts';
import { DaemonScene, EQUAL } from '../helpers/daemon-scene.ts';
import { readLogHistory } from '../helpers/log-history.ts';
import { until } from '../helpers/until.ts';
import { WalWriter } from '../helpers/wal-writer.ts';

const PAGE_SIZE = 4096;
const FILL = `CREATE TABLE a (id INTEGER PRIMARY KEY, v); CREATE TABLE b (id INTEGER PRIMARY KEY, v);
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) INSERT INTO a SELECT i, 'row ' || i FROM n; INSERT INTO b SELECT id, v FROM a`;

/** A leaf of table `a`, and its rows. */
const leafOf = (hive: string): number => {
  const db = new Database(hive, { readonly: true });
  try {
    return db.prepare<[], number>("SELECT pageno FROM dbstat WHERE name = 'a' AND pagetype = 'leaf' ORDER BY path").pluck().get()!;
  } finally {
    db.close();
  }
};

/** The first cell of the page claims a payload that the page does not hold. */
const damageLeaf = (hive: string, page: number): void => {
  const fd = openSync(hive, 'r+');
  const header = Buffer.alloc(10);
  const at = (page - 1) * PAGE_SIZE;
  readSync(fd, header, 0, 10, at);
  writeSync(fd, Buffer.from([0x7f]), 0, 1, at + header.readUInt16BE(8));
  closeSync(fd);
};

const WAL = 'PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0';

describe('a corrupt page', () => {
  it('stops capture with page and table named; the daemon goes on, and captures again when the hive was restored', { timeout: 90_000 }, async () => {
    await using scene = new DaemonScene({ hive: 'db.sqlite', sinks: { copy: '{ type: sqlite, file: copy.sqlite }' } });
    {
      await using writer = new WalWriter(scene.hive);
      await writer.exec(`${WAL}; ${FILL}`);
    }
    const backup = scene.path('backup.sqlite');
    copyFileSync(scene.hive, backup);
    const page = leafOf(scene.hive);
    const daemon = await scene.startReady();
    {
      // The application begins with an empty cache: it changes the page without looking at its first cell.
      await using writer = new WalWriter(scene.hive);
      await writer.exec(`${WAL}; SELECT 1 FROM b`);
      await writer.exec("UPDATE b SET v = 'told' WHERE id = 7");
      await scene.settled();
      damageLeaf(scene.hive, page);
      await writer.exec("UPDATE a SET v = 'row X' WHERE id = 3");
      const line = await daemon.line('the corrupt page', ({ code }) => code === 'HIVE_CORRUPT');
      expect(line.msg).toMatch(new RegExp(`table "a": page ${page}: a cell ends behind the page`));
      expect(line.hint).toContain('integrity_check');
      using store = SinkStore.openForReading(`${scene.state}/sinks.db`);
      await until('status tells it', () => store.capture()?.error?.code === 'HIVE_CORRUPT');
      expect(daemon.exit).toBeNull();
    }
    // Restored as people do: the application stopped, its files removed, the backup moved into place.
    for (const suffix of ['', '-wal', '-shm']) rmSync(scene.hive + suffix, { force: true });
    renameSync(backup, scene.hive);
    await using writer = new WalWriter(scene.hive);
    await writer.exec(`${WAL}; INSERT INTO b VALUES (1000, 'after the restore')`);
    await until('the row after the restore', () => {
      const db = new Database(scene.path('copy.sqlite'), { readonly: true });
      try {
        return db.prepare('SELECT 1 FROM b WHERE id = 1000').get() !== undefined;
      } finally {
        db.close();
      }
    });
    expect(await daemon.stop()).toEqual({ code: 0, signal: null });
    expect(scene.compareCopy(scene.path('copy.sqlite'))).toMatchObject(EQUAL);
    // What was told before stays told; the restore took it back.
    const [first, second] = readLogHistory(scene.log).transactions;
    expect([first?.recovered, first?.changes.length, second?.recovered]).toEqual([false, 1, true]);
  });
});
