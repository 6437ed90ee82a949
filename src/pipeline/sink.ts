/**
 * The sink contract: what a connector implements. A connector imports this file and the words of `src/change`
 * and `src/support`, nothing else of `src`.
 */
import type { Logger } from 'pino';
import type { Change, Checkpoint } from '../change/change.ts';
import type { Affinity, Value } from '../change/table.ts';
import { WaggleError, type WaggleErrorOptions } from '../support/errors.ts';

export interface Sink {
  /**
   * `number` (default): INTEGER values come as number where safe, else bigint. `bigint`: always bigint, so that
   * INTEGER 1 and REAL 1.0 can be told apart.
   */
  readonly integers?: 'number' | 'bigint';
  /**
   * `states`: the runner coalesces each part to the last state of each key (c and u become the same upsert, a later
   * d wins). `changes`: every change in log order, with before images.
   */
  readonly wants: 'states' | 'changes';
  /** Default of `batch.rows`; left out: 20,000. Fewer where a batch that was broken off comes again from its beginning, or where the target keeps it in memory. */
  readonly batchRows?: number;
  /**
   * While open: names the place in which the sink's tables stand, as the target itself knows it, whatever address it was reached by. Two sinks must
   * not write one table of one place. Left out or null: it keeps none, or the target does not tell.
   */
  readonly place?: string | null;
  /** Connects, prepares, tells the checkpoint kept in the target (null: none, an empty sink). Called again after an error. */
  open(context: SinkContext): Promise<Checkpoint | null>;
  /**
   * Applies the batch together with `batch.checkpoint`, atomically where the target can. Resolves when durable.
   * Throws a WaggleError (SINK_*): `retryable` tells the runner whether to back off and try the same batch again.
   * After a throw the runner calls `close` and `open` before the next `apply`.
   */
  apply(batch: Batch): Promise<void>;
  /**
   * Does what `apply` does, with everything that the target checks at a commit, and then takes it all back. The runner looks with it for the row
   * that the target refuses. When it resolves the sink is open and at its checkpoint as before; a throw is as that of `apply`.
   * Left out where nothing can be taken back (no transactions, or DDL commits): such a sink names the row itself, with a RowRefusedError.
   */
  rehearse?(batch: Batch): Promise<void>;
  /** What `verify` and `resync` need. Left out where the target cannot be read. */
  readonly audit?: SinkAudit;
  close(): Promise<void>;
}

/**
 * Reading back what the target holds. Called on an open sink, never while `apply` runs, and errors are as those of `apply`: the runner closes and opens
 * the sink before it is used again. Nothing is written. A table that the target does not have (yet) has no rows.
 */
export interface SinkAudit {
  /** `compare` may be called again before it has answered, so that the target compares some rows while the next ones are made ready. */
  readonly pipelined?: true;
  /** Which of these rows (values in column order, every key once) the target does not hold just as `apply` would write them; indexes into `rows`. */
  compare(table: SinkTable, rows: readonly (readonly Value[])[]): Promise<RowDifferences>;
  /**
   * For each of these rows (as of `compare`, few of them) the columns in which the target's row differs; none for a row that the target does not
   * have. For people: `found` may be any form that tells the value. Left out where it cannot be told.
   */
  differences?(table: SinkTable, rows: readonly (readonly Value[])[]): Promise<readonly (readonly ColumnDifference[])[]>;
  /** How many rows the target table has. */
  count(table: SinkTable): Promise<number>;
  /**
   * Keys of the target's rows, in an order of its own, those behind `after` (null: from the first), at most `limit` of them. Fewer: that was all.
   * Rejects with SINK_NOT_READABLE, and stays open, where keys do not come back as the hive writes them (a timestamp as a key).
   */
  keys(table: SinkTable, after: readonly Value[] | null, limit: number): Promise<(readonly Value[])[]>;
}

export interface RowDifferences {
  readonly missing: readonly number[];
  /** There, but not as they should be. */
  readonly changed: readonly number[];
}

export interface ColumnDifference {
  /** Index into the table's columns. */
  readonly column: number;
  /** What the row should have there. */
  readonly wanted: Value;
  /** What the target has there. */
  readonly found: Value;
}

/** SINK_ROW_REFUSED from a sink that knows which change the target refuses. The runner then needs no search, and no `rehearse`. */
export class RowRefusedError extends WaggleError {
  readonly change: SinkRowChange;

  constructor(change: SinkRowChange, message: string, options: WaggleErrorOptions = {}) {
    super('SINK_ROW_REFUSED', message, options);
    this.change = change;
  }
}

