/**
 * A consumer that nobody here wrote: Kafka Connect 4.1.1 with Debezium's JDBC sink 3.5.0 reads what `schemas: true` publishes of a real Hive, into
 * PostgreSQL; then every row is compared. Needs Java, Maven (93 MB, once) and PostgreSQL.
 *
 *     node test/interop/kafka-connect.ts [OPS] [SEED]
 */
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import Database from 'better-sqlite3';
import { DaemonScene, EQUAL } from '../helpers/daemon-scene.ts';
import { freePort } from '../helpers/free-port.ts';
import { HiveApplication } from '../helpers/hive-application.ts';
import { KafkaProbe } from '../helpers/kafka-probe.ts';
import { startKafka } from '../helpers/kafka-server.ts';
import { startPostgres } from '../helpers/postgres-server.ts';
import { until } from '../helpers/until.ts';
import { waggle } from '../helpers/waggle-command.ts';

const run = promisify(execFile);
const SOURCES = join(import.meta.dirname, 'kafka-connect');
/** What the worker brings along in another version: two of a kind cannot be told apart. */
const SHADOWED = /^(jackson|connect-api|kafka-clients|slf4j-api|lz4|snappy|zstd|debezium-connect-plugins)-/;

/** The directory with `worker` and `plugins`, in the user's cache. */
const buildConnect = async (): Promise<string> => {
  const sources = await Promise.all(['worker.xml', 'plugin.xml'].map((name) => readFile(join(SOURCES, name))));
  const hash = createHash('sha256').update(Buffer.concat(sources)).digest('hex').slice(0, 16);
  const cache = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'waggle-tests');
  const built = join(cache, `kafka-connect-${hash}`);
  if (existsSync(built)) return built;
  await mkdir(cache, { recursive: true });
  const work = await mkdtemp(join(cache, 'building-'));
  try {
    for (const [name, target] of [
      ['worker', 'worker'],
      ['plugin', join('plugins', 'jdbc')],
    ] as const) {
      const directory = join(work, `${name}-pom`);
      await mkdir(join(directory, 'empty-repo'), { recursive: true });
      await cp(join(SOURCES, `${name}.xml`), join(directory, 'pom.xml'));
      await run('mvn', ['-B', '-q', 'dependency:copy-dependencies', '-DincludeScope=runtime', `-DoutputDirectory=${join(work, target)}`], {
        cwd: directory,
      });
    }
    const plugin = join(work, 'plugins', 'jdbc');
    for (const jar of await readdir(plugin)) if (SHADOWED.test(jar)) await rm(join(plugin, jar));
    await rename(work, built);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return built;
};

const properties = (entries: Readonly<Record<string, string | number | boolean>>): string =>
  Object.entries(entries)
    .map(([name, value]) => `${name}=${value}\n`)
    .join('');

const command = (...args: readonly string[]): string => {
  const { status, stdout, stderr } = waggle([...args, '-c', scene.config]);
  if (status !== 0) throw new Error(`waggle ${args.join(' ')}: ${stderr}`);
  return stdout;
};

const ops = Number(process.argv[2] ?? 1000);
const seed = Number(process.argv[3] ?? 7);
const built = await buildConnect();
await using kafka = await startKafka();
await using postgres = await startPostgres();
await using scene = new DaemonScene({
  sinks: { stream: `{ type: kafka, brokers: "${kafka.broker}", schemas: true, dead_letters: { limit: 100000 } }` },
});
// Some rows are there before: op r.
await HiveApplication.run({ dir: scene.app, ops: 60, seed: seed + 1 });
const daemon = await scene.startReady();
await scene.settled();

