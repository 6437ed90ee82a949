/**
 * Rows of sqlite_schema, the table with root page 1 (https://sqlite.org/schematab.html):
 * type, name, tbl_name, rootpage, sql.
 */
import { decodeRecord, type RecordEncoding } from '../sqlite/record.ts';

export interface SchemaRow {
  readonly type: string;
  readonly name: string;
  /** 0 for views, triggers and virtual tables. */
  readonly root: number;
  /** Null for indexes that SQLite made by itself. */
  readonly sql: string | null;
}

/** Throws a RecordError on a record that contradicts itself. */
export const decodeSchemaRow = (record: Buffer, encoding: RecordEncoding): SchemaRow => {
  const [type, name, , root, sql] = decodeRecord(record, { encoding, integers: 'number' });
  return {
    type: typeof type === 'string' ? type : '',
    name: typeof name === 'string' ? name : '',
    root: typeof root === 'number' ? root : 0,
    sql: typeof sql === 'string' ? sql : null,
  };
};