export interface SinkContext {
  /** The sink's name in the configuration: the key of its checkpoint in the target. */
  readonly name: string;
  /** The hive's name, for `source.name` of envelopes. */
  readonly hive: string;
  readonly logger: Logger;
  /** Aborted when the daemon stops and no longer waits for the sink: give up what is running. (An orderly end first lets `apply` finish.) */
  readonly signal: AbortSignal;
  /** Directory of this sink in the state directory (exists, 0700), for targets that cannot keep a checkpoint. */
  readonly stateDir: string;
}

export interface Batch {
  /**
   * The changes in order; each part holds some thousand. A transaction can span parts, a part several transactions.
   * Nothing of it needs to be kept in memory: a sink that had to take all back asks for it again, from the beginning.
   */
  readonly parts: () => AsyncIterable<SinkChange[]>;
  /** `seq` and `txid` are final when the parts have come to their end. */
  readonly checkpoint: Checkpoint;
}

/**
 * What the user says a column is (`types` in the configuration); values of it have been checked and have one form, so that a target with such a
 * type takes them as they are, and one without keeps them as they come.
 *
 *     timestamp  TEXT `2026-11-21T10:00:00.123Z`: UTC, any number of fractional digits   timestamptz, BSON date, DATETIME(6)
 *     boolean    INTEGER 0 or 1                                                           boolean, TINYINT(1)
 *     json       TEXT that is valid JSON                                                  jsonb, JSON, a document
 */
export type ColumnKind = 'timestamp' | 'boolean' | 'json';

/** A column as the target shall see it, after mapping. */
export interface SinkColumn {
  readonly name: string;
  /** Declared type in the hive ('' if none). */
  readonly type: string;
  readonly affinity: Affinity;
  readonly notNull: boolean;
  /** DEFAULT of the hive as a constant value; null: none or not constant. */
  readonly defaultValue: Value;
  /** True for values that are always 64-bit integers: INTEGER PRIMARY KEY, the added rowid, INTEGER of STRICT tables. */
  readonly alwaysInteger: boolean;
  /** Left out: whatever its declared type says. */
  readonly kind?: ColumnKind;
  /** Tells of the last change, not of the row (`$seq`, `$txid`, `$ts`, `$op`): a filled row and a streamed one differ in it, so it is nothing to compare. */
  readonly volatile?: true;
  /** The added rowid of a table without a declared key: not a column of the hive. Always the first one. */
  readonly rowid?: true;
}

/**
 * A table as the target shall see it. One object per (source table version, mapping): compare by identity to notice a
 * new version. A table without a declared key gets the leading column `waggle_rowid` as its key.
 */
export interface SinkTable {
  /** Name in the target. */
  readonly name: string;
  /** Name in the hive. */
  readonly source: string;
  readonly columns: readonly SinkColumn[];
  /** Indexes into `columns`, in key order. Never empty. */
  readonly key: readonly number[];
  /** Every change is a row of its own, never updated or deleted: the target holds more than the hive. */
  readonly history?: true;
  /** Index of the column that is not NULL in rows that the hive has no more (soft deletes). */
  readonly deletedAt?: number;
}

export interface SinkRowChange {
  readonly op: 'c' | 'u' | 'd' | 'r';
  readonly table: SinkTable;
  /** Values of the key columns, in key order. */
  readonly key: readonly Value[];
  /** Values in column order; null for c and r, and for every op where the sink wants states. */
  readonly before: readonly Value[] | null;
  /** Values in column order; null for d. */
  readonly after: readonly Value[] | null;
  readonly source: Change;
}

/**
 * All rows of the table are to go. Also sent by a first fill into a target that may hold surplus rows: in one batch with
 * the table's first existing rows (`source.seq` is null then).
 */
export interface SinkTruncateChange {
  readonly op: 't';
  readonly table: SinkTable;
  readonly source: Change;
  /** Present where deletes are soft: no row goes; this column gets this value in all rows in which it is NULL. */
  readonly mark?: { readonly column: number; readonly value: Value };
}

/**
 * Table created (`previous` null), altered, or dropped (`table` null: a sink keeps the empty target table). A sink that
 * wants states also gets a `created` when the first fill of a table begins (`source.seq` is null): the target table may exist.
 */
export interface SinkSchemaChange {
  readonly op: 's';
  readonly table: SinkTable | null;
  readonly previous: SinkTable | null;
  readonly source: Change;
}

export type SinkChange = SinkRowChange | SinkTruncateChange | SinkSchemaChange;
