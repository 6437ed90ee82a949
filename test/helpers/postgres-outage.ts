/** Stops and starts a PostgresServer's cluster as an administrator would: same data, same port. */
import { execFile } from 'node:child_process';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Client } from 'pg';
import { until } from './until.ts';
import { postgresBinaries, type PostgresServer } from './postgres-server.ts';

const run = promisify(execFile);

export class PostgresOutage {
  readonly #data: string;
  readonly #options: string;

  private constructor(data: string, options: string) {
    this.#data = data;
    this.#options = options;
  }

  static async of(server: PostgresServer): Promise<PostgresOutage> {
    const client = new Client({ connectionString: server.url });
    await client.connect();
    const { rows } = await client.query<{ data_directory: string }>('SHOW data_directory');
    await client.end();
    const data = rows[0]!.data_directory;
    // The command line of the running server, in quotes; its own program first, then -D.
    const words = [...(await readFile(join(data, 'postmaster.opts'), 'utf8')).matchAll(/"([^"]*)"/g)].map(([, word]) => word!);
    const own = words.indexOf('-D');
    return new PostgresOutage(data, (own === -1 ? words : words.toSpliced(own, 2)).join(' '));
  }

  /** Every connection is cut. */
  async stop(): Promise<void> {
    await this.#control(['-m', 'immediate', 'stop']);
  }

  /** SIGKILL of the postmaster: every connection is cut as soon as the server's other processes see it. */
  async kill(): Promise<void> {
    const pid = Number((await readFile(join(this.#data, 'postmaster.pid'), 'utf8')).split('\n')[0]);
    process.kill(pid, 'SIGKILL');
  }

  async start(): Promise<void> {
    const start = (): Promise<void> => this.#control(['-l', join(this.#data, '..', 'log'), '-o', this.#options, 'start']);
    // Refused while processes of a killed server still hold its memory.
    await until(
      'Postgres to start',
      () =>
        start().then(
          () => true,
          () => false,
        ),
      { everyMs: 100 },
    );
  }

  async #control(args: readonly string[]): Promise<void> {
    const command = [join((await postgresBinaries())!, 'pg_ctl'), '-D', this.#data, '-w', ...args];
    const { uid, gid } = await stat(this.#data);
    const asOwner = process.getuid?.() === uid ? command : ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', ...command];
    await run(asOwner[0]!, asOwner.slice(1), { cwd: this.#data });
  }
}
