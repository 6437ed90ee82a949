/**
 * Which MySQL type a hive column gets, and what a column of a given type can hold.
 *
 *     hive                                          MySQL                    in the key
 *     always a 64-bit integer                       bigint
 *     INTEGER affinity, declared BOOL…              bigint
 *     REAL affinity, other NUMERIC affinity         double
 *     TEXT affinity                                 longtext                 varchar
 *     no declared type (any value)                  longtext                 varchar
 *     DATE, TIME, JSON, UUID, STRING, ENUM          longtext                 varchar
 *     a declared type with BLOB affinity            longblob                 varbinary
 *     what the user says it is (SinkColumn.kind)
 *       timestamp                                   datetime(6), UTC; further digits are cut off
 *       boolean                                     tinyint(1)
 *       json                                        json (MariaDB: longtext with a check)   varchar
 *
 * A double is what SQLite itself keeps in a NUMERIC column; DECIMAL holds neither 1e300 nor 1e-40. SQLite columns hold any kind of
 * value. One that does not fit widens the column in a table that waggle created: bigint → double (where all integers of
 * the column are below 2^53) → longtext, longblob → longtext. Text holds everything: numbers as plain decimal digits, infinities as
 * `Infinity` (no double of MySQL holds them), blobs as `\x` and hex digits.
 *
 * An index takes 3072 bytes: text in a key gets 768 characters, divided by the number of key columns.
 */
import type { Value } from '../../src/change/table.ts';
import type { SinkColumn, ColumnKind as UserKind } from '../../src/pipeline/sink.ts';
import { plainNumber, textOf } from '../value-text.ts';

export type ColumnKind = 'int' | 'float' | 'text' | 'blob' | 'bool' | 'decimal' | 'time' | 'other';

/** A kind that waggle itself gives to columns. */
export type OwnKind = 'int' | 'float' | 'text' | 'blob';

const INDEX_BYTES = 3072;
const BYTES_PER_CHARACTER = 4;

/** `keyColumns`: how many columns the key has where this is one of them, else 0. */
export const typeNameOf = (kind: OwnKind, keyColumns: number): string => {
  const bytes = Math.floor(INDEX_BYTES / Math.max(keyColumns, 1));
  switch (kind) {
    case 'int':
      return 'bigint';
    case 'float':
      return 'double';
    case 'text':
      return keyColumns === 0 ? 'longtext' : `varchar(${Math.floor(bytes / BYTES_PER_CHARACTER)})`;
    case 'blob':
      return keyColumns === 0 ? 'longblob' : `varbinary(${bytes})`;
  }
};

const USER_TYPES: Record<UserKind, string> = { timestamp: 'datetime(6)', boolean: 'tinyint(1)', json: 'json' };

/** The type of a column that is to be created. No index takes `json`. */
export const typeFor = (column: SinkColumn, keyColumns: number): string =>
  column.kind === undefined || (column.kind === 'json' && keyColumns > 0) ? typeNameOf(chooseKind(column), keyColumns) : USER_TYPES[column.kind];

/** A column of this kind may be widened for a value that does not fit. */
export const canWiden = (kind: ColumnKind): kind is OwnKind => kind === 'int' || kind === 'float' || kind === 'text' || kind === 'blob';

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
      return column.type === '' ? 'text' : 'blob';
    case 'NUMERIC':
      if (/BOOL/i.test(column.type)) return 'int';
      return /DATE|TIME|JSON|UUID|STRING|ENUM/i.test(column.type) ? 'text' : 'float';
  }
};

/** The kind of a column that stands in the target, from its type as SHOW COLUMNS writes it. */
export const kindOfType = (type: string): ColumnKind => {
  if (type === 'tinyint(1)') return 'bool';
  if (/^(tiny|small|medium|big)?int/.test(type)) return 'int';
  if (/^(double|float)/.test(type)) return 'float';
  if (type.startsWith('decimal')) return 'decimal';
  if (/^(varchar|char|(tiny|medium|long)?text)/.test(type)) return 'text';
  if (/^((var)?binary|(tiny|medium|long)?blob)/.test(type)) return 'blob';
  if (/^(datetime|timestamp)/.test(type)) return 'time';
  return 'other';
};

const NUMBERS = '(tiny|small|medium|big)?int|double|float|decimal';
const BYTES = '(var)?binary|(tiny|medium|long)?blob';
const type = (...names: string[]): RegExp => new RegExp(`^(${names.join('|')})\\b`);

/** Types of a user's column that hold no value of that kind, whatever it is. Only what is certain: text may be digits. */
const NEVER: Readonly<Record<UserKind | SinkColumn['affinity'], RegExp>> = {
  INTEGER: type(BYTES, 'uuid', 'datetime', 'timestamp'),
  REAL: type(BYTES, 'uuid', 'datetime', 'timestamp'),
  NUMERIC: type(BYTES),
  TEXT: type(BYTES),
  BLOB: type(NUMBERS, 'uuid', 'datetime', 'timestamp', 'date', 'time'),
  timestamp: type(NUMBERS, BYTES, 'uuid', 'json'),
  boolean: type(BYTES, 'uuid', 'datetime', 'timestamp', 'date', 'time'),
  json: type(BYTES),
};

