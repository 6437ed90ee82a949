/**
 * A server that speaks MongoDB's protocol, for tests: see `mongo-server/README.md` for what it is and is not. Built once for this
 * user (Maven and a JDK), then a process of its own on its own port.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { freePort } from './free-port.ts';

const run = promisify(execFile);
const SOURCES = join(import.meta.dirname, 'mongo-server');

export interface MongoServer {
  readonly port: number;
  /** URL of the database `waggle`. */
  readonly url: string;
  /** SIGKILL: every connection is cut. */
  kill(): Promise<void>;
  /** Same data, same port. Resolves when it takes connections. */
  start(): Promise<void>;
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Whether the server can be built and run here. */
export const mongoServerPossible = (): boolean => {
  const path = (process.env['PATH'] ?? '').split(delimiter);
  return ['java', 'javac', 'mvn'].every((program) => path.some((directory) => existsSync(join(directory, program))));
};

/**
 * `durable`: in a file, which survives `kill`; then keys of several columns do not work (see the README). `exactRollback` false: for
 * benchmarks, because it costs a search for each update. What is not durable is kept in `heapMegabytes`, at several times its size.
 */
export const startMongoServer = async (
  kind: 'standalone' | 'rs',
  { durable = false, exactRollback = true, heapMegabytes = 256 } = {},
): Promise<MongoServer> => {
  const built = await buildMongoServer();
  const directory = await mkdtemp(join(tmpdir(), 'waggle-mongo-'));
  const port = await freePort();
  const classpath = [join(built, 'lib', '*'), join(built, 'classes')].join(delimiter);
  const args = [
    `-Xmx${heapMegabytes}m`,
    '-XX:+UseSerialGC',
    '-XX:TieredStopAtLevel=1',
    '-cp',
    classpath,
    'MongoTestServer',
    String(port),
    durable ? join(directory, 'data') : 'mem',
    kind,
    ...(exactRollback ? [] : ['inexact-rollback']),
  ];
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
    const started = spawn('java', args, { stdio: ['ignore', 'pipe', 'pipe'] });
    child = started;
    let told = '';
    started.stderr.on('data', (chunk) => (told += chunk));
    await new Promise<void>((resolve, reject) => {
      started.stdout.on('data', (chunk) => {
        if (String(chunk).includes('ready')) resolve();
      });
      started.once('close', () => reject(new Error(`the MongoDB server ended: ${told}`)));
      started.once('error', reject);
    });
  };
  const stop = async (): Promise<void> => {
    await kill();
    await rm(directory, { recursive: true, force: true });
  };
  await start();
  return { port, url: `mongodb://127.0.0.1:${port}/waggle`, kill, start, stop, [Symbol.asyncDispose]: stop };
};

/** The directory with `lib` and `classes`, in the user's cache; a new one when the sources change. */
export const buildMongoServer = async (): Promise<string> => {
  const sources = await Promise.all(['MongoTestServer.java', 'pom.xml'].map((name) => readFile(join(SOURCES, name))));
  const hash = createHash('sha256').update(Buffer.concat(sources)).digest('hex').slice(0, 16);
  const cache = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'waggle-tests');
  const built = join(cache, `mongo-server-${hash}`);
  if (existsSync(built)) return built;
  await mkdir(cache, { recursive: true });
  const work = await mkdtemp(join(cache, 'building-'));
  try {
    await cp(SOURCES, work, { recursive: true });
    await run('mvn', ['-B', '-q', 'dependency:copy-dependencies', '-DoutputDirectory=lib'], { cwd: work });
    await run('javac', ['-cp', join('lib', '*'), '-d', 'classes', 'MongoTestServer.java'], { cwd: work });
    // Another process may have built it meanwhile: one of the two is as good as the other.
    await rename(work, built).catch((error: unknown) => {
      if (!existsSync(built)) throw error;
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return built;
};
