/** A real Hive, the real daemon, a real broker, all killed at random instants: what a consumer that reads what is committed ends up with. */
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { DaemonScene, EQUAL } from '../helpers/daemon-scene.ts';
import { HiveApplication } from '../helpers/hive-application.ts';
import { KafkaProbe } from '../helpers/kafka-probe.ts';
import { expectPublished } from '../helpers/kafka-proof.ts';
import { kafkaPossible, startKafka } from '../helpers/kafka-server.ts';
import { serversRequired } from '../helpers/postgres-server.ts';
import { megabytes, peakMemoryBytes } from '../helpers/process-memory.ts';
import { Random } from '../helpers/random.ts';
import { logHead, sinkStatus } from '../helpers/settled.ts';
import { SteeredWriter } from '../helpers/steered-writer.ts';
import { until } from '../helpers/until.ts';

const KILLS = Number(process.env['WAGGLE_KILLS'] ?? 5);
const BROKER_KILLS = Number(process.env['WAGGLE_BROKER_KILLS'] ?? Math.ceil(KILLS / 10));
const SEED = Number(process.env['WAGGLE_KILL_SEED'] ?? Math.floor(Math.random() * 1_000_000));
/** The proof holds all that was published in memory: a hive that went on growing over 200 kills gave more than a heap takes. */
const KILLS_A_ROUND = 20;
const ROUNDS = Math.ceil(KILLS / KILLS_A_ROUND);
/** One life of the application: long enough to be hit by kills, short enough that the hive stays what a machine can publish that restarts all the time. */
const LIFE_OPS = 120;
/** The next life waits while so many changes are not published yet. */
const MOST_BEHIND = 100_000;
const DEADLINE_MS = 180_000 + KILLS * 5000;
const absent = !kafkaPossible() && !serversRequired();

it.skipIf(absent)(
  `publishes each change once over ${KILLS} kills of the daemon and ${BROKER_KILLS} of the broker (seed ${SEED})`,
  { timeout: DEADLINE_MS + (KILLS + BROKER_KILLS) * 30_000 },
  async () => {
    for (let round = 0; round < ROUNDS; round += 1) await killRound(SEED + 1000 * round);
  },
);

/** One hive and one broker, from the beginning to the proof. */
const killRound = async (seed: number): Promise<void> => {
  const [kills, brokerKills] = [Math.ceil(KILLS / ROUNDS), Math.ceil(BROKER_KILLS / ROUNDS)];
  const random = new Random(seed);
  await using kafka = await startKafka();
  await using scene = new DaemonScene({
    sinks: { stream: `{ type: kafka, brokers: "${kafka.broker}", compression: zstd, topics: { partitions: 3 } }` },
  });
  // Some rows are there before.
  await HiveApplication.run({ dir: scene.app, ops: 60, seed });
  let daemon = await scene.startReady();
  await using lives = new AsyncDisposableStack();
  const behind = (): number => (logHead(scene.state) ?? 0) - (sinkStatus(scene.state, 'stream')?.checkpoint?.seq ?? 0);
  let born = 0;
  const begin = (): HiveApplication => {
    born += 1;
    return lives.use(HiveApplication.start({ dir: scene.app, ops: LIFE_OPS, seed: seed + born, rate: 60, ...(born === 1 ? { ddlAt: 30 } : {}) }));
  };
  let application = begin();
  const victims = [...Array<'daemon'>(kills).fill('daemon'), ...Array<'broker'>(brokerKills).fill('broker')];
  while (victims.length > 0) {
    const [victim] = victims.splice(random.int(victims.length), 1);
    if (!application.isRunning && behind() < MOST_BEHIND) {
      await application.ended;
      application = begin();
    }
    // Behind some of the kills the sink comes to stream again, behind others it does not.
    if (random.chance(0.7) && behind() > 0) {
      const before = sinkStatus(scene.state, 'stream')?.checkpoint?.seq ?? 0;
      await until('the sink to go on', () => (sinkStatus(scene.state, 'stream')?.checkpoint?.seq ?? 0) > before, {
        deadlineMs: DEADLINE_MS,
        told: () => daemon.stderr.slice(-3000),
      });
    }
    await delay(random.int(random.chance(0.3) ? 1500 : 200));
    expect(daemon.exit).toBe(null);
    if (victim === 'daemon') {
      await daemon.kill();
      daemon = scene.start();
    } else {
      await kafka.kill();
      await delay(random.int(500));
      await kafka.start();
    }
  }
  await application.kill();
  await daemon.untilReady();
  await scene.settled(['stream'], DEADLINE_MS);
  // By now it is filled, whatever was killed before: these come as changes.
  await begin().ended;
  await scene.settled(['stream'], DEADLINE_MS);
  expect(await daemon.stop()).toEqual({ code: 0, signal: null });
  const replay = await expectPublished(scene, kafka.broker);
  console.log(`seed ${seed}: ${replay.seqs.length} changes, ${replay.filled} filled rows, ${replay.transactions} transactions`);
  expect(replay.seqs.length).toBeGreaterThan(100);
  expect(replay.filled).toBeGreaterThan(0);
};

