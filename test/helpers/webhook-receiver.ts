/**
 * A real HTTP server that applies what a webhook sink posts into a SQLite database, in any of the three formats. Written from the formats'
 * description, not with the connector's code. Each request is applied in a transaction of its own before it is answered.
 */
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import Database from 'better-sqlite3';

export interface Received {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** What the receiver does with a request instead of applying it and answering 204. */
export type Behaviour =
  | { readonly status: number; readonly headers?: Record<string, string>; readonly body?: string; readonly apply?: boolean }
  /** The connection is destroyed, before or after the request was applied. */
  | { readonly cut: 'before' | 'after' }
  /** Answered when the promise resolves. */
  | { readonly wait: Promise<unknown> };

interface Write {
  readonly model: string;
  readonly op: 'put' | 'remove' | 'truncate';
  readonly id: string;
  readonly data: string;
}

export class WebhookReceiver implements AsyncDisposable {
  readonly requests: Received[] = [];
  /** Asked for each request; null: applied and accepted. */
  behave: (request: Received, index: number) => Behaviour | null = () => null;
  /** Requests that are being answered now, and the most there ever were. */
  running = 0;
  mostRunning = 0;
  readonly db: Database.Database = new Database(':memory:');
  #server: Server | null = null;
  #port = 0;

  private constructor() {
    this.db.exec('CREATE TABLE rows (model TEXT, id TEXT, data TEXT, writes INTEGER DEFAULT 1, PRIMARY KEY (model, id))');
  }

  static async start(): Promise<WebhookReceiver> {
    const receiver = new WebhookReceiver();
    await receiver.listen();
    return receiver;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}/in`;
  }

  /** Starts, or starts again on the same port. */
  async listen(): Promise<void> {
    const server = createServer((request, response) => void this.#answer(request, response));
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.#port, '127.0.0.1', resolve);
    });
    const address = server.address();
    this.#port = typeof address === 'object' && address !== null ? address.port : 0;
    this.#server = server;
  }

  /** The port is free and every connection cut; the rows stay. */
  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    if (server === null) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeAllConnections();
    await closed;
  }

  /** Rows of a model: each value as JSON text, digit for digit; null where the row has no such column. */
  rows(model: string, columns: readonly string[]): (string | null)[][] {
    const all = this.db.prepare<[string], string>('SELECT data FROM rows WHERE model = ? ORDER BY id').pluck().all(model);
    return all.map((text) => {
      const row = parseExact(text) as Record<string, unknown>;
      return columns.map((column) => (row[column] === undefined || row[column] === null ? null : JSON.stringify(row[column])));
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    this.db.close();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.running += 1;
    this.mostRunning = Math.max(this.mostRunning, this.running);
    try {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const received = { path: request.url ?? '', headers: request.headers, body: Buffer.concat(chunks).toString() };
      const behaviour = this.behave(received, this.requests.length);
      this.requests.push(received);
      await this.#act(received, behaviour, response);
    } catch {
      // The sink went away in the middle of its request.
      response.destroy();
    } finally {
      this.running -= 1;
    }
  }

  async #act(received: Received, behaviour: Behaviour | null, response: ServerResponse): Promise<void> {
    if (behaviour !== null && 'cut' in behaviour) {
      if (behaviour.cut === 'after') this.#apply(received);
      response.destroy();
      return;
    }
    if (behaviour !== null && 'wait' in behaviour) await behaviour.wait;
    const { status, headers = {}, body = '', apply = false } = behaviour !== null && 'status' in behaviour ? behaviour : { status: 204, apply: true };
    if (apply) this.#apply(received);
    response.writeHead(status, headers).end(body);
  }

  #apply(received: Received): void {
    const put = this.db.prepare(
      'INSERT INTO rows (model, id, data) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET data = excluded.data, writes = writes + 1',
    );
    this.db.transaction(() => {
      for (const { model, op, id, data } of writesOf(received)) {
        if (op === 'put') put.run(model, id, data);
        else if (op === 'remove') this.db.prepare('DELETE FROM rows WHERE model = ? AND id = ?').run(model, id);
        else if (data === 'null' || data === '{}') this.db.prepare('DELETE FROM rows WHERE model = ?').run(model);
        else this.#mark(model, data);
      }
    })();
  }

  /** All rows stay; those that have NULL in this column get its value. */
  #mark(model: string, data: string): void {
    const [column] = Object.keys(JSON.parse(data) as object);
    this.db.prepare('UPDATE rows SET data = json_patch(data, ?) WHERE model = ? AND data ->> ? IS NULL').run(data, model, column);
  }
}

const writesOf = ({ path, body }: Received): Write[] => {
  const parsed = parseExact(body) as Record<string, unknown>;
  if (Array.isArray(parsed)) return parsed.flatMap(ofEvent);
  const { model, operation, records } = parsed as { model: string; operation: string; records?: Record<string, unknown>[] };
  if (path.endsWith('/sync/batch') !== (records !== undefined)) throw new Error(`a body of another path than ${path}`);
  return (records ?? [parsed]).map((record) => ({
    model,
    op: OPERATIONS[operation]!,
    id: JSON.stringify(record['recordId'] ?? record['hiveId']),
    data: JSON.stringify(record['data']),
  }));
};

const OPERATIONS: Readonly<Record<string, Write['op']>> = {
  create: 'put',
  update: 'put',
  delete: 'remove',
  add: 'put',
  set: 'put',
  remove: 'remove',
  truncate: 'truncate',
};

const ofEvent = (event: { op: string; key: unknown; after: unknown; source: { table: string } }): Write[] => {
  if (event.op === 's') return [];
  const op = event.op === 't' ? 'truncate' : event.op === 'd' ? 'remove' : 'put';
  return [{ model: event.source.table, op, id: JSON.stringify(event.key), data: JSON.stringify({ ...(event.after as object), ...keyOf(event) }) }];
};

/** The rowid of a table without a key stands in the event's key alone. */
const keyOf = ({ key }: { key: unknown }): object => {
  const { waggle_rowid: rowid } = (key ?? {}) as { waggle_rowid?: unknown };
  return rowid === undefined ? {} : { waggle_rowid: rowid };
};

/** Numbers stay the digits that they were: `JSON.stringify` gives them back. */
const parseExact = (text: string): unknown =>
  JSON.parse(text, ((_key: string, value: unknown, context: { source?: string }) => (typeof value === 'number' ? raw(context.source!) : value)) as (
    key: string,
    value: unknown,
  ) => unknown);

const raw = (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON;
