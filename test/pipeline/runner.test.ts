import { setImmediate } from 'node:timers/promises';
import { describe, expect, test, vi } from 'vitest';
import { ChangeWriter } from '../../src/change/change-codec.ts';
import { LoggedTransaction } from '../../src/log/logged-transaction.ts';
import { LogReader } from '../../src/log/log-reader.ts';
import { SinkStore } from '../../src/pipeline/sink-store.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { Random } from '../helpers/random.ts';
import { encodeRecord } from '../helpers/record-encoder.ts';
import { RunnerScene } from '../helpers/runner-scene.ts';
import { SqliteTestSink } from '../helpers/sqlite-test-sink.ts';

const equal = (scene: RunnerScene): void => {
  const { source, sink } = scene.tables();
  expect(sink).toEqual(source);
};

describe('streaming', () => {
  test('an empty sink is filled and follows; an orderly end finishes what is in the log', async () => {
    using scene = new RunnerScene();
    const random = new Random(1);
    scene.source.seed(random, 60);
    const { runner, stop } = scene.start();
    await scene.caughtUp(runner);
    equal(scene);
    for (let index = 0; index < 100; index += 1) scene.source.commit(random);
    await stop();
    equal(scene);
    expect(runner.status.state).toBe('closed');
    expect(scene.sink.checkpoint()).toMatchObject({ seq: scene.source.writer.headSeq, txid: scene.source.writer.headTxid, fill: null });
  });

  test('goes on at its checkpoint after a restart, without reading rows again', async () => {
    using scene = new RunnerScene();
    const random = new Random(2);
    scene.source.seed(random, 20);
    const first = scene.start();
    await scene.caughtUp(first.runner);
    await first.stop();
    const calls = scene.source.readRowsCalls;
    for (let index = 0; index < 50; index += 1) scene.source.commit(random);
    const second = scene.start();
    await scene.caughtUp(second.runner);
    await second.stop();
    expect(scene.source.readRowsCalls).toBe(calls);
    equal(scene);
  });

  test('every change, in order, once, to a sink that wants changes', async () => {
    using scene = new RunnerScene();
    const seqs: number[] = [];
    const sink = new SqliteTestSink('changes');
    const apply = sink.apply.bind(sink);
    sink.apply = async ({ parts, checkpoint }) =>
      apply({
        checkpoint,
        parts: async function* () {
          for await (const part of parts()) {
            for (const change of part) seqs.push(change.source.seq!);
            yield part;
          }
        },
      });
    scene.sink = sink;
    const { runner, stop } = scene.start({ fill: false });
    await scene.until(runner, ({ state }) => state === 'streaming');
    const random = new Random(3);
    for (let index = 0; index < 80; index += 1) scene.source.commit(random);
    await stop();
    expect(seqs).toEqual(Array.from({ length: scene.source.writer.headSeq }, (_, index) => index + 1));
  });

  test('batches end at whole transactions and hold as many rows as they may', async () => {
    using scene = new RunnerScene();
    const { stop, runner } = scene.start({ fill: false });
    await scene.until(runner, ({ state }) => state === 'streaming');
    const lasts = new Set([0]);
    const random = new Random(4);
    const checkpoints: number[] = [];
    scene.sink.onApplied = ({ seq }) => checkpoints.push(seq);
    for (let index = 0; index < 200; index += 1) {
      scene.source.commit(random);
      lasts.add(scene.source.writer.headSeq);
    }
    await stop();
    expect(checkpoints.every((seq) => lasts.has(seq))).toBe(true);
    const sizes = checkpoints.map((seq, index) => seq - (checkpoints[index - 1] ?? 0));
    expect(Math.max(...sizes)).toBeLessThan(26);
    expect(checkpoints.length).toBeLessThan(scene.source.writer.headSeq / 18 + 3);
  });

  test('a sink that wants small batches gets them where nobody says otherwise', async () => {
    using scene = new RunnerScene();
    scene.sink.batchRows = 10;
    const random = new Random(4);
    for (let index = 0; index < 30; index += 1) scene.source.commit(random);
    const { stop, runner } = scene.start({ fill: false, batch: { delayMs: 50 } });
    await scene.until(runner, ({ state }) => state === 'streaming');
    const before = scene.sink.calls.apply;
    for (let index = 0; index < 100; index += 1) scene.source.commit(random);
    await stop();
    expect(scene.sink.calls.apply - before).toBeGreaterThan(10);
  });

  test('a huge transaction is one batch of many parts', async () => {
    using scene = new RunnerScene();
    const { stop, runner } = scene.start({ fill: false });
    await scene.until(runner, ({ state }) => state === 'streaming');
    const applied = scene.sink.calls.apply;
    const writer = new ChangeWriter();
    scene.source.db.exec('BEGIN');
    for (let rowid = 1; rowid <= 23_000; rowid += 1) {
      writer.create(0, rowid, encodeRecord([null, 'n'.repeat(30), null]));
      scene.source.db.prepare('INSERT INTO items VALUES (?, ?, NULL)').run(rowid, 'n'.repeat(30));
    }
    scene.source.db.exec('COMMIT');
    scene.source.append([scene.source.transaction(writer)]);
    await stop();
    expect(scene.sink.calls.apply).toBe(applied + 1);
    expect(scene.sink.largestPart).toBe(5000);
    equal(scene);
  });

  test('transactions that are nothing for the sink do not disturb it, but move its checkpoint in the end', async () => {
    using scene = new RunnerScene();
    const { stop, runner } = scene.start({ fill: false, mapping: { filters: [{ exclude: ['*'] }] } });
    await scene.until(runner, ({ state }) => state === 'streaming');
    const applied = scene.sink.calls.apply;
    const random = new Random(5);
    for (let index = 0; index < 50; index += 1) scene.source.commit(random);
    await scene.until(runner, ({ checkpoint }) => checkpoint?.seq === scene.source.writer.headSeq);
    expect(scene.sink.calls.apply - applied).toBeLessThan(3);
    await stop();
    expect(scene.sink.checkpoint()?.seq).toBe(scene.source.writer.headSeq);
  });
});

