/**
 * Rows as documents.
 *
 *     hive        BSON
 *     INTEGER     int64 (Long), always
 *     REAL        double, infinities too
 *     TEXT        string (U+0000 too); dates and JSON stay the text that they are
 *     BLOB        binary, subtype 0
 *     NULL        null
 *
 * Every column is a field under its own name (see `names.ts` for dots). `_id` is the key once more: its value where the key is one column, else a document
 * of the key columns in key order.
 */
import { Binary, Double } from 'mongodb';
import type { Value } from '../../src/change/table.ts';
import type { SinkTable } from '../../src/pipeline/sink.ts';
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

export class DocumentShape {
  readonly #paths: readonly (readonly string[])[];
  readonly #keyNames: readonly string[];

  constructor(table: SinkTable) {
    this.#paths = fieldPaths(table.columns.map((column) => column.name));
    this.#keyNames = table.key.map((index) => this.#paths[index]!.join('.').replaceAll('.', '_'));
  }

  /** `key`: no NULL in it. */
  id(key: readonly Value[]): Id {
    if (key.length === 1) return toBson(key[0]!) as Id;
    return Object.fromEntries(this.#keyNames.map((name, place) => [name, toBson(key[place]!)]));
  }

  document(key: readonly Value[], values: readonly Value[]): StoredDocument {
    const document: StoredDocument = { _id: this.id(key) };
    const paths = this.#paths;
    for (let index = 0; index < paths.length; index += 1) {
      const path = paths[index]!;
      let inside: Record<string, unknown> = document;
      for (let depth = 0; depth < path.length - 1; depth += 1) inside = (inside[path[depth]!] ??= {}) as Record<string, unknown>;
      inside[path.at(-1)!] = toBson(values[index]!);
    }
    return document;
  }
}

/** At least about so many bytes. */
export const sizeOf = (values: readonly Value[]): number => {
  let bytes = 0;
  for (const value of values) bytes += typeof value === 'string' || value instanceof Uint8Array ? value.length : 8;
  return bytes;
};
