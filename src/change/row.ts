/** A row as the SQLite record it is, decoded when somebody asks. */
import { decodeRecord } from '../sqlite/record.ts';
import { canonicalInteger } from '../sqlite/varint.ts';
import type { Rowid, Table, TextEncoding, Value } from './table.ts';

export class Row {
  readonly table: Table;
  readonly rowid: Rowid;
  /** The record's payload bytes (https://sqlite.org/fileformat2.html#record_format). */
  readonly record: Buffer;
  /** Of the record's text. */
  readonly encoding: TextEncoding;

  constructor(table: Table, rowid: Rowid, record: Buffer, encoding: TextEncoding) {
    this.table = table;
    this.rowid = rowid;
    this.record = record;
    this.encoding = encoding;
  }

  /**
   * Values in the order of `table.columns`. Short records take the columns' defaults, the rowid alias takes the rowid,
   * REAL columns give numbers also where the record holds an integer (SQLite stores 1.0 that way). BLOBs are views of
   * `record`. Decodes at each call; throws a RecordError on a record that contradicts itself.
   */
  values(integers: 'number' | 'bigint' = 'number'): Value[] {
    const { columns, rowidAlias, withoutRowid } = this.table;
    let values: Value[] = decodeRecord(this.record, { encoding: this.encoding, integers });
    if (withoutRowid !== undefined) values = inColumnOrder(values, this.table, withoutRowid.fields, integers);
    if (values.length > columns.length) values.length = columns.length;
    for (let index = 0; index < columns.length; index += 1) {
      const column = columns[index]!;
      if (index >= values.length) values.push(defaultAs(column.defaultValue, integers));
      else if (column.affinity === 'REAL' && typeof values[index] === 'bigint') values[index] = Number(values[index]);
    }
    if (rowidAlias !== -1) values[rowidAlias] = integers === 'bigint' ? BigInt(this.rowid) : this.rowid;
    return values;
  }
}

const inColumnOrder = (values: readonly Value[], { columns }: Table, fields: readonly number[], integers: 'number' | 'bigint'): Value[] => {
  const ordered: Value[] = columns.map((column) => defaultAs(column.defaultValue, integers));
  for (let field = 0; field < fields.length && field < values.length; field += 1) ordered[fields[field]!] = values[field]!;
  return ordered;
};

const defaultAs = (value: Value, integers: 'number' | 'bigint'): Value =>
  typeof value === 'bigint' && integers === 'number' ? canonicalInteger(value) : value;
