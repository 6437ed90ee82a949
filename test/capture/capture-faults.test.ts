/**
 * Capture itself (keeper process, tail, diff, mirror, log) on a hive that another process writes, while file operations of
 * the mirror, the spill file and the redo fail. Afterwards log and mirror say what SQLite says, nothing twice and no seq missing.
 */
import { describe, expect, it } from 'vitest';
import { CaptureRunScene } from '../helpers/capture-run-scene.ts';
import { failAt } from '../helpers/file-faults.ts';

const STEPS = [
  "INSERT INTO t VALUES (1, 'one'), (2, 'two')",
  'INSERT INTO t VALUES (3, randomblob(60000)); UPDATE t SET v = 1 WHERE id = 1',
  "ALTER TABLE t ADD COLUMN w DEFAULT 'w'; DELETE FROM t WHERE id = 2",
  `INSERT INTO t (id, v) WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) SELECT i, i FROM n`,
  'DELETE FROM t WHERE id % 3 = 0; CREATE TABLE k (id TEXT PRIMARY KEY); INSERT INTO k VALUES (1), (2)',
];

const LARGE =
  'INSERT INTO t (id, v) WITH RECURSIVE n(i) AS (SELECT 100000 UNION ALL SELECT i + 1 FROM n WHERE i < 100030) SELECT i, randomblob(1000000) FROM n';

describe('capture', () => {
  it.each([1, 2, 4, 6, 8])('a kill at file operation %i of its start, then a new start', { timeout: 60_000 }, async (n) => {
    await using scene = await CaptureRunScene.open();
    {
      using fault = failAt(n, 'dead');
      expect(await scene.run().ready()).toBeNull();
      expect(fault.hasFired).toBe(true);
    }
    const again = scene.run();
    await again.ready();
    for (const step of STEPS) await scene.writer.exec(step);
    expect(await again.stop()).toBeNull();
    scene.check();
  });

  it.each([1, 2, 3, 4])('a kill at file operation %i behind its start, then a new start', { timeout: 60_000 }, async (n) => {
    await using scene = await CaptureRunScene.open();
    const run = scene.run();
    await run.ready();
    {
      using fault = failAt(n, 'dead');
      for (const step of STEPS) {
        await scene.writer.exec(step);
        // So that each is a batch of its own.
        await new Promise((resolve) => setTimeout(resolve, 60));
      }
      expect(await run.stop()).not.toBeNull();
      expect(fault.hasFired).toBe(true);
    }
    const again = scene.run();
    await again.ready();
    await scene.writer.exec("INSERT INTO t (id, v) VALUES (-1, 'after')");
    expect(await again.stop()).toBeNull();
    scene.check();
  });

  it('a full disk at one operation after the other: nothing ends, nothing is lost', { timeout: 60_000 }, async () => {
    await using scene = await CaptureRunScene.open();
    const run = scene.run();
    await run.ready();
    for (const step of STEPS) {
      using fault = failAt(1, 'once');
      await scene.writer.exec(step);
      for (let waited = 0; !fault.hasFired && waited < 100; waited += 1) await new Promise((resolve) => setTimeout(resolve, 20));
      await new Promise((resolve) => setTimeout(resolve, 700));
    }
    expect(await run.stop()).toBeNull();
    expect(run.messages.some((message) => message.type === 'warning' && message.error.code === 'DISK_FULL')).toBe(true);
    expect(scene.check().recovered).toBe(0);
  });

  it('a transaction that is larger than memory should hold, with a full disk in the middle of it', { timeout: 60_000 }, async () => {
    await using scene = await CaptureRunScene.open();
    const run = scene.run();
    await run.ready();
    await scene.writer.exec(STEPS[0]!);
    using fault = failAt(9, 'once');
    await scene.writer.exec(LARGE);
    await scene.writer.exec(STEPS[2]!);
    expect(await run.stop()).toBeNull();
    expect([fault.hasFired, scene.check().recovered]).toEqual([true, 0]);
  });
});
