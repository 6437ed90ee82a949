/**
 * Tables as SQLite itself describes them, at one version of the schema. Plain data: `src/catalog` makes it,
 * the log stores it beside the changes, sinks map it.
 */
import type { KeyField } from '../sqlite/key-order.ts';

/**
 * A value of a row. INTEGER is a number when it is a safe integer, else a bigint (or always a bigint where a
 * reader asks for `integers: 'bigint'`, which keeps INTEGER 1 and REAL 1.0 apart). REAL is a number.
 */
export type Value = null | number | bigint | string | Uint8Array;

/**
 * A rowid: a number when it is a safe integer, else a bigint. Canonical, so `===` compares. A row of a WITHOUT ROWID table has none;
 * a number made of its key's bytes stands in its place (`keyNumber`).
 */
export type Rowid = number | bigint;

/** Column affinity (https://sqlite.org/datatype3.html#type_affinity). */
export type Affinity = 'INTEGER' | 'TEXT' | 'BLOB' | 'REAL' | 'NUMERIC';

export type TextEncoding = 'utf8' | 'utf16le' | 'utf16be';

export interface Column {
  readonly name: string;
  /** The declared type, '' if none. */
  readonly type: string;
  readonly affinity: Affinity;
  readonly notNull: boolean;
  /** The DEFAULT clause's expression text, or null. */
  readonly defaultSql: string | null;
  /** What a record that is too short to hold the column means (the constant DEFAULT after affinity; else null). INTEGER as bigint. */
  readonly defaultValue: Value;
  /** Place in the declared PRIMARY KEY, from 1; 0 if not in it. */
  readonly keyOrdinal: number;
  /** A STORED generated column (its value stands in the record; a sink stores it as a plain value). */
  readonly generated: boolean;
}

export interface Table {
  readonly name: string;
  /** Columns in declaration order, which is record order. Virtual generated columns are not listed: no record holds them. */
  readonly columns: readonly Column[];
  /** Indexes into `columns` of the declared PRIMARY KEY, in key order; empty: the key is the rowid. */
  readonly key: readonly number[];
  /** Index of the column that is an alias of the rowid (INTEGER PRIMARY KEY), or -1. */
  readonly rowidAlias: number;
  /** Present on WITHOUT ROWID tables only: their records hold the columns in another order, and stand in the order of the key. */
  readonly withoutRowid?: RecordLayout;
  readonly strict: boolean;
  /** Names of the tables that its foreign keys refer to. */
  readonly references: readonly string[];
  /** The CREATE TABLE statement. */
  readonly sql: string;
  /**
   * Catalog version at which rows last changed their rowid without a change to tell (a rebuilt table, VACUUM):
   * whoever reads the table in rowid order over several versions starts again when this differs.
   */
  readonly generation: number;
}

/** How the records of a WITHOUT ROWID table are laid out: the key's fields first, then the other columns. */
export interface RecordLayout {
  /** For each field of a record the index into `columns`. A column that is in the key under two collations comes twice. */
  readonly fields: readonly number[];
  /** Order of the first fields, which are the key. */
  readonly key: readonly KeyField[];
}

/**
 * Where a row stands in its table's order: its rowid or, in a WITHOUT ROWID table, a record that begins with its key.
 */
export type RowPlace = Rowid | Uint8Array;

/** All captured tables at one version of the schema. */
export interface Catalog {
  /** Counts schema versions in one log, from 1. */
  readonly version: number;
  readonly encoding: TextEncoding;
  readonly tables: readonly Table[];
}

export const findTable = (catalog: Catalog, name: string): Table | undefined => catalog.tables.find((table) => table.name === name);
