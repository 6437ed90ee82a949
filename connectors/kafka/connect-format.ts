/**
 * Records with Kafka Connect's schema beside the payload, as its JsonConverter reads them with `schemas.enable=true`.
 *
 *     {"schema":{"type":"struct","name":"<prefix>.main.<table>.Envelope",…},"payload":{the envelope}}
 *
 * A column's type, by what the hive declares or the user says it is:
 *
 *     always an integer, INTEGER affinity, declared BOOL…    int64
 *     REAL affinity, other NUMERIC affinity                  double
 *     TEXT affinity, no declared type                        string
 *     DATE, TIME, JSON, UUID, STRING, ENUM                   string
 *     a declared type with BLOB affinity                     bytes
 *     `types`: timestamptz, boolean, json                    io.debezium.time.ZonedTimestamp, boolean, io.debezium.data.Json
 *
 * The JsonConverter makes 0, NULL or something else of a value that is not of its type, and says nothing. A column of SQLite may hold any value, so each
 * is looked at here: string takes everything, in the text form of all connectors (numbers as digits, BLOBs as `\x` hex); int64 a REAL without a fraction; double
 * an integer that it can hold; bytes a text, as UTF-8. Any other row is refused. An old image (`before`) with such a value is left out.
 */
import { rowidOfKey, type EnvelopeEncoder } from '../../src/change/envelope.ts';
import type { Value } from '../../src/change/table.ts';
import { RowRefusedError, type SinkColumn, type SinkRowChange, type SinkTable } from '../../src/pipeline/sink.ts';
import { textOf } from '../value-text.ts';
import { type RecordFormat, transactionKey, transactionValue } from './formats.ts';

interface FieldType {
  readonly type: 'int64' | 'double' | 'string' | 'bytes' | 'boolean';
  /** Of the logical type. */
  readonly name?: string;
}

export const fieldTypeOf = ({ kind, alwaysInteger, affinity, type }: SinkColumn): FieldType => {
  if (kind === 'timestamp') return { type: 'string', name: 'io.debezium.time.ZonedTimestamp' };
  if (kind === 'boolean') return { type: 'boolean' };
  if (kind === 'json') return { type: 'string', name: 'io.debezium.data.Json' };
  if (alwaysInteger) return { type: 'int64' };
  switch (affinity) {
    case 'INTEGER':
      return { type: 'int64' };
    case 'REAL':
      return { type: 'double' };
    case 'TEXT':
      return { type: 'string' };
    case 'BLOB':
      return { type: type === '' ? 'string' : 'bytes' };
    case 'NUMERIC':
      if (/BOOL/i.test(type)) return { type: 'int64' };
      return { type: /DATE|TIME|JSON|UUID|STRING|ENUM/i.test(type) ? 'string' : 'double' };
  }
};

const INT64_LIMIT = 2 ** 63;

/** The value in the form in which the JsonConverter reads it as itself; undefined: there is none. */
export const fitted = (value: Value, { type }: FieldType): Value | undefined => {
  if (value === null) return null;
  switch (type) {
    case 'string':
      return textOf(value);
    case 'boolean':
      // The mapping has checked it.
      return value;
    case 'int64':
      if (typeof value === 'bigint') return BigInt.asIntN(64, value) === value ? value : undefined;
      return typeof value === 'number' && Number.isInteger(value) && value >= -INT64_LIMIT && value < INT64_LIMIT ? BigInt(value) : undefined;
    case 'double':
      if (typeof value === 'bigint') return BigInt(Number(value)) === value ? Number(value) : undefined;
      return typeof value === 'number' && Number.isFinite(value) ? value : undefined;
    case 'bytes':
      if (typeof value === 'string') return Buffer.from(value);
      return value instanceof Uint8Array ? value : undefined;
  }
};

interface ConnectTable {
  /** As the encoder shall write it: JSON text stays text. */
  readonly table: SinkTable;
  readonly types: readonly FieldType[];
  /** `{"schema":…,"payload":` of keys and values. */
  readonly key: string;
  readonly value: string;
}

