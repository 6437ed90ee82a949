/** A value of the hive beside the one that the target has instead, as text for people: one line each, cut, nothing in it that a terminal obeys. */
import type { Value } from '../change/table.ts';

export interface TwoValues {
  readonly wanted: string;
  readonly found: string;
}

/** Where both read the same, the kind of each comes along. */
export const twoValues = (wanted: Value, found: Value): TwoValues => {
  const texts = { wanted: textOf(wanted), found: textOf(found) };
  if (texts.wanted !== texts.found) return texts;
  return { wanted: `${texts.wanted} (${storageClass(wanted)})`, found: `${texts.found} (${storageClass(found)})` };
};

const LONGEST = 500;

const textOf = (value: Value): string => {
  if (value === null) return 'NULL';
  if (value instanceof Uint8Array)
    return `\\x${Buffer.from(value.subarray(0, LONGEST / 2)).toString('hex')}${cut(value.length, LONGEST / 2, 'bytes')}`;
  if (typeof value !== 'string') return String(value);
  return `${quoted(value.slice(0, LONGEST))}${cut(value.length, LONGEST, 'characters')}`;
};

const cut = (length: number, shown: number, unit: string): string => (length <= shown ? '' : `… (${length} ${unit})`);

/** JSON leaves DEL and the second set of control characters as they are. */
const quoted = (text: string): string =>
  JSON.stringify(text).replaceAll(/[\u007f-\u009f]/g, (character) => `\\u00${character.charCodeAt(0).toString(16)}`);

const storageClass = (value: Value): string => {
  if (value === null) return 'NULL';
  if (typeof value === 'bigint') return 'INTEGER';
  if (typeof value === 'number') return 'REAL';
  return typeof value === 'string' ? 'TEXT' : 'BLOB';
};