it.skipIf(absent)('goes on by itself when the broker was away, while the other sinks went on', { timeout: 120_000 }, async () => {
  await using kafka = await startKafka();
  await using scene = new DaemonScene({
    sinks: { copy: '{ type: sqlite, file: copy.sqlite }', stream: `{ type: kafka, brokers: "${kafka.broker}" }` },
  });
  await HiveApplication.run({ dir: scene.app, ops: 60, seed: 5 });
  const daemon = await scene.startReady();
  await scene.settled();
  await using application = HiveApplication.start({ dir: scene.app, ops: 600, seed: 6, rate: 120 });
  const moved = sinkStatus(scene.state, 'stream')!.checkpoint!.seq;
  await until('the topics to get changes', () => sinkStatus(scene.state, 'stream')!.checkpoint!.seq > moved + 50);
  await kafka.kill();
  const left = await until('the sink to notice', () => {
    const status = sinkStatus(scene.state, 'stream')!;
    return status.state === 'retrying' && status;
  });
  expect(left.error).toMatchObject({ code: 'SINK_UNREACHABLE', hint: expect.stringMatching(/keeps trying/) });
  const behind = left.checkpoint!.seq;
  await until('the copy to go on', () => sinkStatus(scene.state, 'copy')!.checkpoint!.seq > behind + 100);
  // Not later: the longer it was away, the longer the sink waits before it tries again.
  await kafka.start();
  await application.ended;
  await scene.settled();
  expect(sinkStatus(scene.state, 'stream')).toMatchObject({ state: 'streaming', error: null });
  expect(await daemon.stop()).toEqual({ code: 0, signal: null });
  expect(scene.compareCopy(scene.path('copy.sqlite'))).toMatchObject(EQUAL);
  await expectPublished(scene, kafka.broker);
});

/** At length: WAGGLE_LARGE_MB=1000. */
const LARGE_MB = Number(process.env['WAGGLE_LARGE_MB'] ?? 60);
const LIMIT_MB = 450;

it.skipIf(absent)(
  `stays under ${LIMIT_MB} MB with a transaction of ${LARGE_MB} MB, in one Kafka transaction`,
  { timeout: 120_000 + LARGE_MB * 1000 },
  async () => {
    await using kafka = await startKafka();
    await using scene = new DaemonScene({
      hive: 'app.sqlite',
      sinks: { stream: `{ type: kafka, brokers: "${kafka.broker}", prefix: main, fill: false }` },
    });
    await using writer = await SteeredWriter.open(scene.hive);
    const daemon = await scene.startReady();
    await writer.insert(LARGE_MB * 10, 100_000);
    await scene.settled(['stream'], 60_000 + LARGE_MB * 900);
    const megabytesAtMost = megabytes(peakMemoryBytes([daemon.pid, Number(daemon.ready?.['keeper'])]));
    console.log(`memory of daemon and keeper: ${megabytesAtMost} MB at most`);
    expect(megabytesAtMost).toBeLessThan(LIMIT_MB);
    await using probe = await KafkaProbe.open(kafka.broker);
    const marks = (await probe.read(['main.transaction'])).map(({ value }) => JSON.parse(value ?? 'null'));
    expect(marks).toMatchObject([{ status: 'BEGIN' }, { status: 'END', event_count: LARGE_MB * 10 }]);
    expect(await daemon.stop()).toEqual({ code: 0, signal: null });
  },
);
