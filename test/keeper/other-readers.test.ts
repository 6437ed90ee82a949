/** A transaction that has read from the database file alone is not refused its write because the keeper emptied the WAL meanwhile. */
import { statSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { expect, test } from 'vitest';
import { hasOtherReaderOfFile } from '../../src/keeper/other-readers.ts';
import { KeeperScene, until } from '../helpers/keeper-scene.ts';

const walBytes = (scene: KeeperScene): number => statSync(`${scene.hive}-wal`).size;

test.runIf(process.platform === 'linux')('an idle WAL is not emptied under a reader of the file', { timeout: 60_000 }, async () => {
  await using scene = new KeeperScene();
  await (await scene.write({ pauseMs: 3 })).stop();
  const probe = await scene.probe();
  const writer = await scene.write({ rowsPerTransaction: 40_000, pauseMs: 600_000 });
  const database = new Database(scene.hive, { timeout: 0 });
  // Once all of it stands in the file, readers take mark 0.
  await until(() => {
    if (database.inTransaction) database.exec('ROLLBACK');
    database.exec('BEGIN; SELECT * FROM counter');
    return hasOtherReaderOfFile(probe.client.pid);
  });
  expect(walBytes(scene)).toBeGreaterThan(0);
  // The keeper empties the WAL 1.5 s behind the last frame. That something does not happen takes its time.
  await delay(2500);
  expect(walBytes(scene)).toBeGreaterThan(0);
  database.exec('UPDATE counter SET text = text; COMMIT');
  await until(() => walBytes(scene) === 0);
  database.close();
  await writer.stop();
  await probe.stop();
});

test('the lines of the kernel: of the same file, of this byte, of others', () => {
  const own = '1: POSIX  ADVISORY  READ 10 fe:00:77 123 123\n';
  const says = (...lines: string[]): boolean => hasOtherReaderOfFile(10, [own, ...lines, ''].join('\n'));
  expect(says()).toBe(false);
  expect(says('2: POSIX  ADVISORY  READ 11 fe:00:77 123 123')).toBe(true);
  expect(says('2: POSIX  ADVISORY  READ 11 fe:00:77 124 124')).toBe(false);
  expect(says('2: POSIX  ADVISORY  READ 11 fe:00:78 123 123')).toBe(false);
  expect(says('2: POSIX  ADVISORY  WRITE 11 fe:00:77 120 120')).toBe(false);
  // Waiting for a lock is not having it.
  expect(says('2: -> POSIX  ADVISORY  READ 11 fe:00:77 123 123')).toBe(false);
  expect(hasOtherReaderOfFile(10, '')).toBe(false);
});
