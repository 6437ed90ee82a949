/**
 * From an event back to a change for a sink.
 *
 * JSON does not tell all that SQLite does; what it leaves open, the column's declared type decides: a text in a column declared BLOB is base64, a whole number is
 * an INTEGER unless the column is REAL, "Infinity" and "-Infinity" in a REAL column are the numbers.
 */
import type { RowChange, TransactionInfo } from '../../change/change.ts';
import type { RowEvent, TruncateEvent } from '../../change/envelope-object.ts';
import { ROWID_COLUMN } from '../../change/key.ts';
import type { ParsedChange } from '../../change/parse-change.ts';
import type { Table, Value } from '../../change/table.ts';
import type { SinkChange, SinkColumn, SinkSchemaChange, SinkTable, SinkTruncateChange } from '../../pipeline/sink.ts';
import { WaggleError } from '../../support/errors.ts';

type Integers = 'number' | 'bigint';

/** Null for `s`: the tables themselves are told of by the topic of forms. */
export const sinkChangeOf = (
  event: ParsedChange,
  table: SinkTable,
  { integers, states }: { integers: Integers; states: boolean },
): SinkChange | null => {
  if (event.op === 's') return null;
  if (event.op === 't') return { op: 't', table, source: { ...placeOf(event), op: 't', table: hiveTable(table) }, ...markOf(event, table, integers) };
  const key = table.key.map((index) => keyValue(table.columns[index]!, event.key, integers));
  const values = (row: RowEvent['after']): Value[] | null =>
    row === null
      ? null
      : table.columns.map((column, index) =>
          column.rowid === true ? key[table.key.indexOf(index)]! : valueOf(column, row[column.name] ?? null, integers),
        );
  const source: RowChange = { ...placeOf(event), op: event.op, table: hiveTable(table), before: null, after: null };
  return { op: event.op, table, key, before: states ? null : values(event.before), after: values(event.after), source };
};

/** A schema change, told by the two forms. It stands at no place of the log: `seq` is null, as what the hive's own has is none of the partition. */
export const schemaChangeOf = (previous: SinkTable, table: SinkTable): SinkSchemaChange => {
  const [before, after] = [hiveTable(previous), hiveTable(table)];
  const placed = { seq: null, transaction: null, collectionOrder: 0, snapshot: { seq: 0, txid: '', timestampUs: 0 } };
  return { op: 's', table, previous, source: { op: 's', ...placed, name: table.source, table: after, previous: before } };
};

/** Where deletes are soft: what the rows get that stay. */
const markOf = ({ after }: TruncateEvent, { columns, deletedAt }: SinkTable, integers: Integers): Pick<SinkTruncateChange, 'mark'> => {
  if (after === null || deletedAt === undefined) return {};
  const column = columns[deletedAt]!;
  return { mark: { column: deletedAt, value: valueOf(column, after[column.name], integers) } };
};

const keyValue = (column: SinkColumn, key: RowEvent['key'], integers: Integers): Value =>
  column.rowid === true
    ? numberOf(key[ROWID_COLUMN] as number | bigint, integers)
    : valueOf({ ...column, kind: 'timestamp' }, key[column.name] ?? null, integers);

const valueOf = ({ kind, type, affinity }: Pick<SinkColumn, 'kind' | 'type' | 'affinity'>, value: unknown, integers: Integers): Value => {
  if (value === null || value === undefined) return null;
  if (kind === 'json') return jsonText(value);
  switch (typeof value) {
    case 'boolean':
      return numberOf(Number(value), integers);
    case 'bigint':
      return affinity === 'REAL' ? Number(value) : value;
    case 'number':
      return affinity === 'REAL' || !Number.isSafeInteger(value) || Object.is(value, -0) ? value : numberOf(value, integers);
    case 'string':
      if (affinity === 'REAL' && /^-?Infinity$/.test(value)) return Number(value);
      return /BLOB/i.test(type) ? Buffer.from(value, 'base64') : value;
    default:
      throw new WaggleError('EVENT_INVALID', 'a value is an object, in a column that is not declared to hold JSON');
  }
};

/** Integers digit for digit (https://tc39.es/proposal-json-parse-with-source). */
const jsonText = (value: unknown): string => {
  const { rawJSON } = JSON as unknown as { rawJSON: (text: string) => unknown };
  return JSON.stringify(value, (_, each: unknown) => (typeof each === 'bigint' ? rawJSON(String(each)) : each));
};

const numberOf = (value: number | bigint, integers: Integers): Value => (integers === 'bigint' ? BigInt(value) : value);

const placeOf = ({
  seq,
  source,
  transaction,
}: RowEvent | TruncateEvent | ParsedChange): Pick<RowChange, 'seq' | 'transaction' | 'collectionOrder' | 'snapshot'> => {
  const { txid, ts_us: timestampUs } = source;
  if (seq === null || transaction === null) return { seq: null, transaction: null, collectionOrder: 0, snapshot: { seq: 0, txid, timestampUs } };
  const [epoch = 0, frame = 0] = txid.split(':').map(Number);
  const info: TransactionInfo = {
    txid,
    epoch,
    frame,
    firstSeq: seq - transaction.total_order + 1,
    lastSeq: transaction.last === true ? seq : Number.MAX_SAFE_INTEGER,
    timestampUs,
    origin: source.origin,
    recovered: source.recovered,
  };
  return { seq, transaction: info, collectionOrder: transaction.data_collection_order };
};

const TABLES = new WeakMap<SinkTable, Table>();

/** As much of it as is known here. */
const hiveTable = (table: SinkTable): Table => {
  let hive = TABLES.get(table);
  if (hive === undefined) {
    const columns = table.columns.filter(({ rowid }) => rowid !== true);
    const place = (index: number): number => columns.indexOf(table.columns[index]!);
    hive = {
      name: table.source,
      columns: columns.map(({ name, type, affinity, notNull, defaultValue }, index) => ({
        name,
        type,
        affinity,
        notNull,
        defaultSql: null,
        defaultValue,
        keyOrdinal: table.key.findIndex((each) => place(each) === index) + 1,
        generated: false,
      })),
      key: table.key.map(place).filter((index) => index !== -1),
      rowidAlias: -1,
      strict: false,
      references: [],
      sql: '',
      generation: 1,
    };
    TABLES.set(table, hive);
  }
  return hive;
};
