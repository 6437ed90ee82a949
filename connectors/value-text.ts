/** Values as text, in the one form that every connector uses where a column holds text only. */
import type { Value } from '../src/change/table.ts';

/** A value as text: integers as digits, REAL as the shortest digits that read back equal, without an exponent; blobs as `\x` hex. */
export const textOf = (value: Exclude<Value, null>): string => {
  if (typeof value === 'string') return value;
  if (typeof value === 'number') return plainNumber(value);
  if (typeof value === 'bigint') return String(value);
  return `\\x${hex(value)}`;
};

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');

/** The shortest decimal digits, never an exponent: `1e-7` → `0.0000001`. */
export const plainNumber = (value: number): string => {
  const text = String(value);
  const e = text.indexOf('e');
  if (e === -1) return text;
  const exponent = Number(text.slice(e + 1));
  const sign = value < 0 ? '-' : '';
  const [whole = '', fraction = ''] = text.slice(sign.length, e).split('.');
  const digits = whole + fraction;
  const point = whole.length + exponent;
  if (point <= 0) return `${sign}0.${'0'.repeat(-point)}${digits}`;
  return `${sign}${digits.padEnd(point, '0')}`;
};