export const connectFormat = (encoder: EnvelopeEncoder, { prefix, label }: { prefix: string; label: string }): RecordFormat => {
  const tables = new WeakMap<SinkTable, ConnectTable>();
  const connectTable = (table: SinkTable): ConnectTable => {
    let found = tables.get(table);
    if (found === undefined) tables.set(table, (found = makeTable(table, prefix)));
    return found;
  };
  const refused = (change: SinkRowChange, column: string, reason: string): RowRefusedError =>
    new RowRefusedError(change, `${label}, table ${change.table.name}, column ${column}: ${reason}`, {
      hint: 'Mend the value, leave out the column (`columns: { exclude: … }`), or publish without `schemas`.',
    });
  return {
    row: (change) => {
      const connect = connectTable(change.table);
      const { types, table } = connect;
      const fit = (values: readonly Value[]): { values: Value[]; misfit: number } => {
        const result = values.map((value, index) => fitted(value, types[index]!));
        return { values: result as Value[], misfit: result.indexOf(undefined) };
      };
      const key = change.key.map((value, place) => fitted(value, types[table.key[place]!]!));
      const wrong = key.findIndex((value) => value === undefined || value === null);
      if (wrong !== -1 || rowidOfKey(change.table, change.key, change.source) !== null)
        throw refused(
          change,
          table.columns[table.key[Math.max(0, wrong)]!]!.name,
          'the key does not tell the row in the type that is declared for it',
        );
      const after = change.after === null ? null : fit(change.after);
      if (after !== null && after.misfit !== -1)
        throw refused(change, table.columns[after.misfit]!.name, `a value is none of the type ${types[after.misfit]!.type}`);
      const before = change.before === null ? null : fit(change.before);
      const shown = { ...change, table, key: key as Value[], before: before?.misfit === -1 ? before.values : null, after: after?.values ?? null };
      return { key: `${connect.key}${encoder.encodeKey(shown)!}}`, value: `${connect.value}${encoder.encode(shown)}}` };
    },
    truncate: (change) => {
      const connect = connectTable(change.table);
      return `${connect.value}${encoder.encode({ ...change, table: connect.table })}}`;
    },
    transaction: (mark) => ({
      key: `${TRANSACTION_KEY}${transactionKey(mark)}}`,
      value: `${TRANSACTION_VALUE}${transactionValue(mark)}}`,
    }),
  };
};

interface Schema {
  readonly type: string;
  readonly optional: boolean;
  readonly [field: string]: unknown;
}

const field = (name: string, type: string, optional = false): Schema => ({ type, optional, field: name });
const struct = (name: string, fields: readonly Schema[], rest: object = {}): Schema => ({ type: 'struct', optional: false, name, fields, ...rest });
const opened = (schema: Schema): string => `{"schema":${JSON.stringify(schema)},"payload":`;

const TIMES = ['ts_ms', 'ts_us', 'ts_ns'];

const SOURCE = struct(
  'io.debezium.connector.sqlite.Source',
  [
    ...['version', 'connector', 'name'].map((name) => field(name, 'string')),
    ...TIMES.map((name) => field(name, 'int64')),
    ...['snapshot', 'db', 'table', 'sequence', 'txid'].map((name) => field(name, 'string')),
    field('origin', 'string', true),
    field('recovered', 'boolean'),
  ],
  { field: 'source' },
);

const TRANSACTION = struct('event.block', [field('id', 'string'), field('total_order', 'int64'), field('data_collection_order', 'int64')], {
  optional: true,
  version: 1,
  field: 'transaction',
});

const TRANSACTION_KEY = opened(struct('io.debezium.connector.common.TransactionMetadataKey', [field('id', 'string')], { version: 1 }));
const TRANSACTION_VALUE = opened(
  struct(
    'io.debezium.connector.common.TransactionMetadataValue',
    [
      field('status', 'string'),
      field('id', 'string'),
      field('event_count', 'int64', true),
      {
        type: 'array',
        optional: true,
        field: 'data_collections',
        items: struct('event.collection', [field('data_collection', 'string'), field('event_count', 'int64')], { version: 1 }),
      },
      field('ts_ms', 'int64'),
    ],
    { version: 1 },
  ),
);

const makeTable = (table: SinkTable, prefix: string): ConnectTable => {
  const name = `${prefix}.main.${table.name}`;
  const types = table.columns.map(fieldTypeOf);
  const columnField = (index: number, optional: boolean): Schema => {
    const { type, name: logical } = types[index]!;
    const column = table.columns[index]!;
    return {
      ...field(column.rowid === true ? 'waggle_rowid' : column.name, type, optional),
      ...(logical === undefined ? {} : { name: logical, version: 1 }),
    };
  };
  const columns = table.columns.flatMap((column, index) => (column.rowid === true ? [] : [columnField(index, true)]));
  const image = (place: string): Schema => struct(`${name}.Value`, columns, { optional: true, field: place });
  const value = struct(
    `${name}.Envelope`,
    [
      field('seq', 'int64', true),
      image('before'),
      image('after'),
      SOURCE,
      TRANSACTION,
      field('op', 'string'),
      ...TIMES.map((time) => field(time, 'int64', true)),
    ],
    { version: 1 },
  );
  return {
    table: { ...table, columns: table.columns.map(({ kind, ...column }) => (kind === undefined || kind === 'json' ? column : { ...column, kind })) },
    types,
    key: opened(
      struct(
        `${name}.Key`,
        table.key.map((index) => columnField(index, false)),
      ),
    ),
    value: opened(value),
  };
};
