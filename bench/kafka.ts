/**
 * Log → Kafka, beside a plain kafkajs producer that sends the very same records with the same acknowledgement (alternating, in a process of its own, median); and commit in the
 * hive → record with a consumer that reads what is committed; and Kafka → Postgres. Real servers, on the same cores.
 *
 *     node bench/kafka.ts [CHANGES] [ROUNDS] [COMMITS]
 */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { pino } from 'pino';
import { options } from '../connectors/kafka/options.ts';
import { createSink } from '../connectors/kafka/sink.ts';
import { LogReader } from '../src/log/log-reader.ts';
import { SinkRunner } from '../src/pipeline/runner.ts';
import { SinkStore } from '../src/pipeline/sink-store.ts';
import { HeadNotice } from '../src/stream/head-notice.ts';
import { systemClock } from '../src/support/clock.ts';
import { batchOf, contextOf } from '../test/connectors/sink-changes.ts';
import { endKeeper } from '../test/helpers/end-keeper.ts';
import { KafkaProbe } from '../test/helpers/kafka-probe.ts';
import { startKafka } from '../test/helpers/kafka-server.ts';
import { isCaptured, logHead } from '../test/helpers/settled.ts';
import { until } from '../test/helpers/until.ts';
import { WaggleProcess } from '../test/helpers/waggle-process.ts';
import { benchFromKafka } from './kafka-to-postgres.ts';
import { median, spread, thousands } from './table.ts';

const changes = Number(process.argv[2] ?? 60_000);
const rounds = Number(process.argv[3] ?? 5);
const commits = Number(process.argv[4] ?? 500);
const TRANSACTION = 100;
const COMMIT_EVERY_MS = 20;

const directory = mkdtempSync(join(tmpdir(), 'waggle-bench-'));
const hive = join(directory, 'hive.sqlite');
const state = join(directory, 'state');
const config = join(directory, 'waggle.yaml');
const logger = pino({ level: 'silent' });

const startDaemon = (sinks: string): Promise<WaggleProcess> => {
  writeFileSync(config, `hive: ${hive}\nstate: ${state}\nname: bench\n${sinks}\n`);
  return WaggleProcess.run(config).untilReady();
};

const writeLog = async (db: Database.Database): Promise<void> => {
  await using daemon = await startDaemon('sinks: {}');
  const insert = db.prepare('INSERT INTO accounts VALUES (?, ?, ?, ?, ?, ?, ?)');
  const transaction = db.transaction((first: number) => {
    for (let id = first; id < first + TRANSACTION; id += 1)
      insert.run(
        `acc_${id.toString(16).padStart(16, '0')}`,
        '2026-11-21T00:10:49.686Z',
        `handle-${id}`,
        id % 90,
        id / 3,
        id % 2,
        `{"theme":"dark","n":${id}}`,
      );
  });
  for (let id = 0; id < changes; id += TRANSACTION) transaction(id);
  await until('everything to be captured', () => logHead(state) === changes && isCaptured({ hive, stateDir: state, sinks: [] }), {
    deadlineMs: 120_000,
    told: () => String(logHead(state)),
  });
  await daemon.stop();
};

/** Seconds from the log's beginning to its head. */
const publish = async (broker: string, prefix: string): Promise<number> => {
  const logPath = join(state, 'log.db');
  using reader = LogReader.open(logPath);
  const { logId, term, head } = reader.info();
  const stateDir = join(directory, prefix);
  mkdirSync(stateDir);
  const sink = createSink(options.parse({ brokers: broker, prefix }));
  const context = { ...contextOf('bench', stateDir), hive: 'bench' };
  await sink.open(context);
  await sink.apply(batchOf([], { logId, term, seq: 0, txid: '', fill: null }));
  await sink.close();
  using store = SinkStore.open(join(directory, `${prefix}.db`));
  const runner = new SinkRunner({
    name: 'bench',
    hive: 'bench',
    sink,
    logPath,
    head: new HeadNotice(systemClock),
    rows: null,
    fill: false,
    mapping: {},
    store,
    deadLetters: null,
    verifyEveryMs: null,
    stateDir,
    logger,
  });
  const stop = new AbortController();
  const running = runner.run(stop.signal);
  await until('the sink to be open', () => runner.status.state === 'streaming', { everyMs: 1 });
  const beganAt = performance.now();
  await until('everything to be published', () => runner.status.checkpoint?.seq === head.seq, { everyMs: 1, deadlineMs: 600_000 });
  const seconds = (performance.now() - beganAt) / 1000;
  stop.abort();
  await running;
  return seconds;
};

