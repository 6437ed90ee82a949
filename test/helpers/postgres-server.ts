/** A real PostgreSQL for tests: a fresh cluster in a temporary directory, on its own port, gone with `stop`. */
import { execFile } from 'node:child_process';
import { chown, mkdtemp, readdir, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface PostgresServer {
  readonly port: number;
  /** URL of the database `postgres`, as superuser. */
  readonly url: string;
  stop(mode?: 'fast' | 'immediate'): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Directory with initdb and pg_ctl: WAGGLE_POSTGRES_BIN (empty: as if there were none), Debian's newest, or null where none is installed. */
export const postgresBinaries = async (): Promise<string | null> => {
  const chosen = process.env['WAGGLE_POSTGRES_BIN'];
  if (chosen !== undefined) return chosen === '' ? null : chosen;
  const versions = await readdir('/usr/lib/postgresql').catch(() => []);
  const newest = versions
    .map(Number)
    .filter(Number.isInteger)
    .sort((a, b) => b - a)[0];
  return newest === undefined ? null : `/usr/lib/postgresql/${newest}/bin`;
};

/** Tests that need the server are skipped by name where it is absent; WAGGLE_REQUIRE_SERVERS=1 makes them fail instead. */
export const serversRequired = (): boolean => process.env['WAGGLE_REQUIRE_SERVERS'] === '1';

export const startPostgres = async (): Promise<PostgresServer> => {
  const binaries = await postgresBinaries();
  if (binaries === null) throw new Error('PostgreSQL is not installed: apt-get install -y --no-install-recommends postgresql');
  const directory = await mkdtemp(join(tmpdir(), 'waggle-postgres-'));
  const user = await postgresUser();
  // initdb and the server refuse to run as root.
  if (user !== null) await chown(directory, user.uid, user.gid);
  const asUser = (command: string, args: readonly string[]): Promise<unknown> =>
    user === null
      ? run(join(binaries, command), args)
      : run('setpriv', [`--reuid=${user.uid}`, `--regid=${user.gid}`, '--clear-groups', join(binaries, command), ...args], { cwd: directory });
  const data = join(directory, 'data');
  await asUser('initdb', ['-D', data, '-U', 'postgres', '--auth=trust', '-E', 'UTF8', '--locale=C.UTF-8', '--no-sync']);
  const port = await freePort();
  const settings = `-p ${port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=${directory} -c wal_level=logical -c fsync=off -c max_connections=50`;
  await asUser('pg_ctl', ['-D', data, '-w', '-l', join(directory, 'log'), '-o', settings, 'start']);
  let stopped = false;
  const stop = async (mode: 'fast' | 'immediate' = 'immediate'): Promise<void> => {
    if (stopped) return;
    stopped = true;
    await asUser('pg_ctl', ['-D', data, '-m', mode, '-w', 'stop']);
    await rm(directory, { recursive: true, force: true });
  };
  return { port, url: `postgres://postgres@127.0.0.1:${port}/postgres`, stop, [Symbol.asyncDispose]: () => stop() };
};

const postgresUser = async (): Promise<{ uid: number; gid: number } | null> => {
  if (process.getuid?.() !== 0) return null;
  const id = async (flag: string): Promise<number> => Number((await run('id', [flag, 'postgres'])).stdout);
  return { uid: await id('-u'), gid: await id('-g') };
};

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
