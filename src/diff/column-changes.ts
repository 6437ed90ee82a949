/** What became of a table's columns between two versions of the schema, and whether a row says the same under both. */
import { Row } from '../change/row.ts';
import type { KeyField } from '../sqlite/key-order.ts';
import type { Column, Rowid, Table, TextEncoding, Value } from '../change/table.ts';
import { sameBytes } from '../sqlite/same-bytes.ts';
import { mayHoldTheSame, storedBytes } from '../sqlite/record.ts';

/** The row format is the same: records can be compared as bytes. */
export const sameColumns = (before: Table, after: Table): boolean =>
  before.columns.length === after.columns.length &&
  before.rowidAlias === after.rowidAlias &&
  sameLayout(before, after) &&
  before.columns.every((column, index) => column.name === after.columns[index]!.name && sameContent(column, after.columns[index]!));

/** The fields of a record are the same columns, in the same order. */
const sameLayout = ({ withoutRowid: before }: Table, { withoutRowid: after }: Table): boolean =>
  before === after ||
  (before !== undefined &&
    after !== undefined &&
    before.fields.length === after.fields.length &&
    before.fields.every((column, field) => column === after.fields[field]));

/** Rows stand in the same order: by rowid, or by the same key under the same collations. */
const sameOrder = ({ withoutRowid: before }: Table, { withoutRowid: after }: Table): boolean => {
  if (before === undefined || after === undefined) return before === after;
  const isSame = (field: KeyField, index: number): boolean =>
    field.collation === after.key[index]!.collation && field.descending === after.key[index]!.descending;
  return before.key.length === after.key.length && before.key.every(isSame);
};

/**
 * For each new column the place of its old self, or -1. Columns keep their identity by name; where the columns are the same
 * but for names that did not exist before, they were renamed (ALTER TABLE RENAME COLUMN). Two columns that swapped
 * their names are not renamed: the values moved.
 */
export const matchColumns = (before: Table, after: Table): number[] => {
  const oldNames = new Map(before.columns.map((column, index) => [column.name, index]));
  const renamed =
    before.columns.length === after.columns.length &&
    before.columns.every((column, index) => {
      const now = after.columns[index]!;
      return sameContent(column, now) && (column.name === now.name || !oldNames.has(now.name));
    });
  return after.columns.map((column, index) => (renamed ? index : (oldNames.get(column.name) ?? -1)));
};

/** Only names differ, and each column stands where it stood: rows need not be read to know that they are the same. */
export const onlyRenamed = (before: Table, after: Table): boolean =>
  before.columns.length === after.columns.length &&
  before.rowidAlias === after.rowidAlias &&
  sameLayout(before, after) &&
  matchColumns(before, after).every((old, index) => old === index);

/** Rows are still told apart by the same columns, and stand in the same order. If not, the table is another one that took the name. */
export const sameKey = (before: Table, after: Table): boolean => {
  if (!sameOrder(before, after)) return false;
  if (before.key.length !== after.key.length || (before.rowidAlias === -1) !== (after.rowidAlias === -1)) return false;
  const places = matchColumns(before, after);
  return after.key.every((column, ordinal) => places[column] === before.key[ordinal]);
};

const sameContent = (a: Column, b: Column): boolean =>
  a.affinity === b.affinity && a.keyOrdinal === b.keyOrdinal && a.generated === b.generated && sameValue(a.defaultValue, b.defaultValue);

/** Compares rows decoded, column by column, each under its own version. A new column was NULL before; a dropped one does not count. */
export const rowComparison = (before: Table, after: Table, encoding: TextEncoding): ((rowid: Rowid, old: Buffer, now: Buffer) => boolean) => {
  const places = matchColumns(before, after);
  return (rowid, old, now) => {
    const oldValues = new Row(before, rowid, old, encoding).values('bigint');
    const newValues = new Row(after, rowid, now, encoding).values('bigint');
    return newValues.every((value, index) => {
      const place = places[index]!;
      if (!sameValue(place === -1 ? null : (oldValues[place] ?? null), value)) return false;
      // U+FFFD can stand for other bytes on either side. A value that a record does not hold is a default, and valid.
      if (typeof value !== 'string' || !value.includes('\uFFFD')) return true;
      const stored = storedBytes(old, fieldOf(before, place));
      const storedNow = storedBytes(now, fieldOf(after, index));
      return stored !== null && storedNow !== null && stored.equals(storedNow);
    });
  };
};

/** Compares records of a table that stayed as it is: by bytes, but for what SQLite writes in more than one way. */
export const recordComparison = (table: Table, encoding: TextEncoding): ((rowid: Rowid, old: Buffer, now: Buffer) => boolean) => {
  // Text that stands on both sides has the same bytes when it comes to decoding: what is invalid in it does not count.
  const decoded = (rowid: Rowid, old: Buffer, now: Buffer): boolean => {
    const before = new Row(table, rowid, old, encoding).values('bigint');
    return new Row(table, rowid, now, encoding).values('bigint').every((value, index) => sameValue(before[index]!, value));
  };
  return (rowid, old, now) =>
    (old.length === now.length && sameBytes(old, 0, now, 0, old.length)) || (mayHoldTheSame(old, now) && decoded(rowid, old, now));
};

/** Place of a column's value in a record. */
const fieldOf = ({ withoutRowid }: Table, column: number): number => (withoutRowid === undefined ? column : withoutRowid.fields.indexOf(column));

const sameValue = (a: Value, b: Value): boolean =>
  a instanceof Uint8Array && b instanceof Uint8Array ? Buffer.compare(a, b) === 0 : Object.is(a, b);
