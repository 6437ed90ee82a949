/**
 * Which Postgres type a hive column gets, and what a column of a given type can hold.
 *
 *     hive                                          Postgres
 *     always a 64-bit integer                       bigint
 *     INTEGER affinity, declared BOOL…              bigint
 *     REAL affinity                                 double precision
 *     TEXT affinity                                 text
 *     a declared type with BLOB affinity            bytea
 *     no declared type (any value)                  text
 *     DATE, TIME, JSON, UUID, STRING, ENUM          text
 *     other NUMERIC affinity                        numeric
 *     what the user says it is (SinkColumn.kind)    timestamptz, boolean, jsonb
 *
 * SQLite columns hold any kind of value. One that does not fit widens the column in a table that waggle created:
 * bigint → numeric → text, double precision → text, bytea → text. Text holds everything except U+0000: numbers as
 * plain decimal digits, blobs as `\x` and hex digits (Postgres' own text form of bytea).
 */
import type { ColumnKind as UserKind, SinkColumn } from '../../src/pipeline/sink.ts';
import type { Value } from '../../src/change/table.ts';

export type ColumnKind = 'int' | 'numeric' | 'float' | 'text' | 'bytea' | 'bool' | 'other';

/** A kind that waggle itself gives to columns. */
export type OwnKind = 'int' | 'numeric' | 'float' | 'text' | 'bytea';

const TYPE_NAMES: Record<OwnKind, string> = { int: 'bigint', numeric: 'numeric', float: 'double precision', text: 'text', bytea: 'bytea' };

const USER_TYPES: Record<UserKind, string> = { timestamp: 'timestamptz', boolean: 'boolean', json: 'jsonb' };

/** The type of a column that is to be created. */
export const typeFor = (column: SinkColumn): string => (column.kind === undefined ? typeNameOf(chooseKind(column)) : USER_TYPES[column.kind]);

/** A column of this kind may be widened for a value that does not fit. */
export const canWiden = (kind: ColumnKind): kind is OwnKind => kind in TYPE_NAMES;

export const typeNameOf = (kind: OwnKind): string => TYPE_NAMES[kind];

export const chooseKind = (column: SinkColumn): OwnKind => {
  if (column.alwaysInteger) return 'int';
  switch (column.affinity) {
    case 'INTEGER':
      return 'int';
    case 'REAL':
      return 'float';
    case 'TEXT':
      return 'text';
    case 'BLOB':
      return column.type === '' ? 'text' : 'bytea';
    case 'NUMERIC':
      if (/BOOL/i.test(column.type)) return 'int';
      return /DATE|TIME|JSON|UUID|STRING|ENUM/i.test(column.type) ? 'text' : 'numeric';
  }
};

/** The kind of a column that stands in the target, from `format_type(oid, -1)`. */
export const kindOfType = (typeName: string): ColumnKind => {
  switch (typeName) {
    case 'smallint':
    case 'integer':
    case 'bigint':
      return 'int';
    case 'numeric':
      return 'numeric';
    case 'real':
    case 'double precision':
      return 'float';
    case 'text':
    case 'character varying':
    case 'bpchar':
      return 'text';
    case 'bytea':
      return 'bytea';
    case 'boolean':
      return 'bool';
    default:
      return 'other';
  }
};

const NUMBERS = 'smallint|integer|bigint|numeric|real|double precision';

/** Types of a user's column that hold no value of that kind, whatever it is. Only what is certain: text may be digits, and digits a date. */
const NEVER: Readonly<Record<UserKind | SinkColumn['affinity'], RegExp>> = {
  INTEGER: /^(bytea|uuid|.*\[\])$/,
  REAL: /^(bytea|uuid|.*\[\])$/,
  NUMERIC: /^bytea$/,
  TEXT: /^bytea$/,
  BLOB: new RegExp(`^(${NUMBERS}|boolean|uuid|date|interval|time.*|.*\\[\\])$`),
  timestamp: new RegExp(`^(${NUMBERS}|boolean|bytea|uuid|jsonb?|interval|.*\\[\\])$`),
  boolean: /^(bytea|uuid|date|time.*|.*\[\])$/,
  json: /^bytea$/,
};

/** True where every value of the column's own kind would be refused by a target column of this type (`format_type(oid, -1)`). */
export const neverHolds = (typeName: string, column: SinkColumn): boolean =>
  // Without a declared type a column holds values of any kind.
  (column.kind !== undefined || column.type !== '') && NEVER[column.kind ?? column.affinity].test(typeName);

const INT64_MAX = 2n ** 63n - 1n;
const INT64_MIN = -(2n ** 63n);

/**
 * The narrowest kind that a column of `kind` must be widened to so that it holds `value`; `kind` itself if it fits.
 * `infinities`: numeric of this server holds them (14 and newer).
 */
export const kindFor = (kind: OwnKind, value: Value, infinities: boolean): OwnKind => {
  if (value === null || kind === 'text') return kind;
  if (typeof value === 'string') return 'text';
  if (value instanceof Uint8Array) return kind === 'bytea' ? 'bytea' : 'text';
  switch (kind) {
    case 'bytea':
      return 'text';
    case 'float':
      return typeof value === 'number' || BigInt(Number(value)) === value ? 'float' : 'numeric';
    case 'int':
      if (typeof value === 'bigint' ? value >= INT64_MIN && value <= INT64_MAX : Number.isSafeInteger(value)) return 'int';
      break;
    case 'numeric':
      break;
  }
  return infinities || typeof value === 'bigint' || Number.isFinite(value) ? 'numeric' : 'text';
};

/** The narrowest kind that holds what either holds. */
export const joinKinds = (a: OwnKind, b: OwnKind): OwnKind => {
  if (a === b) return a;
  if (a === 'text' || b === 'text' || a === 'bytea' || b === 'bytea') return 'text';
  return 'numeric';
};

/** A SQL expression that converts a column when it is widened. Text forms are those of `textOf`. */
export const wideningExpression = (quoted: string, from: OwnKind, to: OwnKind): string => {
  if (to === 'text' && from === 'bytea') return `'\\x' || encode(${quoted}, 'hex')`;
  // float8's text has an exponent from 1e15 on, numeric's never has.
  if (to === 'text' && from === 'float')
    return `CASE WHEN ${quoted} IN ('Infinity', '-Infinity') THEN ${quoted}::text ELSE (${quoted}::text)::numeric::text END`;
  // float8 → numeric itself rounds to 15 digits.
  if (to === 'numeric' && from === 'float') return `(${quoted}::text)::numeric`;
  return `${quoted}::${TYPE_NAMES[to]}`;
};
