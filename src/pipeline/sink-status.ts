/** What is told about a sink: by `waggle status`, whether the daemon runs or not. */
import type { Checkpoint } from '../change/change.ts';
import type { LogReader } from '../log/log-reader.ts';
import type { ErrorCode } from '../support/errors.ts';

/**
 *     opening ──► filling ──► streaming ──► closed      (orderly end)
 *        ▲           │            │
 *        │           ▼            ▼
 *        └──────── retrying ◄─────┴──► stopped           (an error that does not pass by itself)
 */
export type SinkState = 'opening' | 'filling' | 'streaming' | 'retrying' | 'stopped' | 'closed';

export interface SinkLag {
  /** Changes in the log behind the checkpoint. */
  readonly changes: number;
  /** Age of the oldest of them. */
  readonly seconds: number;
}

export interface SinkError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string;
  readonly atMs: number;
}

/** The last error of a sink that does not go on, and how long that has been so: also over restarts of the daemon, whatever the errors before it were. */
export interface SinkOutage extends SinkError {
  /** The first of the errors, since the sink last applied something or had nothing left to apply. */
  readonly sinceMs: number;
  /** How often it was tried since, each time with an error. */
  readonly tries: number;
}

export interface SinkStatus {
  readonly name: string;
  readonly state: SinkState;
  /** What the target durably has; null: not known yet. */
  readonly checkpoint: Checkpoint | null;
  /** Since the daemon started: changes of the log, transactions, batches. */
  readonly applied: { readonly changes: number; readonly transactions: number; readonly batches: number };
  /** At the time of `updatedAtMs`; whoever can read the log asks `sinkLag`. */
  readonly lag: SinkLag | null;
  readonly fill: {
    readonly table: string;
    readonly tablesDone: number;
    readonly tablesTotal: number;
    readonly rows: number;
    /** About how much of the table is filled, from 0 to 1. */
    readonly share: number;
    /** Since the sink was opened. */
    readonly rowsPerSecond: number;
    /** For the rest of the table; null: too early to tell. */
    readonly secondsLeft: number | null;
  } | null;
  /** What the sink has not got over yet; null: nothing. */
  readonly error: SinkOutage | null;
  /** When a retrying sink tries again. */
  readonly retryAtMs: number | null;
  readonly updatedAtMs: number;
}

/** Of a sink that was not opened yet by this daemon: where the last one left it. */
export const statusAtStart = (name: string, before: SinkStatus | null): SinkStatus => ({
  name,
  state: 'opening',
  checkpoint: before?.checkpoint ?? null,
  applied: { changes: 0, transactions: 0, batches: 0 },
  lag: null,
  fill: before?.fill ?? null,
  error: before?.error ?? null,
  retryAtMs: null,
  updatedAtMs: before?.updatedAtMs ?? 0,
});

/** How far behind the log's head a checkpoint is. Null: the checkpoint is not in this log. */
export const sinkLag = (reader: LogReader, checkpoint: Checkpoint, nowMs: number): SinkLag | null => {
  if (reader.check(checkpoint) !== 'exact') return null;
  const changes = reader.head().seq - checkpoint.seq;
  if (changes <= 0) return { changes: 0, seconds: 0 };
  const [oldest] = reader.transactionsAfter(checkpoint.seq, { maxTransactions: 1 });
  return { changes, seconds: oldest === undefined ? 0 : Math.max(0, nowMs - oldest.info.timestampUs / 1000) / 1000 };
};
