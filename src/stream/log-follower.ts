/**
 * Follows the log from a seq: an async iterator over its transactions that never ends by itself.
 *
 * Guarantees: every transaction behind `after`, each once, in order; back-pressure by nature (nothing is read ahead but
 * one small page of the log); a slow user delays nobody. Wakes by the notice; polls slowly where the notice cannot reach
 * (the log is written by another process). Ends when the signal is aborted. Throws SINK_CHECKPOINT_UNKNOWN where
 * retention overtook it.
 */
import type { LoggedTransaction } from '../log/logged-transaction.ts';
import type { LogReader, ReadLimits } from '../log/log-reader.ts';
import { HeadNotice } from './head-notice.ts';

export interface LogFollowerOptions {
  /** Not closed by the follower. */
  readonly reader: LogReader;
  /** Transactions behind this seq; 0: from the beginning. */
  readonly after: number;
  readonly signal?: AbortSignal;
  /** Shared notice of this process; left out: the follower polls, and `notifyHead` wakes it. */
  readonly head?: HeadNotice;
  /** How often the log is looked at without a notice. */
  readonly pollMs?: number;
  readonly limits?: ReadLimits;
}

const POLL_MS = 500;
const PAGE: ReadLimits = { maxTransactions: 256, maxBytes: 512 * 1024 };

export class LogFollower implements AsyncIterable<LoggedTransaction> {
  readonly #options: LogFollowerOptions;
  readonly #head: HeadNotice;

  constructor(options: LogFollowerOptions) {
    this.#options = options;
    this.#head = options.head ?? new HeadNotice();
  }

  /** Capture appended up to this seq. */
  notifyHead(seq: number): void {
    this.#head.notify(seq);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<LoggedTransaction, void, undefined> {
    const { reader, signal, limits = PAGE, pollMs = POLL_MS } = this.#options;
    let seq = this.#options.after;
    const stopped = (): boolean => signal?.aborted ?? false;
    while (!stopped()) {
      const page = reader.transactionsAfter(seq, limits);
      for (const transaction of page) {
        if (stopped()) return;
        yield transaction;
        seq = transaction.info.lastSeq;
      }
      if (page.length === 0) await this.#head.waitBehind(seq, { timeoutMs: pollMs, signal });
    }
  }
}
