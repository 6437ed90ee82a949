/** A connection of `mysql2`, as the rest of this folder wants it. */
import { type Connection, createConnection, type RowDataPacket } from 'mysql2/promise';
import type { SinkContext } from '../../src/pipeline/sink.ts';
import type { Bound } from './column-type.ts';
import { databaseOf, type MysqlOptions } from './options.ts';

const CONNECT_TIMEOUT_MS = 10_000;
const CLOSE_TIMEOUT_MS = 2_000;
const DEFAULT_PORT = 3306;
/** Two statements of at most ten sizes a table: enough for fifty tables. The least recently used one is closed. */
const PREPARED_STATEMENTS = 1000;

/** All values as text. */
export type ResultRow = Readonly<Record<string, string | null>>;

export class Session {
  readonly #connection: Connection;
  readonly #signal: AbortSignal;
  // What the server works on when the daemon gives up must not hold it up.
  readonly #cut = (): void => this.#connection.destroy();

  private constructor(connection: Connection, signal: AbortSignal) {
    this.#connection = connection;
    this.#signal = signal;
    signal.addEventListener('abort', this.#cut, { once: true });
  }

  /** Connects. Rejects with the driver's error. */
  static async open(options: MysqlOptions, context: SinkContext): Promise<Session> {
    const { host, port, user, password } = addressOf(options);
    const connection = await createConnection({
      host,
      port,
      ...(user === undefined ? {} : { user }),
      ...(password === undefined ? {} : { password }),
      database: databaseOf(options) ?? '',
      charset: 'utf8mb4',
      multipleStatements: true,
      maxPreparedStatements: PREPARED_STATEMENTS,
      connectTimeout: CONNECT_TIMEOUT_MS,
      enableKeepAlive: true,
      keepAliveInitialDelay: 10_000,
      connectAttributes: { program_name: `waggle ${context.name}` },
      // A server that asks for a local file gets none.
      flags: ['-LOCAL_FILES'],
      typeCast: (field) => field.string(),
      ...(options.tls === undefined || options.tls === 'off' ? {} : { ssl: { rejectUnauthorized: options.tls === 'verify' } }),
    });
    // A connection that is cut while nothing is asked of it: the next query tells.
    connection.on('error', (error: Error) => context.logger.debug({ code: 'code' in error ? error.code : null }, 'connection lost'));
    return new Session(connection, context.signal);
  }

  /** One statement or several (`;`), without parameters, in one round trip. Gives the rows of the last one that has any. */
  async query(sql: string): Promise<ResultRow[]> {
    const [result] = await this.#connection.query<RowDataPacket[] | RowDataPacket[][]>(sql);
    if (!Array.isArray(result)) return [];
    const sets = (result as unknown[]).filter((one): one is ResultRow[] => Array.isArray(one));
    return sets.length > 0 ? sets.at(-1)! : (result as ResultRow[]).filter((row) => !isHeader(row));
  }

  /** A prepared statement; the server keeps it for the next time. */
  async execute(sql: string, parameters: Bound[]): Promise<void> {
    await this.#connection.execute(sql, parameters);
  }

  /** Ends an open transaction without a commit. Never throws. */
  async close(): Promise<void> {
    this.#signal.removeEventListener('abort', this.#cut);
    // A server that no longer answers must not hold up the end.
    const timer = setTimeout(() => this.#connection.destroy(), CLOSE_TIMEOUT_MS);
    await this.#connection.end().catch(() => this.#connection.destroy());
    clearTimeout(timer);
  }
}

// What a statement without rows gives, in the list of several statements.
const isHeader = (row: object): boolean => 'affectedRows' in row && 'serverStatus' in row;

interface Address {
  readonly host: string;
  readonly port: number;
  readonly user: string | undefined;
  readonly password: string | undefined;
}

const addressOf = ({ url, host, port, user, password }: MysqlOptions): Address => {
  if (url === undefined) return { host: host ?? 'localhost', port: port ?? DEFAULT_PORT, user, password };
  const parsed = new URL(url);
  const part = (text: string): string | undefined => (text === '' ? undefined : decodeURIComponent(text));
  return {
    host: parsed.hostname.replace(/^\[(.*)\]$/, '$1') || 'localhost',
    port: parsed.port === '' ? DEFAULT_PORT : Number(parsed.port),
    user: part(parsed.username),
    password: part(parsed.password),
  };
};

/** Host, port and database: what may stand in messages and logs. */
export const labelOf = (options: MysqlOptions): string => {
  if (options.url !== undefined && !URL.canParse(options.url)) return 'mysql';
  const { host, port } = addressOf(options);
  return `mysql ${host}:${port}/${databaseOf(options) ?? ''}`;
};
