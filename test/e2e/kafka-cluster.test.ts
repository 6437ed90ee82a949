/** Three brokers with three copies of everything: the leader of a partition is killed under load, and comes back. */
import { expect, it } from 'vitest';
import { DaemonScene } from '../helpers/daemon-scene.ts';
import { HiveApplication } from '../helpers/hive-application.ts';
import { KafkaProbe } from '../helpers/kafka-probe.ts';
import { expectPublished } from '../helpers/kafka-proof.ts';
import { kafkaPossible, startKafkaCluster } from '../helpers/kafka-server.ts';
import { serversRequired } from '../helpers/postgres-server.ts';
import { sinkStatus } from '../helpers/settled.ts';
import { until } from '../helpers/until.ts';

const absent = !kafkaPossible() && !serversRequired();
const DEADLINE_MS = 60_000;
/** At length: WAGGLE_LEADER_KILLS=20. */
const KILLS = Number(process.env['WAGGLE_LEADER_KILLS'] ?? 2);
const SEED = Number(process.env['WAGGLE_KILL_SEED'] ?? Math.floor(Math.random() * 1_000_000));

it.skipIf(absent)(
  `publishes each change once while ${KILLS} leaders are killed under load and come back (seed ${SEED})`,
  { timeout: 2 * DEADLINE_MS + KILLS * 30_000 },
  async () => {
    await using cluster = await startKafkaCluster();
    const brokers = cluster.brokers.join();
    await using probe = await KafkaProbe.open(brokers);
    await using scene = new DaemonScene({
      sinks: { stream: `{ type: kafka, brokers: "${brokers}", topics: { partitions: 3, replication: 3, config: { min.insync.replicas: 2 } } }` },
    });
    await HiveApplication.run({ dir: scene.app, ops: 40, seed: SEED });
    const daemon = await scene.startReady();
    await scene.settled(['stream'], DEADLINE_MS);
    // New topics are made without a stumble, though not every broker has heard of them at once.
    expect(daemon.lines.filter(({ reason }) => reason !== undefined)).toEqual([]);
    await using application = HiveApplication.start({ dir: scene.app, ops: 1_000_000, seed: SEED + 1, rate: 12 });
    const published = (): number => sinkStatus(scene.state, 'stream')?.checkpoint?.seq ?? 0;
    const goesOn = async (): Promise<void> => {
      const before = published();
      await until('the sink to go on', () => published() > before + 20, { deadlineMs: DEADLINE_MS, told: () => daemon.stderr.slice(-3000) });
    };
    const partitionsOf = async (topic: string) => (await probe.admin.fetchTopicMetadata({ topics: [topic] })).topics[0]!.partitions;
    for (let kill = 0; kill < KILLS; kill += 1) {
      await goesOn();
      // Every second one leads the transactions, too: the checkpoint's topic has one partition.
      const topic = kill % 2 === 0 ? 'main.accounts' : 'main.waggle-checkpoint';
      const victim = (await partitionsOf(topic))[0]!.leader;
      await cluster.kill(victim);
      await until('another leader', async () => ![victim, -1].includes((await partitionsOf(topic).catch(() => []))[0]?.leader ?? -1), {
        deadlineMs: DEADLINE_MS,
      });
      await goesOn();
      await cluster.start(victim);
      // The next one may be killed only when this one has all again.
      await until('three copies in step', async () => (await partitionsOf(topic).catch(() => [])).some(({ isr }) => isr.length === 3), {
        deadlineMs: DEADLINE_MS,
      });
    }
    await goesOn();
    await application.kill();
    await scene.settled(['stream'], DEADLINE_MS);
    expect(sinkStatus(scene.state, 'stream')).toMatchObject({ state: 'streaming', error: null });
    expect(await daemon.stop()).toEqual({ code: 0, signal: null });
    const replay = await expectPublished(scene, brokers);
    console.log(`${replay.seqs.length} changes, ${replay.filled} filled rows, ${replay.transactions} transactions`);
    expect(replay.seqs.length).toBeGreaterThan(50);
  },
);
