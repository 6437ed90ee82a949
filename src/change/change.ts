/**
 * The words of the domain: position, transaction, change, checkpoint. See DESIGN "Words"; one word for one thing.
 */
import type { Row } from './row.ts';
import type { Table } from './table.ts';

/**
 * A place in the hive's history: everything up to and including `frame` of generation `epoch` is taken.
 * Salts and the running checksum (of that frame, as SQLite stores it) prove that a WAL is still the same one.
 */
export interface Position {
  /** Counts WAL generations and file replacements, from 1. */
  readonly epoch: number;
  /** 1-based frame number inside the generation; 0: nothing of it taken yet. */
  readonly frame: number;
  readonly salt1: number;
  readonly salt2: number;
  readonly checksum1: number;
  readonly checksum2: number;
}

/** What is known of a committed transaction apart from its changes. */
export interface TransactionInfo {
  /** `epoch:frame` of its commit frame. */
  readonly txid: string;
  readonly epoch: number;
  readonly frame: number;
  readonly firstSeq: number;
  readonly lastSeq: number;
  /** When waggle saw the commit, microseconds since 1970 (the WAL knows no time). */
  readonly timestampUs: number;
  /** Who made it: null for the application, else the peer it was replicated from. */
  readonly origin: string | null;
  /** True: the net effect of a time in which nothing held the WAL (DESIGN invariant 2). */
  readonly recovered: boolean;
}

/** Where and when an existing row was read: it shows the state behind `seq`. */
export interface SnapshotPoint {
  readonly seq: number;
  /** Txid of `seq`; '' in a log without transactions. */
  readonly txid: string;
  /** Microseconds since 1970. */
  readonly timestampUs: number;
}

interface Placed {
  /** Number in the log. Null only outside the log: for `r`, and for the `t` and `s` that a first fill makes. */
  readonly seq: number | null;
  /** Null with `seq`. */
  readonly transaction: TransactionInfo | null;
  /** Counts the changes of the same table in its transaction, from 1. 0 for `r`. */
  readonly collectionOrder: number;
  /** Present exactly where `transaction` is null. */
  readonly snapshot?: SnapshotPoint;
}

/** One row's change. `u` keeps the key: a changed key is a `d` and a `c`. `r` is an existing row of a snapshot. */
export interface RowChange extends Placed {
  readonly op: 'c' | 'u' | 'd' | 'r';
  /** The table as of the change: of `after` for c, u, r; of `before` for d. */
  readonly table: Table;
  readonly before: Row | null;
  readonly after: Row | null;
}

/** All rows of a table are gone at once (a dropped table). */
export interface TruncateChange extends Placed {
  readonly op: 't';
  readonly table: Table;
}

/** A table was created (`previous` null), altered, or dropped (`table` null). */
export interface SchemaChange extends Placed {
  readonly op: 's';
  readonly name: string;
  readonly table: Table | null;
  readonly previous: Table | null;
}

export type Change = RowChange | TruncateChange | SchemaChange;

/** What a sink has durably applied. */
export interface Checkpoint {
  readonly logId: string;
  /** Renewed at each start that cannot prove the log's tail. */
  readonly term: string;
  /** Last seq of the last transaction applied; 0: nothing yet. */
  readonly seq: number;
  /** Its txid; '' with seq 0. */
  readonly txid: string;
  /** The runner's own note about a running first fill (opaque to sinks); null: none is running. */
  readonly fill: string | null;
}
