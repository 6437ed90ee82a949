import { setImmediate } from 'node:timers/promises';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { WaggleError } from '../../src/support/errors.ts';
import { Random } from '../helpers/random.ts';
import { RunnerScene } from '../helpers/runner-scene.ts';
import { SqliteTestSink } from '../helpers/sqlite-test-sink.ts';

const equal = (scene: RunnerScene): void => {
  const { source, sink } = scene.tables();
  expect(sink).toEqual(source);
};

describe('first fill while changes go on', () => {
  test('any commits, table rebuilds and renumberings between chunks, any faults and restarts: sink equals source', { timeout: 120_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer(), async (seed) => {
        using scene = new RunnerScene();
        const random = new Random(seed);
        scene.source.seed(random, random.int(120));
        for (let index = random.int(20); index > 0; index -= 1) scene.source.commit(random);
        let budget = 60;
        scene.source.beforeChunk = () => {
          if (budget <= 0) return;
          budget -= 1;
          for (let index = random.int(4); index > 0; index -= 1) scene.source.commit(random);
          if (random.chance(0.04)) scene.source.recreate(random.pick(['items', 'pairs', 'notes']));
          if (random.chance(0.06)) scene.source.renumber();
        };
        scene.source.afterChunk = () => {
          if (budget > 0 && random.chance(0.5)) scene.source.commit(random);
        };
        const faults = random.chance(0.5);
        scene.sink.fault = () => (faults && budget > 0 && random.chance(0.05) ? new Error('fault') : null);
        let running = scene.start({ batch: { rows: 1 + random.int(20), delayMs: 50 } });
        for (let restarts = random.int(3); restarts > 0; restarts -= 1) {
          for (let turns = random.int(40); turns > 0; turns -= 1) await setImmediate();
          await running.stop();
          running = scene.start();
        }
        await scene.until(running.runner, ({ state }) => state === 'streaming');
        scene.source.commit(random);
        await scene.caughtUp(running.runner);
        await running.stop();
        equal(scene);
        expect(faults || running.runner.status.error === null).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  test('goes on at the last chunk after a restart', async () => {
    using scene = new RunnerScene();
    scene.source.seed(new Random(1), 300);
    const first = scene.start();
    await scene.until(first.runner, ({ fill }) => (fill?.rows ?? 0) > 100);
    await first.stop();
    const filled = JSON.parse(scene.sink.checkpoint()!.fill!).rows as number;
    expect(filled).toBeGreaterThan(100);
    scene.sink.ops.length = 0;
    const second = scene.start();
    await scene.caughtUp(second.runner);
    await second.stop();
    expect(scene.sink.ops.filter((op) => op === 'r').length).toBe(
      scene.tables().source['items']!.length + scene.tables().source['pairs']!.length + scene.tables().source['notes']!.length - filled,
    );
    equal(scene);
  });

  test('a table without rows comes to be in the target', async () => {
    using scene = new RunnerScene();
    const { runner, stop } = scene.start();
    await scene.caughtUp(runner);
    await stop();
    expect(scene.sink.db.prepare("SELECT name FROM sqlite_schema WHERE name = 'notes'").get()).toBeDefined();
  });

  test('only mapped tables are read', async () => {
    using scene = new RunnerScene();
    scene.source.seed(new Random(1), 30);
    const { runner, stop } = scene.start({ mapping: { filters: [{ include: ['notes'] }] } });
    await scene.caughtUp(runner);
    await stop();
    expect(scene.sink.rows('items')).toEqual([]);
    expect(scene.sink.rows('notes')).toEqual(scene.tables().source['notes']);
  });

  test('an older chunk than the sink is asked for again', async () => {
    using scene = new RunnerScene();
    const random = new Random(4);
    scene.source.seed(random, 30);
    for (let index = 0; index < 5; index += 1) scene.source.commit(random, 5);
    const rows = scene.source.rows();
    let stale = 3;
    const { runner, stop } = scene.start({
      rows: {
        readRows: async (...args) => {
          const chunk = await rows.readRows(...args);
          return stale-- > 0 ? { ...chunk!, rows: [], done: true, asOf: { seq: 0, txid: '' } } : chunk;
        },
      },
    });
    await scene.caughtUp(runner);
    await stop();
    expect(stale).toBeLessThan(0);
    expect(runner.status.error).toBeNull();
    equal(scene);
  });
});

describe('a checkpoint that is not in the log', () => {
  const prepared = async (scene: RunnerScene): Promise<Random> => {
    const random = new Random(9);
    scene.source.seed(random, 40);
    const { runner, stop } = scene.start();
    await scene.caughtUp(runner);
    await stop();
    return random;
  };

  test('another log: the sink is filled again and surplus rows vanish', async () => {
    using scene = new RunnerScene();
    const random = await prepared(scene);
    scene.source.writer.reset();
    scene.source.db.exec('DELETE FROM items WHERE id % 2 = 0; DELETE FROM notes WHERE rowid % 2 = 0');
    scene.source.append([], [scene.source.catalog]);
    const { runner, stop } = scene.start();
    for (let index = 0; index < 10; index += 1) scene.source.commit(random);
    await scene.caughtUp(runner);
    await stop();
    expect(scene.sink.ops.filter((op) => op === 't')).toHaveLength(3);
    equal(scene);
  });

  test('the log was begun anew, or retention went past, while the sink was streaming', async () => {
    using scene = new RunnerScene();
    const random = await prepared(scene);
    const { runner, stop } = scene.start();
    await scene.caughtUp(runner);
    scene.source.writer.reset();
    scene.source.db.exec('DELETE FROM items WHERE id % 2 = 0');
    scene.source.append([], [scene.source.catalog]);
    scene.source.commit(random);
    await scene.until(runner, ({ checkpoint }) => checkpoint?.logId === scene.source.writer.logId);
    await scene.caughtUp(runner);
    equal(scene);
    await stop();
    for (let index = 0; index < 30; index += 1) scene.source.commit(random);
    while (scene.source.writer.prune({ maxAgeMs: Infinity, maxBytes: 0, keepAfterSeq: Infinity }).more);
    const again = scene.start();
    await scene.caughtUp(again.runner);
    await again.stop();
    equal(scene);
  });

  test('fill: false goes on from now', async () => {
    using scene = new RunnerScene();
    const random = await prepared(scene);
    scene.source.writer.reset();
    scene.source.append([], [scene.source.catalog]);
    const calls = scene.source.readRowsCalls;
    const { runner, stop } = scene.start({ fill: false });
    await scene.caughtUp(runner);
    expect(scene.sink.checkpoint()).toMatchObject({ logId: scene.source.writer.logId, seq: scene.source.writer.headSeq });
    scene.source.commit(random);
    await stop();
    expect(scene.source.readRowsCalls).toBe(calls);
  });

  test('fill: false begins where the log was when the sink was first to run, also when its target answers only later, to another daemon', async () => {
    using scene = new RunnerScene();
    const random = new Random(12);
    scene.source.seed(random, 30);
    scene.sink = new SqliteTestSink('changes');
    const begun = scene.source.writer.headSeq;
    scene.sink.fault = (call) => (call === 'open' ? new WaggleError('SINK_UNREACHABLE', 'down') : null);
    const first = scene.start({ fill: false });
    await scene.until(first.runner, ({ state }) => state === 'retrying');
    scene.source.commit(random);
    await first.stop();
    scene.source.commit(random);

    scene.sink.fault = () => null;
    const second = scene.start({ fill: false });
    await scene.caughtUp(second.runner);
    await second.stop();
    expect(scene.sink.ops).toHaveLength(scene.source.writer.headSeq - begun);
    // From here on its own checkpoint counts.
    const before = scene.sink.ops.length;
    scene.source.commit(random);
    const third = scene.start({ fill: false });
    await scene.caughtUp(third.runner);
    await third.stop();
    expect(scene.sink.ops).toHaveLength(scene.source.writer.headSeq - begun);
    expect(scene.sink.ops.length).toBeGreaterThan(before);
  });
});
