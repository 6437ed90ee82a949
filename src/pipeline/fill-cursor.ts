/** How far a first fill has come: kept in the checkpoint's `fill`, so that it moves with the rows it speaks of. */
import { WaggleError } from '../support/errors.ts';
import { canonicalInteger } from '../sqlite/varint.ts';
import type { Row } from '../change/row.ts';
import type { RowPlace } from '../change/table.ts';
import { keyPrefix } from '../sqlite/key-order.ts';

export interface FillCursor {
  /**
   * True: the target may hold rows that the hive does not (anymore). They are removed behind the fill of each table, so that whoever reads the target never
   * meets an empty one; where that cannot be, the table is emptied when its fill begins.
   */
  readonly reconcile: boolean;
  /** `tables[0]` is to be emptied: filling it beside its old rows did not work. */
  readonly empties?: boolean;
  /** Tables that are still to be filled; the first of them is begun. */
  readonly tables: readonly string[];
  /** Where the last row of `tables[0]` that was filled stands; null: none yet. */
  readonly after: RowPlace | null;
  /** Generation of the chunks of `tables[0]` so far; null with `after`. */
  readonly generation: string | null;
  /** Tables at the begin of the fill. */
  readonly total: number;
  /** Rows filled so far. */
  readonly rows: number;
  /** About how much of `tables[0]` is filled, from 0 to 1. */
  readonly share: number;
}

export const beginFill = (tables: readonly string[], reconcile: boolean): FillCursor | null =>
  tables.length === 0 ? null : { reconcile, tables, after: null, generation: null, total: tables.length, rows: 0, share: 0 };

/** These tables, too, each from its first row and emptied before. */
export const fillAgain = (cursor: FillCursor | null, tables: readonly string[]): FillCursor | null => {
  if (cursor === null || tables.length === 0) return cursor ?? beginFill(tables, true);
  const others = cursor.tables.filter((name) => !tables.includes(name));
  const begun =
    others[0] === cursor.tables[0]
      ? { after: cursor.after, generation: cursor.generation, share: cursor.share }
      : { after: null, generation: null, share: 0 };
  const all = [...others, ...tables];
  return { ...cursor, ...begun, reconcile: true, tables: all, total: cursor.total + all.length - cursor.tables.length };
};

/** Null when that was the last table. */
export const nextTable = (cursor: FillCursor, rows = 0): FillCursor | null =>
  cursor.tables.length <= 1 ? null : { ...restartTable(cursor), tables: cursor.tables.slice(1), rows: cursor.rows + rows, empties: false };

/** The same table from its first row again. */
export const restartTable = (cursor: FillCursor): FillCursor => ({ ...cursor, after: null, generation: null, share: 0 });

/** The same table from its first row again, emptied before. */
export const emptyTable = (cursor: FillCursor): FillCursor => ({ ...restartTable(cursor), empties: true });

/** Where a row stands in its table's order. */
export const placeOfRow = ({ table, rowid, record }: Row): RowPlace =>
  table.withoutRowid === undefined ? rowid : keyPrefix(record, table.withoutRowid.key.length);

export const encodeCursor = (cursor: FillCursor | null): string | null =>
  cursor === null ? null : JSON.stringify({ v: 1, ...cursor, after: cursor.after === null ? null : encodePlace(cursor.after) });

/** Digits, or `x` and hexadecimal digits. */
const encodePlace = (place: RowPlace): string => (place instanceof Uint8Array ? `x${Buffer.from(place).toString('hex')}` : String(place));

const decodePlace = (text: string): RowPlace => (text.startsWith('x') ? Buffer.from(text.slice(1), 'hex') : canonicalInteger(BigInt(text)));

/** Throws SINK_CHECKPOINT_UNKNOWN on a note that this version did not write: the fill then starts again. */
export const decodeCursor = (note: string | null): FillCursor | null => {
  if (note === null) return null;
  const raw = parse(note);
  if (raw?.v !== 1) throw new WaggleError('SINK_CHECKPOINT_UNKNOWN', "the checkpoint's note about the first fill cannot be read");
  const { v: _, after, ...cursor } = raw;
  return { ...cursor, after: after === null ? null : decodePlace(after) };
};

type RawCursor = Omit<FillCursor, 'after'> & { readonly v: number; readonly after: string | null };

const parse = (note: string): RawCursor | null => {
  try {
    return JSON.parse(note) as RawCursor;
  } catch {
    return null;
  }
};
