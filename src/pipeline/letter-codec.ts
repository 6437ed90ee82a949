/** A row's change as JSON that stands by itself: the hive's record with the table as of then, so that it can be mapped anew when it is tried again. */
import type { RowChange } from '../change/change.ts';
import { keyNeedsRowid } from '../change/key.ts';
import { Row } from '../change/row.ts';
import type { Catalog, Rowid, Table, TextEncoding } from '../change/table.ts';
import { CatalogDecoder, encodeCatalog } from '../log/catalog-json.ts';
import { canonicalInteger } from '../sqlite/varint.ts';
import { tagged } from './coalesce.ts';

interface EncodedRow {
  readonly rowid: string;
  /** base64 */
  readonly record: string;
  readonly encoding: TextEncoding;
  /** A catalog with one table. */
  readonly catalog: string;
}

type EncodedChange = Omit<RowChange, 'table' | 'before' | 'after'> & { readonly before: EncodedRow | null; readonly after: EncodedRow | null };

export const encodeLetter = (change: RowChange): string => {
  const { op, seq, transaction, collectionOrder, snapshot, before, after } = change;
  const placed = { op, seq, transaction, collectionOrder, ...(snapshot && { snapshot }) };
  const encoded: EncodedChange = { ...placed, before: encodeRow(before), after: encodeRow(after) };
  return JSON.stringify(encoded);
};

/** Throws a SyntaxError or TypeError on text that `encodeLetter` did not write. */
export const decodeLetter = (text: string): RowChange => {
  const { before, after, ...placed } = JSON.parse(text) as EncodedChange;
  const rows = { before: decodeRow(before), after: decodeRow(after) };
  const row = rows.after ?? rows.before;
  if (row === null) throw new TypeError('a dead letter without a row');
  return { ...placed, ...rows, table: row.table };
};

/** Two changes of a table have it in common exactly if they are of the same row of the hive. */
export const rowIdentity = ({ table, before, after }: RowChange): string => {
  const row = (after ?? before)!;
  if (table.key.length === 0) return `rowid ${row.rowid}`;
  const values = row.values('bigint');
  const key = table.key.map((index) => values[index] ?? null);
  const columns = table.key.map((index) => table.columns[index]!);
  return `${keyNeedsRowid(columns, key) ? `rowid ${row.rowid} ` : ''}${key.map(tagged).join('')}`;
};

const encodeRow = (row: Row | null): EncodedRow | null =>
  row === null
    ? null
    : {
        rowid: String(row.rowid),
        record: row.record.toString('base64'),
        encoding: row.encoding,
        catalog: encodeCatalog(catalogOf(row.table, row.encoding)),
      };

const catalogOf = (table: Table, encoding: TextEncoding): Catalog => ({ version: 1, encoding, tables: [table] });

const decodeRow = (row: EncodedRow | null): Row | null => {
  if (row === null) return null;
  const [table] = new CatalogDecoder().decode(row.catalog).tables;
  if (table === undefined) throw new TypeError('a dead letter without a table');
  const rowid: Rowid = canonicalInteger(BigInt(row.rowid));
  return new Row(table, rowid, Buffer.from(row.record, 'base64'), row.encoding);
};