const restPort = await freePort();
const converter = { converter: 'org.apache.kafka.connect.json.JsonConverter', 'converter.schemas.enable': true };
const converters = ['key', 'value'].flatMap((part) => Object.entries(converter).map(([name, value]) => [`${part}.${name}`, value] as const));
await writeFile(
  scene.path('worker.properties'),
  properties({
    'bootstrap.servers': kafka.broker,
    ...Object.fromEntries(converters),
    'plugin.path': join(built, 'plugins'),
    'plugin.discovery': 'hybrid_warn',
    'offset.storage.file.filename': scene.path('connect.offsets'),
    'offset.flush.interval.ms': 1000,
    'connector.client.config.override.policy': 'All',
    listeners: `http://127.0.0.1:${restPort}`,
  }),
);
await writeFile(
  scene.path('sink.properties'),
  properties({
    name: 'jdbc',
    'connector.class': 'io.debezium.connector.jdbc.JdbcSinkConnector',
    'tasks.max': 1,
    // A backslash is written twice in a properties file.
    'topics.regex': String.raw`main\\.(?!(schema|transaction|heartbeat|waggle-checkpoint)$).*`,
    'connection.url': `jdbc:postgresql://127.0.0.1:${postgres.port}/postgres`,
    'connection.username': 'postgres',
    'connection.password': 'none',
    'insert.mode': 'upsert',
    'delete.enabled': true,
    'truncate.enabled': true,
    'primary.key.mode': 'record_key',
    'schema.evolution': 'basic',
    'quote.identifiers': true,
    'collection.name.format': '${source.table}',
    'consumer.override.isolation.level': 'read_committed',
    'consumer.override.auto.offset.reset': 'earliest',
    'consumer.override.metadata.max.age.ms': 1000,
  }),
);
const began = Date.now();
const connect = spawn(
  'java',
  [
    '-Xmx512m',
    '-cp',
    join(built, 'worker', '*'),
    'org.apache.kafka.connect.cli.ConnectStandalone',
    scene.path('worker.properties'),
    scene.path('sink.properties'),
  ],
  { cwd: scene.dir },
);
let told = '';
for (const stream of [connect.stdout, connect.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (told = (told + text).slice(-20_000)));
const ended = once(connect, 'close');
try {
  const state = async (): Promise<string> => {
    // Until it listens, and as long as it has no such connector.
    const answer: unknown = await fetch(`http://127.0.0.1:${restPort}/connectors/jdbc/status`)
      .then((response) => response.json())
      .catch(() => null);
    const [task] = (answer as { tasks?: { state: string; trace?: string }[] } | null)?.tasks ?? [];
    if (task?.state === 'FAILED') throw new Error(`the task failed: ${task.trace}`);
    return task?.state ?? '';
  };
  await until('Kafka Connect to run', async () => (await state()) === 'RUNNING', {
    deadlineMs: 180_000,
    everyMs: 500,
    told: () => told.slice(-4000),
  });
  console.log(`Kafka Connect runs after ${((Date.now() - began) / 1000).toFixed(1)} s`);
  await HiveApplication.run({ dir: scene.app, ops, seed, ddlAt: Math.floor(ops * 0.4) });
  await scene.settled();
  // One account in ten has a broken number as its age, in a column that is declared INTEGER: none of them may be published as another one.
  const refused = command('dead-letters', 'list', 'stream')
    .split('\n')
    .filter((line) => line.includes('none of the type int64')).length;
  const database = new Database(scene.hive);
  database.exec("UPDATE accounts SET age = CAST(age AS INTEGER) WHERE typeof(age) = 'real'");
  database.close();
  await scene.settled();
  command('dead-letters', 'discard', 'stream');
  // Op t, and every row as op r.
  command('resync', 'stream', 'accounts');
  await scene.settled();
  assert.deepEqual(await daemon.stop(), { code: 0, signal: null });
  let last = 'not compared yet';
  await until(
    'equal tables',
    async () => {
      await state();
      const difference = await scene.comparePostgres(postgres.url).catch((error: unknown) => ({ missing: -1, surplus: -1, first: String(error) }));
      last = JSON.stringify(difference);
      return difference.missing === EQUAL.missing && difference.surplus === EQUAL.surplus;
    },
    { deadlineMs: 240_000, everyMs: 1000, told: () => `${last}\n${told.slice(-4000)}` },
  );
  await using probe = await KafkaProbe.open(kafka.broker);
  const counts = new Map<string, number>();
  for (const { headers, topic } of await probe.read()) {
    const kind = topic === 'main.transaction' ? 'transaction' : topic === 'main.waggle-checkpoint' ? 'checkpoint' : (headers['op'] ?? '');
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  console.log(
    `equal: all rows of all tables after ${ops} operations of Hive (seed ${seed}); ${refused} changes were dead letters until their rows were mended; records by kind: ${JSON.stringify(Object.fromEntries(counts))}`,
  );
} finally {
  connect.kill('SIGKILL');
  await ended;
}
