/** Many rows as prepared statements of few sizes, because the server prepares one for each. */
import type { Bound } from './column-type.ts';

const SIZES = [512, 256, 128, 64, 32, 16, 8, 4, 2, 1];
const MAX_PLACEHOLDERS = 65_535;
/** What a packet holds beside the values of a row. */
const PACKET_OVERHEAD = 1024;

/** What a single statement may hold. */
export interface GroupLimits {
  readonly maxPacketBytes: number;
  /** More than this only for a single row. */
  readonly chunkBytes: number;
}

/** Groups of one of the few sizes each, in order. All rows have the same number of values. */
export const groupRows = <T extends { readonly bound: readonly Bound[] }>(rows: readonly T[], { chunkBytes }: GroupLimits): T[][] => {
  const most = Math.floor(MAX_PLACEHOLDERS / Math.max(rows[0]?.bound.length ?? 1, 1));
  const ends = endsInBytes(rows);
  const groups: T[][] = [];
  for (let from = 0; from < rows.length;) {
    const before = ends[from - 1] ?? 0;
    const fits = (size: number): boolean => size <= most && from + size <= rows.length && ends[from + size - 1]! - before <= chunkBytes;
    const size = SIZES.find(fits) ?? 1;
    groups.push(rows.slice(from, from + size));
    from += size;
  }
  return groups;
};

/**
 * Groups for a statement that does not mind a row twice: each as large as may be, its last row repeated up to the next of the few sizes. One statement
 * for the deletes between some hundred upserts, where `groupRows` makes half a dozen.
 */
export const padGroups = <T extends { readonly bound: readonly Bound[] }>(rows: readonly T[], limits: GroupLimits): T[][] => {
  const groups: T[][] = [];
  for (let from = 0; from < rows.length; from += SIZES[0]!) {
    const group = rows.slice(from, from + SIZES[0]!);
    const size = SIZES.findLast((each) => each >= group.length)!;
    const widest = group.reduce((most, { bound }) => Math.max(most, upperBytes(bound)), 0);
    const fits = size * widest <= limits.chunkBytes && size * group[0]!.bound.length <= MAX_PLACEHOLDERS;
    if (fits) groups.push([...group, ...Array<T>(size - group.length).fill(group.at(-1)!)]);
    else groups.push(...groupRows(group, limits));
  }
  return groups;
};

/** The place of the largest value of a row that no packet holds; -1: it fits. */
export const tooLarge = (row: readonly Bound[], { maxPacketBytes }: GroupLimits): number => {
  const limit = maxPacketBytes - PACKET_OVERHEAD;
  if (upperBytes(row) <= limit) return -1;
  const sizes = row.map((value) => (typeof value === 'string' ? Buffer.byteLength(value) : value instanceof Buffer ? value.length : 8));
  return sizes.reduce((sum, size) => sum + size, 0) <= limit ? -1 : sizes.indexOf(Math.max(...sizes));
};

/** At most so many bytes, without looking at each character. */
const upperBytes = (row: readonly Bound[]): number => {
  let bytes = 0;
  for (const value of row) bytes += typeof value === 'string' ? 3 * value.length : value instanceof Buffer ? value.length : 8;
  return bytes;
};

const endsInBytes = (rows: readonly { readonly bound: readonly Bound[] }[]): number[] => {
  let end = 0;
  return rows.map(({ bound }) => (end += upperBytes(bound)));
};
