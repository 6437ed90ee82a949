/** `watch`: the stream as a library. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { CaptureClient } from './capture/capture-client.ts';
import { TableMapping } from './pipeline/mapping.ts';
import { HeadNotice } from './stream/head-notice.ts';
import { type WatchedCapture, type WatchedTransaction, watchTransactions } from './stream/watch.ts';
import { prepareStateDirectory, StateLock } from './support/state-lock.ts';
import { VERSION } from './support/version.ts';

export interface WatchHiveOptions {
  /**
   * Where log and mirror are kept, so that a later call can go on with `after`. Left out: a temporary directory that goes
   * with the iteration.
   */
  readonly state?: string;
  /** Transactions behind this seq; `now` (default): those that commit from now on. 0: from the log's beginning. */
  readonly after?: number | 'now';
  /** Which tables; left out: all. `*` stands for any characters. */
  readonly tables?: { readonly include?: readonly string[]; readonly exclude?: readonly string[] };
  /**
   * How much of what was handed over the log keeps, for a later `after`. Default: a day and 1 GB; with a temporary `state` 64 MB. What
   * was not handed over yet is kept whatever its size.
   */
  readonly retention?: { readonly maxAgeMs?: number; readonly maxBytes?: number };
  /** The hive's name in events. Default: `main`. */
  readonly name?: string;
  readonly signal?: AbortSignal;
}

const MAX_WAL_BYTES = 16 * 1024 * 1024;
/** It ends with the iteration. */
const KEEPER = { outlive: false, spoolBytes: 1e9, patienceMs: 0 };
const DAY_MS = 86_400_000;
const KEPT_BYTES = 1e9;
const TEMPORARY_BYTES = 64e6;
/** How often capture is told what was handed over. */
const TELL_EVERY_MS = 1000;

/**
 * Committed transactions of a SQLite file in WAL mode, in commit order, each once.
 *
 *     for await (const transaction of watch('app.sqlite')) {
 *       for (const event of transaction.events()) console.log(event.op, event.source.table, event.after);
 *     }
 *
 * Safe inside the application's own process: capture runs in a process of its own, and this one opens nothing but waggle's log.
 * (POSIX locks belong to a process: if capture opened and closed the hive's files here, the locks of the application's
 * SQLite connections would silently vanish.) Do not load other code of waggle into the application's process.
 *
 * Back-pressure: the next transaction is read when it is asked for; what waits lies in the log on disk. A slow user never delays
 * capture or the application. Leaving the loop, or aborting the signal, ends capture in an orderly way.
 *
 * Throws a WaggleError: HIVE_… if the file cannot be captured, STATE_… for the state directory, SINK_CHECKPOINT_UNKNOWN if
 * the log no longer holds what follows `after`, and whatever ends capture later.
 */
export const watch = (file: string, options: WatchHiveOptions = {}): AsyncGenerator<WatchedTransaction, void, undefined> => {
  const mapping = new TableMapping({ filters: options.tables === undefined ? [] : [options.tables] });
  return watchTransactions({
    start: () => startCapture(file, options),
    after: options.after ?? 'now',
    project: (change) => mapping.change(change),
    context: { hive: options.name ?? 'main', version: VERSION },
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
};

const startCapture = async (file: string, options: WatchHiveOptions): Promise<WatchedCapture> => {
  await using stack = new AsyncDisposableStack();
  const stateDir = options.state === undefined ? temporaryState(stack) : resolve(options.state);
  prepareStateDirectory(stateDir);
  stack.use(StateLock.acquire(stateDir));
  const head = new HeadNotice();
  const failed = new AbortController();
  const capture = stack.use(
    CaptureClient.inProcess(
      {
        hive: resolve(file),
        stateDir,
        durability: 'os',
        onGap: 'snapshot',
        tables: { include: null, exclude: [] },
        maxWalBytes: MAX_WAL_BYTES,
        keeper: KEEPER,
        retention: {
          maxAgeMs: options.retention?.maxAgeMs ?? DAY_MS,
          maxBytes: options.retention?.maxBytes ?? (options.state === undefined ? TEMPORARY_BYTES : KEPT_BYTES),
        },
      },
      { onHead: (seq) => head.notify(seq) },
    ),
  );
  void capture.ended.then((error) => {
    if (error !== null) failed.abort(error);
  });
  await capture.ready;
  let toldAtMs = 0;
  const delivered = (seq: number): void => {
    if (Date.now() - toldAtMs < TELL_EVERY_MS) return;
    toldAtMs = Date.now();
    capture.keepAfter(seq);
  };
  const held = stack.move();
  return { logPath: join(stateDir, 'log.db'), head, failed: failed.signal, delivered, [Symbol.asyncDispose]: () => held.disposeAsync() };
};

const temporaryState = (stack: AsyncDisposableStack): string => {
  const path = mkdtempSync(join(tmpdir(), 'waggle-watch-'));
  stack.defer(() => rmSync(path, { recursive: true, force: true }));
  return path;
};
