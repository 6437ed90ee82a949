/**
 * Columns as Postgres array literals (https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO): one parameter
 * of an UNNEST statement a column. Written by hand because the driver's own way costs more than the server's work.
 */
import type { Value } from '../../src/change/table.ts';
import { hex, plainNumber, textOf } from '../value-text.ts';
import type { ColumnKind } from './column-type.ts';

export interface ArrayColumn {
  /** The array literal; what stands in it for a misfit is not to be used. */
  readonly literal: string;
  /** First row whose value a column of this kind cannot hold; -1: all fit. */
  readonly misfit: number;
}

/**
 * Values `rows[…][index]` for a column of `kind`. `lenient` (tables that waggle did not create): text goes to any
 * column as it is, so that the server judges it; blobs go only into bytea.
 */
export const arrayColumn = (rows: readonly (readonly Value[])[], index: number, kind: ColumnKind, lenient: boolean): ArrayColumn => {
  const element = kind === 'text' && lenient ? lenientText : ELEMENTS[kind];
  let literal = '{';
  for (let row = 0; row < rows.length; row += 1) {
    const value = rows[row]![index]!;
    if (row !== 0) literal += ',';
    if (value === null) {
      literal += 'NULL';
      continue;
    }
    const text = lenient && kind !== 'bytea' && typeof value === 'string' ? quoted(value) : element(value);
    if (text === null) return { literal: '', misfit: row };
    literal += text;
  }
  return { literal: `${literal}}`, misfit: -1 };
};

/** The text of a value in an array; null: a column of this kind cannot hold it. */
export type Element = (value: Exclude<Value, null>) => string | null;

const SPECIAL = /["\\\0]/;

// A NUL fits no text of Postgres. It is a misfit, and the caller knows that nothing wider holds it.
const quoted = (text: string): string | null => {
  if (!SPECIAL.test(text)) return `"${text}"`;
  return text.includes('\0') ? null : `"${text.replace(/["\\]/g, '\\$&')}"`;
};

const INT64_MAX = 2n ** 63n - 1n;
const INT64_MIN = -(2n ** 63n);

const lenientText: Element = (value) => (value instanceof Uint8Array ? null : quoted(textOf(value)));

export const ELEMENTS: Readonly<Record<ColumnKind, Element>> = {
  int: (value) => {
    if (typeof value === 'number') return Number.isSafeInteger(value) ? String(value) : null;
    return typeof value === 'bigint' && value >= INT64_MIN && value <= INT64_MAX ? String(value) : null;
  },
  numeric: (value) => (typeof value === 'number' || typeof value === 'bigint' ? String(value) : null),
  float: (value) => {
    if (typeof value === 'number') return Object.is(value, -0) ? '-0' : String(value);
    return typeof value === 'bigint' && BigInt(Number(value)) === value ? String(value) : null;
  },
  text: (value) => quoted(textOf(value)),
  bytea: (value) => (value instanceof Uint8Array ? `"\\\\x${hex(value)}"` : null),
  bool: (value) => (value === 0 || value === 1 || value === 0n || value === 1n ? String(value) : null),
  // The server converts it.
  other: (value) =>
    typeof value === 'string' ? quoted(value) : typeof value === 'number' ? plainNumber(value) : typeof value === 'bigint' ? String(value) : null,
};

/** Whether `value` is a text that Postgres cannot hold at all. */
export const holdsNul = (value: Value): boolean => typeof value === 'string' && value.includes('\0');
