/** When the declared key of a row does not tell the row, and the rowid has to come along. */
import type { Value } from './table.ts';

/** Name of the rowid in keys and as the added column of tables without a declared key. */
export const ROWID_COLUMN = 'waggle_rowid';

/** A row's rowid belongs into its key where the values alone, as JSON shows them, could be another row's too. */
export const keyNeedsRowid = (columns: readonly { readonly type: string }[], key: readonly Value[]): boolean => {
  for (let index = 0; index < key.length; index += 1) {
    if (valueIsAmbiguous(key[index]!, columns[index]!.type)) return true;
  }
  return false;
};

// NULLs are distinct in SQLite's keys (outside INTEGER PRIMARY KEY and NOT NULL). Text that was not valid UTF-8 holds U+FFFD
// (so does text that really contains it: it pays with a longer key). BLOBs are written as base64 text, so one that stands where text
// stands, or text where BLOBs stand, could read the same; which of them is at home in a column, its declared type tells.
const valueIsAmbiguous = (value: Value, type: string): boolean => {
  switch (typeof value) {
    case 'string':
      return value.includes('\uFFFD') || isBlobType(type);
    case 'number':
      return !Number.isFinite(value);
    case 'bigint':
      return false;
    default:
      return value === null || !isBlobType(type);
  }
};

const isBlobType = (type: string): boolean => type.length >= 4 && type.toUpperCase().includes('BLOB');
