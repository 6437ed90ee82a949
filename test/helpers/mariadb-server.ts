/** A real MariaDB for tests: a fresh data directory of its own, on its own port, gone with `stop`. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { access, chown, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { createConnection } from 'mysql2/promise';
import { freePort } from './free-port.ts';
import { until } from './until.ts';

const run = promisify(execFile);

export interface MariadbServer {
  readonly port: number;
  /** URL of the database `waggle`, as user root without a password. */
  readonly url: string;
  /** SIGKILL: every connection is cut, nothing is written any more. */
  kill(): Promise<void>;
  /** Same data, same port. Resolves when it takes connections. */
  start(): Promise<void>;
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Path of mariadbd: WAGGLE_MARIADBD (empty: as if there were none), else from PATH or Debian's place; null where none is installed. */
export const mariadbBinary = async (): Promise<string | null> => {
  const chosen = process.env['WAGGLE_MARIADBD'];
  if (chosen !== undefined) return chosen === '' ? null : chosen;
  for (const directory of [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin']) {
    const path = join(directory, 'mariadbd');
    if (await exists(path)) return path;
  }
  return null;
};

export const startMariadb = async (settings: readonly string[] = []): Promise<MariadbServer> => {
  const binary = await mariadbBinary();
  if (binary === null) throw new Error('MariaDB is not installed: apt-get install -y --no-install-recommends mariadb-server');
  const directory = await mkdtemp(join(tmpdir(), 'waggle-mariadb-'));
  const asUser = await serverUser(directory);
  const data = join(directory, 'data');
  const installation = ['--no-defaults', ...asUser, `--datadir=${data}`, '--auth-root-authentication-method=normal', '--skip-test-db'];
  await run('mariadb-install-db', [...installation, '--innodb-log-file-size=32M'], { cwd: directory });
  const port = await freePort();
  const log = join(directory, 'log');
  const args = [
    '--no-defaults',
    ...asUser,
    `--datadir=${data}`,
    `--port=${port}`,
    '--bind-address=127.0.0.1',
    `--socket=${join(directory, 'socket')}`,
    `--log-error=${log}`,
    '--innodb-log-file-size=32M',
    // A process that is killed loses nothing by it; a power loss is not what these tests are about.
    '--innodb-flush-log-at-trx-commit=2',
    ...settings,
  ];
  let child: ChildProcess | null = null;
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    const ending = child;
    child = null;
    if (ending === null) return;
    const closed = new Promise((resolve) => ending.once('close', resolve));
    ending.kill(signal);
    await closed;
  };
  const start = async (): Promise<void> => {
    const started = spawn(binary, args, { stdio: 'ignore', cwd: directory });
    child = started;
    await until('MariaDB takes connections', async () => {
      if (started.exitCode !== null) throw new Error(`mariadbd ended: ${await readFile(log, 'utf8')}`);
      return answers(port);
    });
  };
  const stop = async (): Promise<void> => {
    await end('SIGKILL');
    await rm(directory, { recursive: true, force: true });
  };
  await start();
  const connection = await createConnection({ host: '127.0.0.1', port, user: 'root' });
  await connection.query('CREATE DATABASE waggle');
  await connection.end();
  return { port, url: `mysql://root@127.0.0.1:${port}/waggle`, kill: () => end('SIGKILL'), start, stop, [Symbol.asyncDispose]: stop };
};

/** mariadbd does not run as root without being told a user; the directory must be his. */
const serverUser = async (directory: string): Promise<string[]> => {
  if (process.getuid?.() !== 0) return [];
  const id = async (flag: string): Promise<number> => Number((await run('id', [flag, 'mysql'])).stdout);
  await chown(directory, await id('-u'), await id('-g'));
  return ['--user=mysql'];
};

const answers = async (port: number): Promise<boolean> => {
  try {
    const connection = await createConnection({ host: '127.0.0.1', port, user: 'root', connectTimeout: 1000 });
    await connection.end();
    return true;
  } catch {
    return false;
  }
};

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );
