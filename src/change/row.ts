/** A row as the SQLite record it is, decoded when somebody asks. */
import { keyPrefix } from '../sqlite/key-order.ts';
import { decodeRecord } from '../sqlite/record.ts';
import { canonicalInteger } from '../sqlite/varint.ts';
import type { Clustering, Column, Rowid, RowPlace, Table, TextEncoding, Value } from './table.ts';

export class Row {
  readonly table: Table;
  readonly rowid: Rowid;
  /** The record's payload bytes (https://sqlite.org/fileformat2.html#record_format). */
  readonly record: Buffer;
  readonly #encoding: TextEncoding;

  constructor(table: Table, rowid: Rowid, record: Buffer, encoding: TextEncoding) {
    this.table = table;
    this.rowid = rowid;
    this.record = record;
    this.#encoding = encoding;
  }

  get place(): RowPlace {
    const { clustering } = this.table;
    return clustering === null ? this.rowid : keyPrefix(this.record, clustering.keyParts.length);
  }

  /**
   * Values in the order of `table.columns`. Short records take the columns' defaults, the rowid alias takes the rowid,
   * REAL columns give numbers also where the record holds an integer (SQLite stores 1.0 that way). BLOBs are views of
   * `record`. Decodes at each call; throws a RecordError on a record that contradicts itself.
   */
  values(integers: 'number' | 'bigint' = 'number'): Value[] {
    const { columns, rowidAlias, clustering } = this.table;
    let values: Value[] = decodeRecord(this.record, { encoding: this.#encoding, integers });
    if (clustering !== null) values = inDeclarationOrder(values, clustering, columns, integers);
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

const inDeclarationOrder = (stored: Value[], { recordOrder }: Clustering, columns: readonly Column[], integers: 'number' | 'bigint'): Value[] => {
  const values = columns.map(({ defaultValue }) => defaultAs(defaultValue, integers));
  for (let index = 0; index < recordOrder.length && index < stored.length; index += 1) values[recordOrder[index]!] = stored[index]!;
  return values;
};

const defaultAs = (value: Value, integers: 'number' | 'bigint'): Value =>
  typeof value === 'bigint' && integers === 'number' ? canonicalInteger(value) : value;
