/**
 * Rows as documents.
 *
 *     hive                                          BSON
 *     INTEGER                                       int64 (Long), always
 *     REAL                                          double, infinities too
 *     TEXT                                          string (U+0000 too); dates and JSON stay the text that they are
 *     BLOB                                          binary, subtype 0
 *     NULL                                          null
 *     what the user says it is (SinkColumn.kind)
 *       timestamp                                   date: milliseconds, further digits are cut off
 *       boolean                                     bool
 *       json                                        document, array or scalar (see `json-value.ts`)
 *
 * Every column is a field under its own name (see `names.ts` for dots). `_id` is the key once more, as the hive has it whatever the user says of
 * its columns: its value where the key is one column, else a document of the key columns in key order.
 */
import { Binary, Double } from 'mongodb';
import type { Value } from '../../src/change/table.ts';
import type { ColumnKind, SinkTable } from '../../src/pipeline/sink.ts';
import { JsonRefused, type JsonValue, parseJson } from './json-value.ts';
import { fieldPaths } from './names.ts';

export type BsonValue = string | bigint | number | Double | Binary | null;
export type Id = Exclude<BsonValue, null> | Readonly<Record<string, BsonValue>>;
/** Never a class of the driver's: whatever is enumerable in it is stored. */
export interface StoredDocument {
  _id: Id;
  [field: string]: unknown;
}

/** The driver makes an int32 of a number without a fraction. */
export const toBson = (value: Value): BsonValue => {
  if (typeof value === 'number') return Number.isInteger(value) ? new Double(value) : value;
  if (value instanceof Uint8Array) return new Binary(value);
  return value;
};

/** A value that its column's kind does not take. `reason` never has the value in it. */
export class FieldRefused extends Error {
  /** Index of the column. */
  readonly column: number;

  constructor(column: number, reason: string) {
    super(reason);
    this.column = column;
  }
}

export class DocumentShape {
  /** Has columns whose values are larger as BSON than as text. */
  readonly hasJson: boolean;
  readonly #paths: readonly (readonly string[])[];
  readonly #kinds: readonly (ColumnKind | undefined)[];
  readonly #keyNames: readonly string[];

  constructor(table: SinkTable) {
    this.#paths = fieldPaths(table.columns.map((column) => column.name));
    this.#kinds = table.columns.map(({ kind }) => kind);
    this.#keyNames = table.key.map((index) => this.#paths[index]!.join('.').replaceAll('.', '_'));
    this.hasJson = this.#kinds.includes('json');
  }

  /** `key`: no NULL in it. */
  id(key: readonly Value[]): Id {
    if (key.length === 1) return toBson(key[0]!) as Id;
    return Object.fromEntries(this.#keyNames.map((name, place) => [name, toBson(key[place]!)]));
  }

  /** Throws FieldRefused. */
  document(key: readonly Value[], values: readonly Value[]): StoredDocument {
    const document: StoredDocument = { _id: this.id(key) };
    for (const [index, path] of this.#paths.entries()) {
      let inside: Record<string, unknown> = document;
      for (let depth = 0; depth < path.length - 1; depth += 1) inside = (inside[path[depth]!] ??= {}) as Record<string, unknown>;
      inside[path.at(-1)!] = this.field(index, values[index]!);
    }
    return document;
  }

  /** What the field of the column holds for a value. Throws FieldRefused. */
  field(column: number, value: Value): BsonValue | Date | JsonValue {
    const kind = this.#kinds[column];
    return kind === undefined || value === null ? toBson(value) : ofKind(kind, value, column);
  }

  /** The value of the column's field in a document that was read; null also where there is none. */
  fieldOf(column: number, document: object): unknown {
    let inside: unknown = document;
    for (const name of this.#paths[column]!) inside = typeof inside === 'object' && inside !== null ? Reflect.get(inside, name) : undefined;
    return inside ?? null;
  }

  /** The key that a document's `_id` stands for; null: no key of the hive is stored so. */
  keyOf(id: unknown): Value[] | null {
    const parts =
      this.#keyNames.length === 1
        ? [id]
        : typeof id === 'object' && id !== null && Object.keys(id).join('\0') === this.#keyNames.join('\0')
          ? Object.values(id)
          : [];
    const key = parts.flatMap((part: unknown): Value[] => {
      if (typeof part === 'string' || typeof part === 'number' || typeof part === 'bigint') return [part];
      return part instanceof Binary ? [part.value()] : [];
    });
    return key.length === this.#keyNames.length ? key : null;
  }

  /** The path of the column's field, with dots. */
  pathOf(column: number): string {
    return this.#paths[column]!.join('.');
  }
}

const ofKind = (kind: ColumnKind, value: Exclude<Value, null>, column: number): Date | JsonValue => {
  switch (kind) {
    case 'timestamp': {
      const date = new Date(typeof value === 'string' ? value : Number.NaN);
      if (Number.isNaN(date.getTime())) throw new FieldRefused(column, 'a value is not a timestamp');
      return date;
    }
    case 'boolean':
      if (value !== 0n && value !== 1n && value !== 0 && value !== 1) throw new FieldRefused(column, 'a value is neither 0 nor 1');
      return Boolean(value);
    case 'json':
      if (typeof value !== 'string') throw new FieldRefused(column, 'a value is not JSON text');
      try {
        return parseJson(value);
      } catch (error) {
        if (error instanceof JsonRefused) throw new FieldRefused(column, `a JSON value cannot be stored: ${error.message}`);
        throw error;
      }
  }
};

/** At least about so many bytes. */
export const sizeOf = (values: readonly Value[]): number => {
  let bytes = 0;
  for (const value of values) bytes += typeof value === 'string' || value instanceof Uint8Array ? value.length : 8;
  return bytes;
};
