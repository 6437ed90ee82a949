/**
 * A real Kafka broker for tests (`kafka-server/README.md`). Fetched and prepared once for this user (Maven and Java), then a process of
 * its own on ports of its own, gone with `stop`.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
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
const JAVA = ['-Xmx256m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1'];
/** Relative to the built directory: the archive holds only for the very class path that it was made with. */
const CLASS_PATH = ['-cp', join('libs', '*')];

export interface KafkaServer {
  /** `host:port`, may do everything. */
  readonly broker: string;
  /** `host:port`, SASL PLAIN. */
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
  const built = await buildKafka();
  const directory = await mkdtemp(join(tmpdir(), 'waggle-kafka-'));
  const ports = { plain: await freePort(), sasl: await freePort(), controller: await freePort(), tls: pem === null ? null : await freePort() };
  const properties = join(directory, 'server.properties');
  await cp(join(built, 'formatted'), join(directory, 'data'), { recursive: true });
  await writeFile(properties, await propertiesOf(ports, join(directory, 'data'), [...(pem === null ? [] : tlsSettings(pem)), ...settings]));
  let child: ChildProcess | null = null;
  const kill = async (): Promise<void> => {
    const ending = child;
    child = null;
    if (ending === null || ending.exitCode !== null) return;
    const closed = once(ending, 'close');
    ending.kill('SIGKILL');
    await closed;
  };
  const start = async (): Promise<void> => {
    child = spawn('java', [...JAVA, '-XX:SharedArchiveFile=broker.jsa', ...CLASS_PATH, 'kafka.Kafka', properties], { cwd: built });
    await started(child);
  };
  const stop = async (): Promise<void> => {
    await kill();
    await rm(directory, { recursive: true, force: true });
  };
  try {
    await start();
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    broker: `127.0.0.1:${ports.plain}`,
    saslBroker: `127.0.0.1:${ports.sasl}`,
    tlsBroker: ports.tls === null ? null : `127.0.0.1:${ports.tls}`,
    kill,
    start,
    stop,
    [Symbol.asyncDispose]: stop,
  };
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
  const ports = { plain: await freePort(), sasl: await freePort(), controller: await freePort(), tls: null };
  await writeFile(properties, await propertiesOf(ports, join(work, 'formatted'), []));
  await run('java', [...JAVA, ...CLASS_PATH, 'kafka.tools.StorageTool', 'format', '-t', CLUSTER_ID, '-c', properties], { cwd: work });
  await cp(join(work, 'formatted'), join(work, 'first'), { recursive: true });
  await writeFile(properties, await propertiesOf(ports, join(work, 'first'), []));
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

interface Ports {
  readonly plain: number;
  readonly sasl: number;
  readonly controller: number;
  readonly tls: number | null;
}

const tlsSettings = (pem: string): string[] => [
  'listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SASL_SSL',
  'listener.name.tls.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_waggle="right";',
  'ssl.keystore.type=PEM',
  `ssl.keystore.location=${pem}`,
];

const propertiesOf = async (ports: Ports, data: string, settings: readonly string[]): Promise<string> => {
  const listeners = `PLAINTEXT://127.0.0.1:${ports.plain},SASL://127.0.0.1:${ports.sasl}${ports.tls === null ? '' : `,TLS://127.0.0.1:${ports.tls}`}`;
  return [
    await readFile(join(SOURCES, 'server.properties'), 'utf8'),
    `listeners=${listeners},CONTROLLER://127.0.0.1:${ports.controller}`,
    `advertised.listeners=${listeners}`,
    `controller.quorum.voters=1@127.0.0.1:${ports.controller}`,
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