describe('errors', () => {
  test('backs off with jitter up to 30 s, opens the sink again, and goes on without loss', async () => {
    using scene = new RunnerScene();
    const random = new Random(6);
    let failures = 0;
    scene.sink.fault = (call) => (call === 'open' && failures++ < 12 ? new WaggleError('SINK_UNREACHABLE', 'refused') : null);
    scene.clock.chance = 0.999;
    scene.source.seed(random, 10);
    const { runner, stop } = scene.start();
    await scene.until(runner, ({ state }) => state === 'retrying');
    expect(runner.status.error).toMatchObject({ code: 'SINK_UNREACHABLE', message: 'refused' });
    await scene.caughtUp(runner);
    const delays = scene.clock.slept.filter((delay) => delay !== 250 && delay !== 500 && delay !== 50);
    expect(delays.slice(0, 12)).toEqual([199, 399, 799, 1598, 3196, 6393, 12787, 25574, 29970, 29970, 29970, 29970]);
    expect(scene.sink.calls.close).toBe(12);
    await stop();
    equal(scene);
  });

  test('does not try again before the time that the target asked for', async () => {
    using scene = new RunnerScene();
    let failures = 0;
    scene.sink.fault = (call) => (call === 'open' && failures++ < 3 ? new WaggleError('SINK_BUSY', '429', { retryAfterMs: 7000 * failures }) : null);
    scene.clock.chance = 0.999;
    scene.source.seed(new Random(6), 10);
    const { runner, stop } = scene.start();
    await scene.until(runner, ({ state }) => state === 'retrying');
    expect(runner.status.retryAtMs).toBe(runner.status.error!.atMs + 7000);
    await scene.caughtUp(runner);
    expect(scene.clock.slept.filter((delay) => delay >= 7000)).toEqual([7000, 14_000, 21_000]);
    await stop();
  });

  test('since when and how often it failed outlasts errors of other kinds and a restart, and is forgotten when it is well, also with nothing to apply', async () => {
    using scene = new RunnerScene();
    scene.source.seed(new Random(6), 10);
    const well = scene.start();
    await scene.caughtUp(well.runner);
    await well.stop();
    let failures = 0;
    scene.sink.fault = (call) => (call === 'open' ? new WaggleError((failures += 1) % 2 === 0 ? 'SINK_BUSY' : 'SINK_UNREACHABLE', 'away') : null);
    const first = scene.start();
    await scene.until(first.runner, ({ error }) => error?.tries === 3);
    const { sinceMs, atMs } = first.runner.status.error!;
    expect(sinceMs).toBeLessThan(atMs);
    await first.stop();
    scene.sink.fault = (call) => (call === 'open' ? new WaggleError('SINK_DENIED', 'no right') : null);
    const second = scene.start();
    await scene.until(second.runner, ({ state }) => state === 'stopped');
    expect(second.runner.status.error).toMatchObject({ code: 'SINK_DENIED', sinceMs, tries: failures + 1 });
    scene.sink.fault = () => null;
    second.runner.resume();
    await scene.until(second.runner, ({ state }) => state === 'streaming');
    expect(second.runner.status).toMatchObject({ error: null, lag: { changes: 0 } });
    await second.stop();
  });

  test('before a sink is open again its fill stands as it was', async () => {
    using scene = new RunnerScene();
    scene.source.seed(new Random(6), 60);
    const first = scene.start();
    scene.sink.fault = (call) => (call === 'apply' && scene.sink.calls.apply > 2 ? new WaggleError('SINK_BUSY', 'locked') : null);
    await scene.until(first.runner, ({ state }) => state === 'retrying');
    await first.stop();
    scene.sink.fault = (call) => (call === 'open' ? new WaggleError('SINK_UNREACHABLE', 'away') : null);
    const second = scene.start();
    await scene.until(second.runner, ({ state }) => state === 'retrying');
    expect(second.runner.status.fill).toMatchObject({ tablesTotal: 3 });
    await second.stop();
  });

  test('a sink that opens and then fails at the same batch again has been down since the first time', async () => {
    using scene = new RunnerScene();
    scene.source.seed(new Random(6), 10);
    scene.sink.fault = (call) => (call === 'apply' ? new WaggleError('SINK_BUSY', 'locked') : null);
    const { runner, stop } = scene.start();
    await scene.until(runner, ({ error }) => error?.tries === 4);
    expect(runner.status.error!.sinceMs).toBeLessThan(runner.status.error!.atMs);
    scene.sink.fault = () => null;
    await scene.caughtUp(runner);
    expect(runner.status.error).toBeNull();
    await stop();
  });

  test('an error that does not pass stops the sink; resume tries again', async () => {
    using scene = new RunnerScene();
    const random = new Random(7);
    scene.source.seed(random, 10);
    const { runner, stop } = scene.start();
    await scene.caughtUp(runner);
    scene.sink.fault = (call) => (call === 'part' ? new WaggleError('SINK_ROW_REFUSED', 'column is too small') : null);
    scene.source.commit(random, 9);
    await scene.until(runner, ({ state }) => state === 'stopped');
    const { apply } = scene.sink.calls;
    for (let turn = 0; turn < 200; turn += 1) await setImmediate();
    expect(scene.sink.calls.apply).toBe(apply);
    using reading = SinkStore.openForReading(scene.storePath);
    expect(reading.get('test')).toMatchObject({ state: 'stopped', error: { code: 'SINK_ROW_REFUSED' }, lag: { changes: expect.any(Number) } });
    scene.sink.fault = () => null;
    runner.resume();
    await scene.caughtUp(runner);
    await stop();
    equal(scene);
    expect(reading.get('test')).toMatchObject({ state: 'closed', lag: { changes: 0, seconds: 0 } });
  });

  test("what the sink's connector did not classify is tried again, whatever it is, and is forgotten when it has passed", async () => {
    using scene = new RunnerScene();
    scene.source.seed(new Random(8), 10);
    let failures = 0;
    scene.sink.fault = (call) => (call === 'apply' && failures++ < 2 ? new RangeError('of the driver') : null);
    const { runner, stop } = scene.start();
    await scene.until(runner, ({ state }) => state === 'retrying');
    expect(runner.status.error).toMatchObject({ code: 'SINK_FAILED', message: 'of the driver' });
    await scene.caughtUp(runner);
    expect(runner.status.error).toBeNull();
    await stop();
    expect(scene.store.get('test')?.error).toBeNull();
    equal(scene);
  });

  test.each([
    ['a RangeError of the reader', new RangeError('Offset is outside the bounds of the DataView')],
    ['a TypeError of the reader', new TypeError('x is not a function')],
  ])('%s stops the sink with STATE_CORRUPT, also in the middle of a batch', async (_, error) => {
    for (const place of ['transactionsAfter', 'changes'] as const) {
      using scene = new RunnerScene();
      const { runner, stop } = scene.start({ fill: false });
      await scene.until(runner, ({ state }) => state === 'streaming');
      const spy =
        place === 'changes'
          ? vi.spyOn(LoggedTransaction.prototype, 'changes').mockImplementation(() => {
              throw error;
            })
          : vi.spyOn(LogReader.prototype, 'transactionsAfter').mockImplementation(() => {
              throw error;
            });
      try {
        scene.source.commit(new Random(9));
        await scene.until(runner, ({ state }) => state === 'stopped' || state === 'retrying');
        expect(runner.status).toMatchObject({ state: 'stopped', error: { code: 'STATE_CORRUPT' } });
      } finally {
        spy.mockRestore();
      }
      runner.resume();
      await scene.caughtUp(runner);
      await stop();
      equal(scene);
    }
  });

  test('a stopped sink ends at once and stays stopped for who asks', async () => {
    using scene = new RunnerScene();
    scene.sink.fault = () => new WaggleError('SINK_DENIED', 'no');
    const { runner, stop } = scene.start();
    await scene.until(runner, ({ state }) => state === 'stopped');
    await stop();
    expect(scene.store.get('test')?.state).toBe('stopped');
  });

  test('a mapping that cannot be stops the sink with CONFIG_INVALID', async () => {
    using scene = new RunnerScene();
    const { runner, stop } = scene.start({ mapping: { tables: { items: { columns: { exclude: ['id'] } } } } });
    await scene.until(runner, ({ state }) => state === 'stopped');
    expect(runner.status.error?.code).toBe('CONFIG_INVALID');
    await stop();
  });

  test('a sink that never answers is given up at the end', async () => {
    using scene = new RunnerScene();
    scene.sink.open = () => new Promise(() => {});
    const { stop } = scene.start();
    await stop();
  });

  test('faults at every N-th call, in open, apply, in the middle of a batch, before and after its commit: same end', async () => {
    for (const call of ['open', 'apply', 'part', 'commit', 'committed'] as const) {
      for (let every = 2; every <= 5; every += 1) {
        using scene = new RunnerScene();
        const random = new Random(every);
        let count = 0;
        scene.sink.fault = (at) => (at === call && ++count % every === 0 ? new Error(`fault ${count}`) : null);
        scene.source.seed(random, 40);
        const { runner, stop } = scene.start({ batch: { rows: 7, delayMs: 50 } });
        for (let index = 0; index < 60; index += 1) {
          scene.source.commit(random);
          if (index % 7 === 0) await setImmediate();
        }
        await scene.caughtUp(runner);
        await stop();
        expect(count).toBeGreaterThan(0);
        equal(scene);
      }
    }
  });
});
