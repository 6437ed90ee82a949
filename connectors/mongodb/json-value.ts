/**
 * JSON text as BSON: objects are documents, arrays arrays, with the names as they are. Numbers lose no digit:
 *
 *     an integer of 64 bits                                int64 (Long), as INTEGER columns
 *     what a double holds exactly as it is written         double
 *     up to 34 digits otherwise (12345678901234567890)     decimal128
 *     everything else                                      refused
 *
 * Refused are also names that MongoDB or its driver cannot hold (U+0000, `_bsontype`), halves of surrogate pairs, and more than 90 levels (a document
 * may have 100). Of a name that comes twice the last value counts.
 */
import { Decimal128, Double } from 'mongodb';

export type JsonValue = string | boolean | bigint | Double | Decimal128 | null | readonly JsonValue[] | { readonly [name: string]: JsonValue };

/** Why a text cannot be stored; never with a value in it. */
export class JsonRefused extends Error {}

const MAX_LEVELS = 90;

/** Throws JsonRefused. */
export const parseJson = (text: string): JsonValue => {
  let value: JsonValue;
  try {
    value = JSON.parse(text, revive) as JsonValue;
  } catch (error) {
    if (error instanceof JsonRefused) throw error;
    // Not JSON, or so deep that there is no stack for it.
    throw new JsonRefused(error instanceof RangeError ? 'it is nested too deeply' : 'it is not valid JSON');
  }
  if (isDeeper(value, MAX_LEVELS)) throw new JsonRefused(`it has more than ${MAX_LEVELS} levels`);
  return value;
};

const revive = (name: string, value: unknown, context?: { readonly source?: string }): unknown => {
  if (name === '_bsontype' || name.includes('\0')) throw new JsonRefused('it has a name that MongoDB does not take');
  if (!name.isWellFormed() || (typeof value === 'string' && !value.isWellFormed())) throw new JsonRefused('it has half a character');
  return typeof value === 'number' ? numberOf(context?.source ?? String(value)) : value;
};

const numberOf = (source: string): bigint | Double | Decimal128 => {
  if (/^-?\d+$/.test(source) && BigInt.asIntN(64, BigInt(source)) === BigInt(source)) return BigInt(source);
  const double = Number(source);
  if (digitsOf(String(double)) === digitsOf(source)) return new Double(double);
  try {
    const decimal = Decimal128.fromString(source);
    if (digitsOf(decimal.toString()) === digitsOf(source)) return decimal;
  } catch {
    // More digits than it has, or a larger exponent.
  }
  throw new JsonRefused('it has a number that no type of MongoDB holds');
};

/** The same for equal decimal numbers, however they are written: digits without zeros around them, and the exponent. */
const digitsOf = (number: string): string => {
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]?\d+))?$/i.exec(number) ?? [];
  const digits = (whole + fraction).replace(/^0+/, '');
  const kept = digits.replace(/0+$/, '');
  if (kept === '') return 'zero';
  return `${sign}${kept}e${Number(exponent) - fraction.length + digits.length - kept.length}`;
};

const isDeeper = (value: unknown, levels: number): boolean => {
  if (typeof value !== 'object' || value === null || value instanceof Double || value instanceof Decimal128) return false;
  return levels === 0 || Object.values(value).some((inner) => isDeeper(inner, levels - 1));
};