/** True where every value of the column's own kind would be refused by a target column of this type (as SHOW COLUMNS writes it). */
export const neverHolds = (typeName: string, column: SinkColumn): boolean =>
  // Without a declared type a column holds values of any kind.
  (column.kind !== undefined || column.type !== '') && NEVER[column.kind ?? column.affinity].test(typeName);

const INT64_MAX = 2n ** 63n - 1n;
const INT64_MIN = -(2n ** 63n);

/** The narrowest kind that a column of `kind` must be widened to so that it holds `value`; `kind` itself if it fits. */
export const kindFor = (kind: OwnKind, value: Value): OwnKind => {
  if (value === null || kind === 'text') return kind;
  if (typeof value === 'string') return 'text';
  if (value instanceof Uint8Array) return kind === 'blob' ? 'blob' : 'text';
  if (kind === 'blob') return 'text';
  if (kind === 'int' && isInt64(value)) return 'int';
  if (typeof value === 'number') return Number.isFinite(value) ? 'float' : 'text';
  return BigInt(Number(value)) === value ? 'float' : 'text';
};

/** The narrowest kind for all of `values` in a column that is of kind `from` now. */
export const widestKind = (from: OwnKind, values: readonly Value[]): OwnKind => {
  const kinds = new Set(values.map((value) => kindFor(from, value)));
  if (kinds.has('text') || (kinds.has('blob') && kinds.size > 1)) return 'text';
  if (!kinds.has('float')) return from;
  return values.every((value) => kindFor('float', value) === 'float') ? 'float' : 'text';
};

/** What the driver binds: a string, a double, bytes or NULL. `undefined`: a column of this kind cannot hold the value. */
export type Bound = string | number | Buffer | null;

/** `own`: the column is waggle's. Into other columns text goes as it is, so that the server judges it. */
export const bind = (value: Value, kind: ColumnKind, own: boolean): Bound | undefined => {
  if (value === null) return null;
  switch (kind) {
    // A table of the user may hold any small number in it.
    case 'bool':
      if (!own) return bind(value, 'int', own);
      return value === 0 || value === 1 || value === 0n || value === 1n ? Number(value) : undefined;
    case 'int':
      if (typeof value === 'number') return Number.isSafeInteger(value) ? value : undefined;
      if (typeof value === 'bigint') return isInt64(value) ? String(value) : undefined;
      // The server would round 45.5 in silence.
      return !own && typeof value === 'string' && /^-?\d+$/.test(value) ? value : undefined;
    case 'float':
      if (typeof value === 'number') return Number.isFinite(value) ? value : undefined;
      if (typeof value === 'bigint') return BigInt(Number(value)) === value ? Number(value) : undefined;
      return !own && typeof value === 'string' ? value : undefined;
    case 'text':
      if (value instanceof Uint8Array) return own ? textOf(value) : undefined;
      return textOf(value);
    case 'blob':
      return value instanceof Uint8Array ? Buffer.from(value.buffer, value.byteOffset, value.byteLength) : undefined;
    case 'decimal':
    case 'other':
      if (value instanceof Uint8Array) return undefined;
      return typeof value === 'number' ? (Number.isFinite(value) ? plainNumber(value) : undefined) : textOf(value);
    case 'time':
      return typeof value === 'string' ? utcTime(value) : undefined;
  }
};

const ISO_TIME = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d+)?Z$/;

/** Hive's own form of a date without its `T` and `Z`, which MySQL refuses; the session's time zone is UTC. Of a seventh digit MySQL and MariaDB think differently. */
const utcTime = (text: string): string =>
  text.replace(ISO_TIME, (_, day: string, time: string, fraction = '') => `${day} ${time}${String(fraction).slice(0, 7)}`);

const isInt64 = (value: number | bigint): boolean =>
  typeof value === 'bigint' ? value >= INT64_MIN && value <= INT64_MAX : Number.isSafeInteger(value);

/** A SQL expression for a column's values as text, in the forms of `textOf`. Integers need none. */
export const textExpression = (quoted: string, from: 'float' | 'blob'): string => {
  if (from === 'blob') return String.raw`CONCAT('\\x', LOWER(HEX(${quoted})))`;
  // MySQL writes an exponent from 1e15 on, and below 1e-14.
  const text = `CAST(${quoted} AS CHAR)`;
  const digits = `REPLACE(REPLACE(SUBSTRING_INDEX(${text}, 'e', 1), '.', ''), '-', '')`;
  const point = `(CAST(SUBSTRING_INDEX(${text}, 'e', -1) AS SIGNED) + 1)`;
  const plain =
    `CASE WHEN ${point} <= 0 THEN CONCAT('0.', REPEAT('0', -${point}), ${digits}) WHEN ${point} >= LENGTH(${digits}) THEN RPAD(${digits}, ${point}, '0') ` +
    `ELSE CONCAT(LEFT(${digits}, ${point}), '.', SUBSTRING(${digits}, ${point} + 1)) END`;
  return `IF(${text} LIKE '%e%', CONCAT(IF(${quoted} < 0, '-', ''), ${plain}), ${text})`;
};
