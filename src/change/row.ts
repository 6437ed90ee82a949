/** A row as the SQLite record it is, decoded when somebody asks. */
import { decodeInto, decodeRecord } from '../sqlite/record.ts';
import { canonicalInteger } from '../sqlite/varint.ts';
import type { Rowid, Table, TextEncoding, Value } from './table.ts';

export class Row {
  readonly table: Table;
  readonly rowid: Rowid;
  /** Of the record's text. */
  readonly encoding: TextEncoding;
  /** Where the record stands. No view: it would be one more object a row to be collected as garbage (all that is in this file and `EncodedRowList`: 4.2 → 2.5 µs of CPU a row). */
  readonly bytes: Buffer;
  readonly start: number;
  readonly end: number;

  /** The record is `bytes`, or a piece of them. */
  constructor(table: Table, rowid: Rowid, bytes: Buffer, encoding: TextEncoding, start = 0, end = bytes.length) {
    this.table = table;
    this.rowid = rowid;
    this.encoding = encoding;
    this.bytes = bytes;
    this.start = start;
    this.end = end;
  }

  /** The record's payload bytes (https://sqlite.org/fileformat2.html#record_format), a view. */
  get record(): Buffer {
    return this.bytes.subarray(this.start, this.end);
  }

  /**
   * Values in the order of `table.columns`. Short records take the columns' defaults, the rowid alias takes the rowid,
   * REAL columns give numbers also where the record holds an integer (SQLite stores 1.0 that way). BLOBs are views of
   * `record`. Decodes at each call; throws a RecordError on a record that contradicts itself.
   */
  values(integers: 'number' | 'bigint' = 'number'): Value[] {
    const { table, encoding } = this;
    const { rowidAlias, withoutRowid } = table;
    const { defaults, reals } = integers === 'bigint' ? formOf(table).bigint : formOf(table).number;
    let values: Value[];
    if (withoutRowid === undefined) {
      values = defaults.slice();
      decodeInto(values, values.length, this, { encoding, integers });
    } else {
      values = inColumnOrder(decodeRecord(this.record, { encoding, integers }), defaults, withoutRowid.fields);
    }
    for (const index of reals) if (typeof values[index] === 'bigint') values[index] = Number(values[index]);
    if (rowidAlias !== -1) values[rowidAlias] = integers === 'bigint' ? BigInt(this.rowid) : this.rowid;
    return values;
  }
}

/** What the values of a table's rows are made from. */
interface Form {
  /**
   * What a record that is too short means. A row begins as a copy of it and never as a literal, which V8 would come to put among the old objects, where
   * it keeps all of its texts until the next full collection: 70 to 90 MB of a fill's heap outlived a scavenge, where now 32 to 57 do.
   */
  readonly defaults: readonly Value[];
  readonly reals: readonly number[];
}

const forms = new WeakMap<Table, Readonly<Record<'number' | 'bigint', Form>>>();
let last: { readonly table: Table; readonly form: Readonly<Record<'number' | 'bigint', Form>> } | null = null;

const formOf = (table: Table): Readonly<Record<'number' | 'bigint', Form>> => {
  if (last?.table === table) return last.form;
  let form = forms.get(table);
  if (form === undefined) {
    const reals = table.columns.flatMap(({ affinity }, index) => (affinity === 'REAL' ? [index] : []));
    form = { number: { defaults: defaultsOf(table, 'number'), reals }, bigint: { defaults: defaultsOf(table, 'bigint'), reals } };
    forms.set(table, form);
  }
  last = { table, form };
  return form;
};

const defaultsOf = ({ columns }: Table, integers: 'number' | 'bigint'): Value[] => {
  // NULLs first, so that V8 takes it for an array of anything from the beginning.
  const defaults = columns.map((): Value => null);
  for (const [index, { defaultValue }] of columns.entries()) defaults[index] = defaultAs(defaultValue, integers);
  return defaults;
};

const inColumnOrder = (values: readonly Value[], defaults: readonly Value[], fields: readonly number[]): Value[] => {
  const ordered = defaults.slice();
  for (let field = 0; field < fields.length && field < values.length; field += 1) ordered[fields[field]!] = values[field]!;
  return ordered;
};

const defaultAs = (value: Value, integers: 'number' | 'bigint'): Value =>
  typeof value === 'bigint' && integers === 'number' ? canonicalInteger(value) : value;
