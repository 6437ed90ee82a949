/** Where a first fill takes existing rows from: the mirror, which capture reads between two batches. */
import type { Row } from '../change/row.ts';
import type { RowPlace, Table } from '../change/table.ts';

export interface RowSource {
  /**
   * Rows of a captured table in their order (by rowid; WITHOUT ROWID: by key), those behind `after` (null: from the first), about `maxBytes` of records
   * and at least one row. Null: there is no such table (any more). Rejects with a WaggleError.
   *
   * Calls do not overlap in time of one sink: the next is made when the one before has answered.
   */
  readRows(table: string, after: RowPlace | null, maxBytes: number): Promise<RowChunk | null>;
}

/** What of an array of rows is asked for, so that they need not all be objects at once. */
export interface Rows extends Iterable<Row> {
  readonly length: number;
  /** The last one. */
  at(index: -1): Row | undefined;
}

export interface RowChunk {
  /** The table as of `asOf`. */
  readonly table: Table;
  /** In the table's order. */
  readonly rows: Rows;
  /**
   * The head of the log whose state the rows show, exactly. Never before a head that a LogReader has seen when
   * `readRows` was called.
   */
  readonly asOf: { readonly seq: number; readonly txid: string };
  /** Differs when rows changed their rowid without a change to tell: chunks of two generations do not fit together. */
  readonly generation: string;
  /** No row lies behind these. */
  readonly done: boolean;
  /** About how much of the table these rows are, from 0 to 1: for telling how long the rest takes. */
  readonly share: number;
}