const benchRate = async (broker: string, probe: KafkaProbe): Promise<void> => {
  // Both warm, and the records that the plain producer shall send.
  await publish(broker, 'warm');
  const records = await probe.read(['warm.accounts', 'warm.transaction']);
  const file = join(directory, 'records.jsonl');
  writeFileSync(file, records.map(({ key, value, headers }) => `${JSON.stringify({ key, value, headers })}\n`).join(''));
  // A process of its own: kafkajs without what waggle mends in it.
  const producer = spawn(process.execPath, ['--no-warnings', join(import.meta.dirname, 'plain-producer.ts'), broker, file], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const answers = createInterface({ input: producer.stdout })[Symbol.asyncIterator]();
  const plain = async (topic: string): Promise<number> => {
    producer.stdin.write(`${topic}\n`);
    return Number((await answers.next()).value);
  };
  await plain('plain-warm');
  const times = { waggle: [] as number[], plain: [] as number[] };
  for (let round = 0; round < rounds; round += 1) {
    if (round % 2 === 0) times.plain.push(await plain(`plain-${round}`));
    times.waggle.push(await publish(broker, `round-${round}`));
    if (round % 2 === 1) times.plain.push(await plain(`plain-${round}`));
  }
  producer.stdin.end();
  const ratios = times.waggle.map((seconds, index) => times.plain[index]! / seconds);
  const rate = (seconds: readonly number[]): string => `${thousands(records.length / median(seconds))} records/s`;
  const bytes = Math.round(Buffer.byteLength(records.map(({ value }) => value ?? '').join('')) / records.length);
  console.log(
    `log → Kafka / plain producer ${spread(ratios)}   log → Kafka ${rate(times.waggle)}   plain ${rate(times.plain)}   (${records.length} records of ${bytes} bytes, ${rounds} rounds, median)`,
  );
};

const benchLatency = async (broker: string, probe: KafkaProbe, db: Database.Database): Promise<void> => {
  await using daemon = await startDaemon(`sinks: { stream: { type: kafka, brokers: "${broker}", prefix: latency, fill: false } }`);
  const consumer = probe.kafka.consumer({ groupId: 'bench', maxWaitTimeInMs: 50 });
  try {
    const insert = db.prepare('INSERT INTO times (v) VALUES (?)');
    // Until the topic is there.
    await until('the topic', async () => {
      insert.run('warm');
      return (await probe.topics()).includes('latency.times');
    });
    const committedAt = new Map<number, number>();
    const latencies: number[] = [];
    const done = Promise.withResolvers<void>();
    await consumer.connect();
    await consumer.subscribe({ topics: ['latency.times'], fromBeginning: true });
    await consumer.run({
      eachMessage: async ({ message }) => {
        const since = committedAt.get(Number(JSON.parse(String(message.key)).id));
        if (since === undefined) return;
        latencies.push(performance.now() - since);
        if (latencies.length === commits) done.resolve();
      },
    });
    for (let count = 0; count < commits; count += 1) {
      await delay(COMMIT_EVERY_MS);
      const { lastInsertRowid } = insert.run('row');
      committedAt.set(Number(lastInsertRowid), performance.now());
    }
    await done.promise;
    latencies.sort((a, b) => a - b);
    const at = (part: number): string => latencies[Math.min(latencies.length - 1, Math.floor(part * latencies.length))]!.toFixed(1);
    console.log(`commit → consumer, 50 commits/s, ${commits} commits: p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, longest ${at(1)} ms`);
  } finally {
    await consumer.disconnect();
    await daemon.stop();
  }
};

await using server = await startKafka();
await using probe = await KafkaProbe.open(server.broker);
const db = new Database(hive);
try {
  db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; CREATE TABLE times (id INTEGER PRIMARY KEY, v TEXT);
    CREATE TABLE accounts (id TEXT PRIMARY KEY, "ronin.createdAt" DATETIME, handle TEXT, age INTEGER, score REAL, verified BOOLEAN, settings TEXT)`);
  await writeLog(db);
  await benchRate(server.broker, probe);
  await benchFromKafka({ kafka: probe.kafka, broker: server.broker, prefix: 'warm', rows: changes, rounds, directory });
  await benchLatency(server.broker, probe, db);
} finally {
  await endKeeper(state);
  db.close();
  rmSync(directory, { recursive: true, force: true });
}
