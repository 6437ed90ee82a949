/**
 * A real Kafka broker for tests (`kafka-server/README.md`). Fetched and prepared once for this user (Maven and Java), then a process of
 * its own on ports of its own, gone with `stop`.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { freePort } from './free-port.ts';

const run = promisify(execFile);
const SOURCES = join(import.meta.dirname, 'kafka-server');
const CLUSTER_ID = 'MkU3OEVBNTcwNTJENDM2Qg';
const SCRAM = ['SCRAM-SHA-256', 'SCRAM-SHA-512'];
const JAVA = ['-Xmx256m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1'];
/** Relative to the built directory: the archive holds only for the very class path that it was made with. */
const CLASS_PATH = ['-cp', join('libs', '*')];

export interface KafkaServer {
  /** `host:port`, may do everything. */
  readonly broker: string;
  /** `host:port`, SASL: PLAIN and SCRAM. */
  readonly saslBroker: string;
  /** `host:port`, SASL PLAIN over TLS; null without `pem`. */
  readonly tlsBroker: string | null;
  /** SIGKILL: every connection is cut. */
  kill(): Promise<void>;
  /** Same data, same ports. Resolves when it takes connections. */
  start(): Promise<void>;
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Whether the broker can be fetched and run here. */
export const kafkaPossible = (): boolean => {
  const path = (process.env['PATH'] ?? '').split(delimiter);
  return ['java', 'mvn'].every((program) => path.some((directory) => existsSync(join(directory, program))));
};

/** `settings`: further lines of server.properties. `pem`: file with a key (PKCS 8) and its certificate, for a listener with TLS. */
export const startKafka = async (settings: readonly string[] = [], { pem = null }: { pem?: string | null } = {}): Promise<KafkaServer> => {
  const node = { ...(await freePorts()), id: 1, tls: pem === null ? null : await freePort() };
  const broker = await makeBroker({ node, voters: [node], settings: [...(pem === null ? [] : tlsSettings(pem)), ...settings] });
  await startAll([broker]);
  return {
    broker: addressOf(node.plain),
    saslBroker: addressOf(node.sasl),
    tlsBroker: node.tls === null ? null : addressOf(node.tls),
    kill: () => broker.kill(),
    start: () => broker.start(),
    stop: () => broker.stop(),
    [Symbol.asyncDispose]: () => broker.stop(),
  };
};

export interface KafkaCluster extends AsyncDisposable {
  /** `host:port` of each broker, which may do everything. */
  readonly brokers: readonly string[];
  /** By the id of the node, from 1, as Kafka names leaders. As those of a KafkaServer. */
  kill(id: number): Promise<void>;
  start(id: number): Promise<void>;
}

const COPIES = ['offsets.topic.replication.factor', 'transaction.state.log.replication.factor', 'default.replication.factor'];
const IN_STEP = ['transaction.state.log.min.isr', 'min.insync.replicas'];

/** Three brokers, each of them a controller, too; all that is written stands in two of them at least. */
export const startKafkaCluster = async (): Promise<KafkaCluster> => {
  const nodes: Node[] = [];
  for (const id of [1, 2, 3]) nodes.push({ ...(await freePorts()), id, tls: null });
  const settings = [...COPIES.map((name) => `${name}=3`), ...IN_STEP.map((name) => `${name}=2`)];
  const brokers: Broker[] = [];
  for (const node of nodes) brokers.push(await makeBroker({ node, voters: nodes, settings }));
  await startAll(brokers);
  return {
    brokers: nodes.map(({ plain }) => addressOf(plain)),
    kill: (id) => brokers[id - 1]!.kill(),
    start: (id) => brokers[id - 1]!.start(),
    [Symbol.asyncDispose]: async () => void (await Promise.all(brokers.map((broker) => broker.stop()))),
  };
};

/** A broker, and the controller in the same process. */
interface Node {
  readonly id: number;
  /** Ports. */
  readonly plain: number;
  readonly sasl: number;
  readonly controller: number;
  readonly tls: number | null;
}

interface Broker {
  kill(): Promise<void>;
  start(): Promise<void>;
  stop(): Promise<void>;
}

const freePorts = async (): Promise<Pick<Node, 'plain' | 'sasl' | 'controller'>> => ({
  plain: await freePort(),
  sasl: await freePort(),
  controller: await freePort(),
});

const addressOf = (port: number): string => `127.0.0.1:${port}`;

/** Not started yet, with a folder of its own. */
const makeBroker = async (options: { node: Node; voters: readonly Node[]; settings: readonly string[] }): Promise<Broker> => {
  const built = await buildKafka();
  const directory = await mkdtemp(join(tmpdir(), 'waggle-kafka-'));
  const data = join(directory, 'data');
  const properties = join(directory, 'server.properties');
  await cp(join(built, 'formatted'), data, { recursive: true });
  await nameNode(join(data, 'meta.properties'), options.node.id);
  await writeFile(properties, await propertiesOf({ ...options, data }));
  let child: ChildProcess | null = null;
  const kill = async (): Promise<void> => {
    const ending = child;
    child = null;
    if (ending === null || ending.exitCode !== null) return;
    const closed = once(ending, 'close');
    ending.kill('SIGKILL');
    await closed;
  };
  return {
    kill,
    start: async () => {
      child = spawn('java', [...JAVA, '-XX:SharedArchiveFile=broker.jsa', ...CLASS_PATH, 'kafka.Kafka', properties], { cwd: built });
      await started(child);
    },
    stop: async () => {
      await kill();
      await rm(directory, { recursive: true, force: true });
    },
  };
};

const startAll = async (brokers: readonly Broker[]): Promise<void> => {
  const results = await Promise.allSettled(brokers.map((broker) => broker.start()));
  const failed = results.find((result) => result.status === 'rejected');
  if (failed === undefined) return;
  await Promise.all(brokers.map((broker) => broker.stop()));
  throw failed.reason;
};

/** The folder was formatted for the node 1. */
const nameNode = async (file: string, id: number): Promise<void> => {
  if (id === 1) return;
  const text = await readFile(file, 'utf8');
  const directory = randomBytes(16).toString('base64url');
  await writeFile(file, text.replace(/^node\.id=.*$/m, `node.id=${id}`).replace(/^directory\.id=.*$/m, `directory.id=${directory}`));
};

/** The directory with `libs`, `formatted` and `broker.jsa`, in the user's cache; a new one when the sources or Java change. */
export const buildKafka = async (): Promise<string> => {
  const sources = await Promise.all(['pom.xml', 'server.properties'].map((name) => readFile(join(SOURCES, name))));
  const { stderr: java } = await run('java', ['-version']);
  const hash = createHash('sha256').update(Buffer.concat(sources)).update(java).digest('hex').slice(0, 16);
  const cache = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'waggle-tests');
  const built = join(cache, `kafka-server-${hash}`);
  if (existsSync(built)) return built;
  await mkdir(cache, { recursive: true });
  const work = await mkdtemp(join(cache, 'building-'));
  try {
    await cp(join(SOURCES, 'pom.xml'), join(work, 'pom.xml'));
    await run('mvn', ['-B', '-q', 'dependency:copy-dependencies', '-DincludeScope=runtime', '-DoutputDirectory=libs'], { cwd: work });
    await prepare(work);
    // Another process may have built it meanwhile: one of the two is as good as the other.
    await rename(work, built).catch((error: unknown) => {
      if (!existsSync(built)) throw error;
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return built;
};

/** Formats the folder, then lets a broker live once on a copy of it, which leaves the class-data archive behind. */
const prepare = async (work: string): Promise<void> => {
  const properties = join(work, 'first.properties');
  const node = { ...(await freePorts()), id: 1, tls: null };
  const ofNode = { node, voters: [node], settings: [] };
  await writeFile(properties, await propertiesOf({ ...ofNode, data: join(work, 'formatted') }));
  const users = SCRAM.flatMap((mechanism) => ['--add-scram', `${mechanism}=[name=waggle,password=salted]`]);
  await run('java', [...JAVA, ...CLASS_PATH, 'kafka.tools.StorageTool', 'format', '-t', CLUSTER_ID, '-c', properties, ...users], { cwd: work });
  await cp(join(work, 'formatted'), join(work, 'first'), { recursive: true });
  await writeFile(properties, await propertiesOf({ ...ofNode, data: join(work, 'first') }));
  const child = spawn('java', [...JAVA, '-XX:ArchiveClassesAtExit=broker.jsa', ...CLASS_PATH, 'kafka.Kafka', properties], { cwd: work });
  const closed = once(child, 'close');
  try {
    await started(child);
  } finally {
    child.kill('SIGTERM');
    await closed;
  }
  await rm(join(work, 'first'), { recursive: true });
};

const tlsSettings = (pem: string): string[] => [
  'listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SASL_SSL',
  'listener.name.tls.sasl.enabled.mechanisms=PLAIN',
  'listener.name.tls.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_waggle="right";',
  'ssl.keystore.type=PEM',
  `ssl.keystore.location=${pem}`,
];

const propertiesOf = async (options: { node: Node; voters: readonly Node[]; data: string; settings: readonly string[] }): Promise<string> => {
  const { node, voters, data, settings } = options;
  const named = { PLAINTEXT: node.plain, SASL: node.sasl, ...(node.tls === null ? {} : { TLS: node.tls }) };
  const listeners = Object.entries(named)
    .map(([name, port]) => `${name}://${addressOf(port)}`)
    .join();
  return [
    await readFile(join(SOURCES, 'server.properties'), 'utf8'),
    `node.id=${node.id}`,
    `listeners=${listeners},CONTROLLER://${addressOf(node.controller)}`,
    `advertised.listeners=${listeners}`,
    `controller.quorum.voters=${voters.map(({ id, controller }) => `${id}@${addressOf(controller)}`).join()}`,
    `log.dirs=${data}`,
    ...settings,
    '',
  ].join('\n');
};

/** Resolves when the broker takes connections. */
const started = (child: ChildProcess): Promise<void> =>
  new Promise((resolve, reject) => {
    let told = '';
    for (const stream of [child.stdout, child.stderr])
      stream?.setEncoding('utf8').on('data', (text: string) => {
        told = (told + text).slice(-20_000);
        if (told.includes('Kafka Server started')) resolve();
      });
    child.once('close', () => reject(new Error(`the Kafka broker ended: ${told.slice(-3000)}`)));
    child.once('error', reject);
  });
