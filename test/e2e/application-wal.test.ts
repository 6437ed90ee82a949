/** What the application notices of Waggle: its checkpoints, the size of its WAL, the file that it leaves behind when idle. */
import { copyFileSync, existsSync, statSync } from 'node:fs';
import Database from 'better-sqlite3';
import { expect, it } from 'vitest';
import { DaemonScene, EQUAL } from '../helpers/daemon-scene.ts';
import { SteeredWriter } from '../helpers/steered-writer.ts';
import { until } from '../helpers/until.ts';

const LIMIT = 16 * 1024 ** 2;
const SINKS = { copy: '{ type: sqlite, file: copy.sqlite }' };

const walBytes = (hive: string): number => (existsSync(`${hive}-wal`) ? statSync(`${hive}-wal`).size : 0);

it("lets the application's own wal_checkpoint(TRUNCATE) succeed under load, and no writer waits long for it", { timeout: 60_000 }, async () => {
  await using scene = new DaemonScene({ sinks: SINKS, hive: 'app.sqlite' });
  await using writer = await SteeredWriter.open(scene.hive);
  await using other = await SteeredWriter.open(scene.hive);
  const daemon = await scene.startReady();
  const took: number[] = [];
  const end = performance.now() + 6000;
  const load = writer.load({ rows: 20, bytes: 200, pauseMs: 1, forMs: 6000 });
  const isOver = (): boolean => performance.now() > end;
  while (!isOver()) {
    const { busy, tookMs } = await other.do({ do: 'checkpoint', mode: 'TRUNCATE' });
    // Refused at once: another checkpoint was under way. After five seconds: a pin stood in the way.
    expect(busy, `refused after ${tookMs} ms`).toBe(0);
    took.push(tookMs);
    await until('the writer to write some hundred kilobytes', () => isOver() || walBytes(scene.hive) > 300_000);
  }
  const { longestMs, transactions } = await load;
  console.log(
    `${took.length} × wal_checkpoint(TRUNCATE) beside ${transactions} transactions: longest checkpoint ${Math.max(...took).toFixed(1)} ms, longest wait of the writer ${longestMs.toFixed(1)} ms`,
  );
  expect(took.length).toBeGreaterThan(3);
  // Without care for it, both would be 5000 ms. On a quiet machine both stay below 50 ms.
  expect(longestMs).toBeLessThan(2000);
  expect(Math.max(...took)).toBeLessThan(2000);
  await scene.settled();
  await daemon.stop();
  expect(scene.compareCopy(scene.path('copy.sqlite'))).toMatchObject(EQUAL);
});

it(
  'bounds the WAL of an application that writes with pauses, and leaves a complete file and an empty WAL when it is idle',
  { timeout: 60_000 },
  async () => {
    await using scene = new DaemonScene({ sinks: SINKS, hive: 'app.sqlite' });
    await using writer = await SteeredWriter.open(scene.hive);
    const daemon = await scene.startReady();
    let [largest, done] = [0, false];
    const load = writer.load({ rows: 100, bytes: 300, pauseMs: 5, forMs: 5000 }).finally(() => (done = true));
    await until('the load to end', () => ((largest = Math.max(largest, walBytes(scene.hive))), done), { everyMs: 5 });
    const { transactions } = await load;
    // Twice the largest transaction is far less than 16 MB here.
    const stopped = performance.now();
    await until('the WAL to be small again', () => walBytes(scene.hive) < LIMIT, { deadlineMs: 10_000 });
    const smallMs = performance.now() - stopped;
    await until('the WAL to be empty', () => walBytes(scene.hive) === 0, { deadlineMs: 20_000 });
    const emptyMs = performance.now() - stopped;
    console.log(
      `WAL while writing with pauses: ${(largest / 1024 ** 2).toFixed(1)} MB at most over ${transactions} transactions; below 16 MB after ${smallMs.toFixed(0)} ms, empty after ${emptyMs.toFixed(0)} ms`,
    );
    expect(largest).toBeLessThanOrEqual(LIMIT);

    // The application and the daemon are still there; the file alone is the whole database.
    const alone = scene.path('alone.sqlite');
    copyFileSync(scene.hive, alone);
    const database = new Database(alone);
    expect(database.pragma('integrity_check', { simple: true })).toBe('ok');
    expect(database.prepare('SELECT count(*) AS n FROM items').get()).toEqual({ n: transactions * 100 });
    database.close();
    await daemon.stop();
  },
);
