/** SinkTables, SinkChanges and batches by hand, for tests and benchmarks of connectors. */
import { pino } from 'pino';
import type { Change, Checkpoint, TransactionInfo } from '../../src/change/change.ts';
import type { Affinity, Table, Value } from '../../src/change/table.ts';
import type {
  Batch,
  ColumnKind,
  Sink,
  SinkChange,
  SinkColumn,
  SinkContext,
  SinkRowChange,
  SinkSchemaChange,
  SinkTable,
} from '../../src/pipeline/sink.ts';
import { affinityOf } from '../../connectors/sqlite/column-type.ts';

export interface ColumnSpec {
  readonly name: string;
  readonly type?: string;
  readonly affinity?: Affinity;
  readonly key?: boolean;
  readonly alwaysInteger?: boolean;
  readonly defaultValue?: Value;
  readonly kind?: ColumnKind;
}

export const sinkTable = (name: string, columns: readonly ColumnSpec[]): SinkTable => ({
  name,
  source: name,
  columns: columns.map((column): SinkColumn => ({
    name: column.name,
    type: column.type ?? 'TEXT',
    affinity: column.affinity ?? affinityOf(column.type ?? 'TEXT'),
    notNull: false,
    defaultValue: column.defaultValue ?? null,
    alwaysInteger: column.alwaysInteger ?? false,
    ...(column.kind && { kind: column.kind }),
  })),
  key: columns.flatMap((column, index) => (column.key === true ? [index] : [])),
});

/** The hive's table that a SinkTable without mapping comes from. */
export const hiveTable = (table: SinkTable): Table => ({
  name: table.source,
  columns: table.columns.map((column, index) => ({
    name: column.name,
    type: column.type,
    affinity: column.affinity,
    notNull: column.notNull,
    defaultSql: null,
    defaultValue: column.defaultValue,
    keyOrdinal: table.key.indexOf(index) + 1,
    generated: false,
  })),
  key: table.key,
  rowidAlias: -1,
  strict: false,
  references: [],
  generation: 1,
  sql: `CREATE TABLE "${table.source}" (…)`,
});

export const transactionInfo: TransactionInfo = {
  txid: '1:1',
  epoch: 1,
  frame: 1,
  firstSeq: 1,
  lastSeq: 1,
  timestampUs: 1_700_000_000_000_000,
  origin: null,
  recovered: false,
};

let lastSeq = 0;
const placed = (): { seq: number; transaction: TransactionInfo; collectionOrder: number } => ({
  seq: (lastSeq += 1),
  transaction: transactionInfo,
  collectionOrder: 1,
});

const rowSource = (op: SinkRowChange['op'], table: SinkTable): Change => ({ ...placed(), op, table: hiveTable(table), before: null, after: null });

export const upsert = (table: SinkTable, values: readonly Value[], op: 'c' | 'u' | 'r' = 'u'): SinkRowChange => ({
  op,
  table,
  key: table.key.map((index) => values[index]!),
  before: null,
  after: values,
  source: rowSource(op, table),
});

export const remove = (table: SinkTable, key: readonly Value[]): SinkRowChange => ({
  op: 'd',
  table,
  key,
  before: null,
  after: null,
  source: rowSource('d', table),
});

export const truncate = (table: SinkTable): SinkChange => ({ op: 't', table, source: { ...placed(), op: 't', table: hiveTable(table) } });

export const schemaChange = (previous: SinkTable | null, table: SinkTable | null): SinkSchemaChange => ({
  op: 's',
  table,
  previous,
  source: {
    ...placed(),
    // As in a log, not behind the checkpoint of its batch, whatever that is.
    seq: 1,
    op: 's',
    name: (table ?? previous)!.source,
    table: table === null ? null : hiveTable(table),
    previous: previous === null ? null : hiveTable(previous),
  },
});

/** With seqs of a log, counted from `first` on. */
export const numbered = (first: number, changes: readonly SinkChange[]): SinkChange[] =>
  changes.map((change, index): SinkChange => Object.assign(change, { source: { ...change.source, seq: first + index } }));

export const checkpointAt = (seq: number, fill: string | null = null): Checkpoint => ({
  logId: 'log-1',
  term: 'term-1',
  seq,
  txid: `1:${seq}`,
  fill,
});

export const batchOf = (parts: readonly SinkChange[][], checkpoint: Checkpoint): Batch => ({
  checkpoint,
  parts: async function* () {
    yield* parts;
  },
});

/** A batch that breaks off after its parts, as when the process that makes it dies. */
export const brokenBatch = (parts: readonly SinkChange[][], checkpoint: Checkpoint): Batch => ({
  checkpoint,
  parts: async function* () {
    yield* parts;
    throw new Error('the source broke off');
  },
});

export const contextOf = (name: string, stateDir = '/nonexistent'): SinkContext => ({
  name,
  hive: 'hive',
  logger: pino({ level: 'silent' }),
  signal: new AbortController().signal,
  stateDir,
});

/** INTEGER values in the form that the sink asks for; tests write them as bigint. */
export const forSink = (sink: Sink, values: readonly Value[]): Value[] =>
  values.map((value) =>
    typeof value === 'bigint' && sink.integers !== 'bigint' && value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER)
      ? Number(value)
      : value,
  );
