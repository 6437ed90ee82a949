/** A MariaDB for the tests of one file, and what they ask of it and of its sinks. */
import { type Connection, createConnection, type RowDataPacket } from 'mysql2/promise';
import { afterAll, beforeAll, expect } from 'vitest';
import { WaggleError } from '../../src/support/errors.ts';
import { type MariadbServer, mariadbBinary, startMariadb } from '../helpers/mariadb-server.ts';
import { serversRequired } from '../helpers/postgres-server.ts';
import { EXACT } from './mysql-rows.ts';

export const MARIADB_ABSENT = (await mariadbBinary()) === null && !serversRequired();

export class MysqlScene {
  #server: MariadbServer | null = null;
  #admin: Connection | null = null;

  /** Started before the tests of the `describe` that this is called in, stopped behind them. */
  static use(args: readonly string[] = []): MysqlScene {
    const scene = new MysqlScene();
    beforeAll(async () => {
      scene.#server = await startMariadb(args);
      await scene.connect();
    }, 60_000);
    afterAll(async () => {
      await scene.#admin?.end();
      await scene.#server?.stop();
    });
    return scene;
  }

  get server(): MariadbServer {
    return this.#server!;
  }

  get admin(): Connection {
    return this.#admin!;
  }

  /** Anew, after the server was killed. */
  async connect(): Promise<void> {
    this.#admin?.destroy();
    this.#admin = await createConnection({ uri: this.server.url, ...EXACT });
  }

  async run(sql: string): Promise<void> {
    await this.admin.query(sql);
  }

  /** Every value as text. */
  async select(sql: string): Promise<RowDataPacket[]> {
    return (await this.admin.query<RowDataPacket[]>({ sql, typeCast: (field) => field.string() }))[0];
  }

  async typesOf(table: string): Promise<Record<string, string>> {
    return Object.fromEntries((await this.select(`SHOW COLUMNS FROM ${table}`)).map((row) => [row['Field'], row['Type'].replace(/\(20\)$/, '')]));
  }
}

/** The error of a sink, which shows neither values nor the password. */
export const sinkFailure = async (call: Promise<unknown>): Promise<WaggleError> => {
  const error: unknown = await call.then(
    () => null,
    (reason: unknown) => reason,
  );
  if (!(error instanceof WaggleError)) throw new Error(`no WaggleError: ${String(error)}`);
  expect(JSON.stringify([error.message, error.cause ?? null, error.stack])).not.toMatch(/SECRET|hunter2/);
  return error;
};
