/** Starts capture in a thread or a process of its own and speaks with it. */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { RawChange } from '../change/change-codec.ts';
import { Row } from '../change/row.ts';
import type { RowPlace, Table, TextEncoding } from '../change/table.ts';
import { WaggleError } from '../support/errors.ts';
import type { CaptureOptions, EncodedRows, FromCapture, ToCapture } from './protocol.ts';

const ENTRY = new URL(import.meta.url.endsWith('.ts') ? './entry.ts' : './entry.js', import.meta.url);

export type CaptureReady = Extract<FromCapture, { type: 'ready' }>;

export interface CaptureListeners {
  /** The log's head has moved. */
  readonly onHead?: (seq: number) => void;
  /** Capture began, or began again after a gap. */
  readonly onReady?: (ready: CaptureReady) => void;
  /** Something went wrong that capture mends by itself. */
  readonly onWarning?: (error: WaggleError) => void;
  readonly onKeeper?: (stats: Extract<FromCapture, { type: 'keeper' }>['stats']) => void;
}

/** Rows of a table at one position of the log. */
export interface RowChunk {
  readonly table: Table;
  readonly rows: EncodedRowList;
  readonly asOf: { readonly seq: number; readonly txid: string };
  readonly generation: string;
  readonly done: boolean;
  readonly share: number;
}

interface Channel {
  post(message: ToCapture): void;
}

export class CaptureClient implements AsyncDisposable {
  /** Resolves with the first `ready`, rejects if capture cannot begin. */
  readonly ready: Promise<CaptureReady>;
  /** Resolves when capture has ended: null after `stop`, else why. Never rejects. */
  readonly ended: Promise<WaggleError | null>;
  readonly #channel: Channel;
  readonly #waiting = new Map<number, PromiseWithResolvers<EncodedRows | null>>();
  #nextId = 1;
  /** What capture was told last. */
  #keptAfter: number | null | undefined;
  #hasEnded = false;

  private constructor(open: (receive: (message: FromCapture) => void, died: (how: string) => void) => Channel, listeners: CaptureListeners) {
    const ready = Promise.withResolvers<CaptureReady>();
    const ended = Promise.withResolvers<WaggleError | null>();
    this.ready = ready.promise;
    this.ended = ended.promise;
    ready.promise.catch(() => {});
    const end = (error: WaggleError | null): void => {
      if (this.#hasEnded) return;
      this.#hasEnded = true;
      const reason = error ?? new WaggleError('CAPTURE_DIED', 'capture was stopped');
      ready.reject(reason);
      for (const waiting of this.#waiting.values()) waiting.reject(reason);
      ended.resolve(error);
    };
    this.#channel = open(
      (message) => {
        switch (message.type) {
          case 'ready':
            ready.resolve(message);
            listeners.onReady?.(message);
            listeners.onHead?.(message.headSeq);
            break;
          case 'head':
            listeners.onHead?.(message.seq);
            break;
          case 'rows':
            this.#answer(message);
            break;
          case 'warning':
            listeners.onWarning?.(WaggleError.fromJSON(message.error));
            break;
          case 'keeper':
            listeners.onKeeper?.(message.stats);
            break;
          case 'failed':
            end(WaggleError.fromJSON(message.error));
            break;
          case 'stopped':
            end(null);
            break;
        }
      },
      (how) => end(new WaggleError('CAPTURE_DIED', `capture ended: ${how}`)),
    );
  }

  /** In a thread of this process. Not for a process that itself has the hive open through SQLite. */
  static inThread(options: CaptureOptions, listeners: CaptureListeners = {}): CaptureClient {
    return new CaptureClient((receive, died) => {
      const worker = new Worker(ENTRY, { workerData: options, name: 'capture' });
      worker.on('message', receive);
      worker.on('error', (error) => died(error instanceof Error ? (error.stack ?? error.message) : String(error)));
      worker.on('exit', (code) => died(`exit status ${code}`));
      return { post: (message) => worker.postMessage(message) };
    }, listeners);
  }

  /** In a process of its own, so that the locks of a SQLite connection in this process stay untouched. */
  static inProcess(options: CaptureOptions, listeners: CaptureListeners = {}): CaptureClient {
    return new CaptureClient((receive, died) => {
      const child = fork(fileURLToPath(ENTRY), [JSON.stringify(options)], {
        execArgv: [],
        serialization: 'advanced',
        stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      });
      child.on('message', (message) => receive(message as FromCapture));
      child.on('error', (error) => died(error.message));
      child.on('exit', (code, signal) => died(signal ?? `exit status ${code}`));
      return { post: (message) => void (child.connected && child.send(message, () => {})) };
    }, listeners);
  }

  /** Throws if the table is not captured (any more): `rows` is then empty and `table` null. */
  async readRows(table: string, after: RowPlace | null, maxBytes: number): Promise<RowChunk | null> {
    if (this.#hasEnded) throw new WaggleError('CAPTURE_DIED', 'capture has ended');
    const id = this.#nextId++;
    const waiting = Promise.withResolvers<EncodedRows | null>();
    this.#waiting.set(id, waiting);
    this.#channel.post({ type: 'rows', id, table, after, maxBytes });
    const chunk = await waiting.promise;
    return chunk === null ? null : decodeChunk(chunk);
  }

  /** Retention must keep what lies behind this seq; null: nobody needs anything. */
  keepAfter(seq: number | null): void {
    if (seq === this.#keptAfter) return;
    this.#keptAfter = seq;
    this.#channel.post({ type: 'keepAfter', seq });
  }

  /** Orderly end: what is committed is in the log when it resolves. */
  async stop(): Promise<WaggleError | null> {
    if (!this.#hasEnded) this.#channel.post({ type: 'stop' });
    return this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #answer(message: Extract<FromCapture, { type: 'rows' }>): void {
    const waiting = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if (message.error === null) waiting?.resolve(message.chunk);
    else waiting?.reject(WaggleError.fromJSON(message.error));
  }
}

const decodeChunk = (chunk: EncodedRows): RowChunk => {
  const { table, asOf, done, share } = chunk;
  return { table, rows: new EncodedRowList(chunk), asOf, generation: String(table.generation), done, share };
};

/** Rows as capture sent them, made anew for whoever walks over them: as objects that all live as long as their chunk each scavenge would copy them. */
class EncodedRowList implements Iterable<Row> {
  readonly length: number;
  readonly #table: Table;
  readonly #encoding: TextEncoding;
  readonly #parts: readonly Buffer[];
  readonly #last: Row | undefined;

  constructor({ table, encoding, parts }: EncodedRows) {
    this.#table = table;
    this.#encoding = encoding;
    this.#parts = parts.map((bytes) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    const raw = new RawChange();
    let length = 0;
    for (const part of this.#parts) for (let offset = 0; offset < part.length; length += 1) offset = raw.parse(part, offset);
    this.length = length;
    this.#last = length === 0 ? undefined : this.#row(raw, this.#parts.at(-1)!);
  }

  /** As of an array, but only the last one is at hand. */
  at(_index: -1): Row | undefined {
    return this.#last;
  }

  *[Symbol.iterator](): Generator<Row, void, undefined> {
    const raw = new RawChange();
    for (const part of this.#parts) {
      for (let offset = 0; offset < part.length;) {
        offset = raw.parse(part, offset);
        yield this.#row(raw, part);
      }
    }
  }

  #row({ rowid, afterStart, afterEnd }: RawChange, part: Buffer): Row {
    return new Row(this.#table, rowid, part, this.#encoding, afterStart, afterEnd);
  }
}
