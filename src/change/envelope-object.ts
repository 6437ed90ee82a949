/** The event as an object, for programs that use Waggle as a library. The same content as `encodeEnvelope` writes, of tables as the hive has them. */
import type { Change } from './change.ts';
import {
  base64,
  type EnvelopeChange,
  type EnvelopeColumn,
  type EnvelopeContext,
  type EnvelopeTable,
  firstOwnColumn,
  placeOf,
  rowidOfKey,
  sequenceOf,
} from './envelope.ts';
import { ROWID_COLUMN } from './key.ts';
import type { Value } from './table.ts';

/** INTEGER beyond 2^53 is a bigint (JSON.stringify refuses it: `encodeEnvelope` writes it). BLOB is base64; infinities are strings. */
export type EventValue = null | number | bigint | string;
export type EventRow = Readonly<Record<string, EventValue>>;

export interface EventSource {
  readonly version: string;
  readonly connector: 'sqlite';
  readonly name: string;
  readonly ts_ms: number;
  readonly ts_us: number;
  readonly ts_ns: number;
  readonly snapshot: 'true' | 'false';
  readonly db: 'main';
  readonly table: string;
  /** Only on `s`: the table's name before, null if it was created. */
  readonly previous?: string | null;
  readonly sequence: string;
  readonly txid: string;
  readonly origin: string | null;
  readonly recovered: boolean;
}

export interface EventTransaction {
  readonly id: string;
  readonly total_order: number;
  readonly data_collection_order: number;
  readonly last?: true;
}

export interface EventColumn {
  readonly name: string;
  readonly type: string;
  /** Place in the key, from 1; 0: not in it. */
  readonly key: number;
  readonly not_null: boolean;
  readonly default: EventValue;
}

interface EventFrame {
  readonly seq: number | null;
  readonly source: EventSource;
  /** Null for rows of a snapshot. */
  readonly transaction: EventTransaction | null;
  readonly ts_ms: number;
  readonly ts_us: number;
  readonly ts_ns: number;
}

export interface RowEvent extends EventFrame {
  readonly op: 'c' | 'u' | 'd' | 'r';
  readonly key: EventRow;
  readonly before: EventRow | null;
  readonly after: EventRow | null;
}

export interface TruncateEvent extends EventFrame {
  readonly op: 't';
  readonly key: null;
  readonly before: null;
  /** Where deletes are soft no row goes: all that have NULL in this one column get this value. */
  readonly after: EventRow | null;
}

export interface SchemaEvent extends EventFrame {
  readonly op: 's';
  readonly key: null;
  readonly before: null;
  readonly after: null;
  /** The CREATE statement; null after a drop. */
  readonly ddl: string | null;
  readonly columns: readonly EventColumn[] | null;
  /** As of before; null if the table was created. */
  readonly previous_columns: readonly EventColumn[] | null;
}

export type EnvelopeEvent = RowEvent | TruncateEvent | SchemaEvent;

export const envelopeObject = (change: EnvelopeChange, context: EnvelopeContext): EnvelopeEvent => {
  const { source } = change;
  const times = timesOf(placeOf(source).timestampUs);
  const table = tableName(change);
  const previous = change.op === 's' ? { previous: change.previous?.name ?? null } : {};
  const frame = { source: sourceOf({ source, context, table, previous }), transaction: transactionOf(source), ...times };
  switch (change.op) {
    case 't':
      return { seq: source.seq, op: 't', key: null, before: null, after: markOf(change), ...frame };
    case 's':
      return { seq: source.seq, op: 's', key: null, before: null, after: null, ...schemaOf(change), ...frame };
    default:
      return {
        seq: source.seq,
        op: change.op,
        key: keyOf(change),
        before: change.before === null ? null : rowOf(change.table, change.before, firstOwnColumn(change.table)),
        after: change.after === null ? null : rowOf(change.table, change.after, firstOwnColumn(change.table)),
        ...frame,
      };
  }
};

const eventValue = (value: Value): EventValue => {
  if (typeof value === 'number' && !Number.isFinite(value)) return Number.isNaN(value) ? null : String(value);
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  return value instanceof Uint8Array ? base64(value) : value;
};

// fromEntries defines own properties, also for a column named __proto__.
const rowOf = (table: EnvelopeTable, values: readonly Value[], first: number): EventRow =>
  Object.fromEntries(table.columns.slice(first).map((column, index) => [column.name, eventValue(values[index + first] ?? null)]));

const markOf = ({ table, mark }: EnvelopeChange & { op: 't' }): EventRow | null =>
  mark === undefined ? null : { [table.columns[mark.column]!.name]: eventValue(mark.value) };

const keyOf = (change: EnvelopeChange & { op: 'c' | 'u' | 'd' | 'r' }): EventRow => {
  const { table, key, source } = change;
  if (firstOwnColumn(table) === 1) return { [ROWID_COLUMN]: eventValue(key[0] ?? null) };
  const row = Object.fromEntries(table.key.map((index, place) => [table.columns[index]!.name, eventValue(key[place] ?? null)]));
  const rowid = rowidOfKey(table, key, source);
  return rowid === null ? row : { ...row, [ROWID_COLUMN]: rowid };
};

const transactionOf = ({ seq, transaction, collectionOrder }: Change): EventTransaction | null => {
  if (transaction === null || seq === null) return null;
  return {
    id: transaction.txid,
    total_order: seq - transaction.firstSeq + 1,
    data_collection_order: collectionOrder,
    ...(seq === transaction.lastSeq ? { last: true as const } : {}),
  };
};

const sourceOf = (parts: { source: Change; context: EnvelopeContext; table: string; previous: { previous?: string | null } }): EventSource => {
  const { source, context, table, previous } = parts;
  const { transaction } = source;
  const { txid, timestampUs } = placeOf(source);
  return {
    version: context.version,
    connector: 'sqlite',
    name: context.hive,
    ...timesOf(timestampUs),
    snapshot: transaction === null ? 'true' : 'false',
    db: 'main',
    table,
    ...previous,
    sequence: sequenceOf(txid),
    txid,
    origin: transaction?.origin ?? null,
    recovered: transaction?.recovered ?? false,
  };
};

const tableName = (change: EnvelopeChange): string => {
  if (change.op !== 's') return change.table.name;
  return change.table?.name ?? change.previous?.name ?? (change.source.op === 's' ? change.source.name : '');
};

const schemaOf = ({ table, previous, source }: EnvelopeChange & { op: 's' }): Pick<SchemaEvent, 'ddl' | 'columns' | 'previous_columns'> => {
  if (source.op !== 's') return { ddl: null, columns: null, previous_columns: null };
  return {
    ddl: table === null ? null : (source.table?.sql ?? null),
    columns: columnsOf(table),
    previous_columns: columnsOf(previous),
  };
};

const columnsOf = (table: EnvelopeTable | null): EventColumn[] | null => {
  if (table === null) return null;
  const first = firstOwnColumn(table);
  return table.columns.slice(first).map((column, index) => columnOf(column, table.key.indexOf(index + first) + 1));
};

const columnOf = (column: EnvelopeColumn, key: number): EventColumn => ({
  name: column.name,
  type: column.type,
  key,
  not_null: column.notNull,
  default: eventValue(column.defaultValue),
});

// Whole microseconds times 1000 have 16 significant digits: the number prints as exactly these.
const timesOf = (timestampUs: number): { ts_ms: number; ts_us: number; ts_ns: number } => ({
  ts_ms: Math.floor(timestampUs / 1000),
  ts_us: timestampUs,
  ts_ns: timestampUs * 1000,
});
