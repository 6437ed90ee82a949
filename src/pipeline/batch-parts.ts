/** Transactions and filled rows as the parts of a batch: mapped, coalesced, a bounded number of them in memory. */
import type { Change, RowChange, SnapshotPoint } from '../change/change.ts';
import type { Row } from '../change/row.ts';
import type { Table } from '../change/table.ts';
import type { LoggedTransaction } from '../log/logged-transaction.ts';
import { WaggleError } from '../support/errors.ts';
import { coalesce } from './coalesce.ts';
import { isRefusal } from './isolation.ts';
import type { TableMapping } from './mapping.ts';
import type { RowChunk } from './row-source.ts';
import type { Sink, SinkChange } from './sink.ts';

/**
 * What a part holds at most, but for a single larger change and the rest of a part of the log. What is made of 512 KB of rows dies in V8's nursery;
 * with 2 MB the daemon took 110 MB more of memory.
 */
const PART_CHANGES = 5000;
const PART_BYTES = 512 * 1024;

export interface PartOptions {
  readonly mapping: TableMapping;
  readonly wants: Sink['wants'];
  /** Told of a change that the mapping itself refuses (SINK_ROW_REFUSED); the others go on. Left out: the refusal is thrown. */
  readonly refused?: (change: RowChange, error: WaggleError) => void;
}

/** The transactions' changes in order. Parts without changes for the sink are left out; so there may be no part at all. */
export const transactionParts = function* (
  transactions: readonly LoggedTransaction[],
  options: PartOptions,
): Generator<SinkChange[], void, undefined> {
  yield* collectParts(changesOf(transactions), options);
};

/**
 * A chunk of a first fill. `begin`: it is the table's first: a sink that wants states is told of the table by an `s`, so that an empty table
 * comes to be, too. `empty`: the table's old rows go first, by a `t`.
 */
export const chunkParts = function* (
  chunk: RowChunk,
  options: PartOptions & { readonly begin: boolean; readonly empty: boolean; readonly timestampUs: number },
): Generator<SinkChange[], void, undefined> {
  // Every row once, so nothing is to be coalesced, but where the user chose another key.
  yield* collectParts([chunkChanges(chunk, options)], options, !options.mapping.keepsKey(chunk.table));
};

const changesOf = function* (transactions: readonly LoggedTransaction[]): Generator<Iterable<Change>, void, undefined> {
  for (const transaction of transactions) yield* transaction.changes();
};

const chunkChanges = function* (
  { table, rows, asOf }: RowChunk,
  options: PartOptions & { readonly begin: boolean; readonly empty: boolean; readonly timestampUs: number },
): Generator<Change, void, undefined> {
  const snapshot: SnapshotPoint = { ...asOf, timestampUs: options.timestampUs };
  const placed = { seq: null, transaction: null, collectionOrder: 0, snapshot, table };
  if (options.begin && options.wants === 'states') yield { op: 's', ...placed, name: table.name, previous: null };
  if (options.empty) yield { op: 't', ...placed };
  for (const row of rows) yield new ExistingRow(table, row, snapshot);
};

/** A class: what a literal makes V8 comes to put among the old objects (see `Row`), and a spread a row shows in profiles. */
class ExistingRow implements RowChange {
  readonly op = 'r';
  readonly seq = null;
  readonly transaction = null;
  readonly collectionOrder = 0;
  readonly before = null;
  readonly table: Table;
  readonly after: Row;
  readonly snapshot: SnapshotPoint;

  constructor(table: Table, row: Row, snapshot: SnapshotPoint) {
    this.table = table;
    this.after = row;
    this.snapshot = snapshot;
  }
}

const collectParts = function* (source: Iterable<Iterable<Change>>, options: PartOptions, repeats = true): Generator<SinkChange[], void, undefined> {
  const finished = options.wants === 'states' && repeats ? coalesce : (part: SinkChange[]): SinkChange[] => part;
  let part: SinkChange[] = [];
  let bytes = 0;
  for (const changes of source) {
    for (const change of changes) {
      const before = part.length;
      mapChange(options, change, part);
      if (part.length === before) continue;
      bytes += sizeOf(change);
      if (part.length < PART_CHANGES && bytes < PART_BYTES) continue;
      yield finished(part);
      part = [];
      bytes = 0;
    }
  }
  if (part.length > 0) yield finished(part);
};

const mapChange = ({ mapping, refused }: PartOptions, change: Change, part: SinkChange[]): void => {
  try {
    mapping.map(change, part);
  } catch (error) {
    if (isRefusal(error) && refused !== undefined && change.op !== 's' && change.op !== 't') {
      refused(change, error);
      return;
    }
    if (error instanceof WaggleError) throw error;
    const table = change.op === 's' ? change.name : change.table.name;
    throw new WaggleError('STATE_CORRUPT', `change ${String(change.seq)} of the table ${table} cannot be decoded`, { cause: error });
  }
};

const sizeOf = (change: Change): number => {
  if (change.op === 's' || change.op === 't') return 0;
  return recordBytes(change.before) + recordBytes(change.after);
};

const recordBytes = (row: Row | null): number => (row === null ? 0 : row.end - row.start);
