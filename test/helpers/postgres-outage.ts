/** Stops and starts a PostgresServer's cluster as an administrator would: same data, same port. */
import { execFile } from 'node:child_process';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Client } from 'pg';
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

  async start(): Promise<void> {
    await this.#control(['-l', join(this.#data, '..', 'log'), '-o', this.#options, 'start']);
  }

  async #control(args: readonly string[]): Promise<void> {
    const command = [join((await postgresBinaries())!, 'pg_ctl'), '-D', this.#data, '-w', ...args];
    const { uid, gid } = await stat(this.#data);
    const asOwner = process.getuid?.() === uid ? command : ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', ...command];
    await run(asOwner[0]!, asOwner.slice(1), { cwd: this.#data });
  }
}
