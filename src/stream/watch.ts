/**
 * Changes as a library gives them: an async iterator over transactions of typed events.
 *
 * Capture runs in a process of its own, started by what is injected: inside the application's process, opening and
 * closing the hive's files would drop the application's own POSIX locks on them. This side only reads the log, so a slow
 * user delays neither capture nor the application; what was not taken yet waits in the log.
 */
import type { Change, TransactionInfo } from '../change/change.ts';
import { type EnvelopeEvent, envelopeObject } from '../change/envelope-object.ts';
import type { EnvelopeChange, EnvelopeContext } from '../change/envelope.ts';
import { LogReader } from '../log/log-reader.ts';
import type { LoggedTransaction } from '../log/logged-transaction.ts';
import type { HeadNotice } from './head-notice.ts';
import { LogFollower } from './log-follower.ts';

/** A capture that runs and keeps a log. */
export interface WatchedCapture extends AsyncDisposable {
  readonly logPath: string;
  /** Told each time the log has grown. */
  readonly head: HeadNotice;
  /** Told of each transaction that was handed over and is not needed any more. */
  readonly delivered: (seq: number) => void;
  /** Aborted with the error as its reason when capture ends by itself. */
  readonly failed: AbortSignal;
}

export interface WatchOptions {
  /** Resolves when capture stands in the log (its first position is written). Disposed of when the iteration ends. */
  readonly start: () => Promise<WatchedCapture>;
  /** Transactions behind this seq; `now` (default): those that commit from now on. */
  readonly after?: number | 'now';
  /**
   * A change as it is to be seen, or null (`TableMapping.change`: all tables but SQLite's own, or those of a filter). A
   * transaction without any change to be seen is not given.
   */
  readonly project: (change: Change) => EnvelopeChange | null;
  readonly context: EnvelopeContext;
  readonly signal?: AbortSignal;
}

/** One committed transaction. */
export interface WatchedTransaction extends TransactionInfo {
  /** Changes of the whole transaction, other tables included. */
  readonly changeCount: number;
  /** The events in order, read as they are asked for (a transaction may be larger than the memory). Can be called again. */
  events(): Iterable<EnvelopeEvent>;
}

/**
 * Every transaction behind `after`, in commit order, until the signal is aborted or the loop is left. Throws what ended
 * capture, and SINK_CHECKPOINT_UNKNOWN where the log no longer holds what follows `after`.
 */
export const watchTransactions = async function* (options: WatchOptions): AsyncGenerator<WatchedTransaction, void, undefined> {
  const { after = 'now' } = options;
  await using capture = await options.start();
  using reader = LogReader.open(capture.logPath);
  const signal = options.signal === undefined ? capture.failed : AbortSignal.any([options.signal, capture.failed]);
  const seq = after === 'now' ? reader.head().seq : after;
  for await (const transaction of new LogFollower({ reader, after: seq, head: capture.head, signal })) {
    const watched = watchedTransaction(transaction, options);
    if (!isEmpty(watched)) yield watched;
    capture.delivered(transaction.info.lastSeq);
  }
  if (options.signal?.aborted !== true && capture.failed.aborted) throw capture.failed.reason;
};

const watchedTransaction = (transaction: LoggedTransaction, { project, context }: WatchOptions): WatchedTransaction => ({
  ...transaction.info,
  changeCount: transaction.changeCount,
  *events(): Generator<EnvelopeEvent, void, undefined> {
    for (const changes of transaction.changes()) {
      for (const change of changes) {
        const mapped = project(change);
        if (mapped !== null) yield envelopeObject(mapped, context);
      }
    }
  },
});

const isEmpty = (transaction: WatchedTransaction): boolean => {
  for (const _ of transaction.events()) return false;
  return true;
};
