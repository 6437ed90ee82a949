/** A Session over a connection of `pg`. */
import { Client, type QueryResult } from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import type { SinkContext } from '../../src/pipeline/sink.ts';
import type { ResultRow, Running, Session } from './session.ts';

const CONNECT_TIMEOUT_MS = 10_000;
const CLOSE_TIMEOUT_MS = 2_000;

/** Connects. Rejects with the driver's error; the URL and its password never stand in one. */
export const openPgSession = async (url: string, context: SinkContext): Promise<Session> => {
  const client = new Client({
    connectionString: url,
    application_name: `waggle ${context.name}`.slice(0, 63),
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
  });
  // A connection that is cut while nothing is asked of it: the next query tells.
  client.on('error', (error) => context.logger.debug({ code: 'code' in error ? error.code : null }, 'connection lost'));
  try {
    await client.connect();
  } catch (error) {
    await closeClient(client);
    throw error;
  }
  return new PgSession(client, context.signal);
};

class PgSession implements Session {
  readonly #client: Client;
  readonly #signal: AbortSignal;
  // What the server works on when the daemon gives up must not hold it up.
  readonly #cut = (): void => void this.#client.connection.stream.destroy();

  constructor(client: Client, signal: AbortSignal) {
    this.#client = client;
    this.#signal = signal;
    signal.addEventListener('abort', this.#cut, { once: true });
  }

  async query(sql: string, parameters: readonly (string | null)[], name?: string): Promise<ResultRow[]> {
    const result = await this.#client.query<ResultRow>({ text: sql, values: [...parameters], ...(name === undefined ? {} : { name }) });
    return result.rows;
  }

  async script(sql: string): Promise<ResultRow[]> {
    const result: unknown = await this.#client.query(sql);
    const results = (Array.isArray(result) ? result : [result]) as QueryResult<ResultRow>[];
    return results.findLast((one) => one.fields.length > 0)?.rows ?? [];
  }

  copy(script: (source: string) => string, text: string): Running {
    const stream = this.#client.query(copyFrom(script('STDIN')));
    const sent = Promise.withResolvers<void>();
    const done = Promise.withResolvers<void>();
    let failed = false;
    stream.once('finish', done.resolve).on('error', (error) => {
      failed = true;
      sent.resolve();
      done.reject(error);
    });
    // Called back when the server has asked for the data, and the socket has taken them. Behind an error, which may come with the asking, the stream has
    // no connection any more and cannot be ended.
    stream.write(text, () => {
      sent.resolve();
      if (!failed) stream.end();
    });
    return { sent: sent.promise, done: done.promise };
  }

  close(): Promise<void> {
    this.#signal.removeEventListener('abort', this.#cut);
    return closeClient(this.#client);
  }
}

// The server rolls back what is open. A server that no longer answers must not hold up the end.
const closeClient = async (client: Client): Promise<void> => {
  const timer = setTimeout(() => client.connection.stream.destroy(), CLOSE_TIMEOUT_MS);
  await client.end().catch(() => {});
  clearTimeout(timer);
};
