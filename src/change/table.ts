/**
 * Tables as SQLite itself describes them, at one version of the schema. Plain data: `src/catalog` makes it,
 * the log stores it beside the changes, sinks map it.
 */
import type { KeyPart } from '../sqlite/key-order.ts';

/**
 * A value of a row. INTEGER is a number when it is a safe integer, else a bigint (or always a bigint where a
 * reader asks for `integers: 'bigint'`, which keeps INTEGER 1 and REAL 1.0 apart). REAL is a number.
 */
export type Value = null | number | bigint | string | Uint8Array;

/**
 * A rowid: a number when it is a safe integer, else a bigint. Canonical, so `===` compares. A row of a WITHOUT ROWID table has a hash
 * of its key in its place, which tells two keys apart that read the same (invalid text).
 */
export type Rowid = number | bigint;

/** Where a row stands in its table: its rowid, or in a WITHOUT ROWID table its key as a record. */
export type RowPlace = Rowid | Uint8Array;

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

/** How the rows of a WITHOUT ROWID table stand in its b-tree (https://sqlite.org/withoutrowid.html). */
export interface Clustering {
  /** The i-th value of a record is that of the column with this index: key columns first. A column may come twice. */
  readonly recordOrder: readonly number[];
  /** How records sort, by as many of their first values. */
  readonly keyParts: readonly KeyPart[];
}

export interface Table {
  readonly name: string;
  /** Columns in declaration order. Virtual generated columns are not listed: no record holds them. */
  readonly columns: readonly Column[];
  /** Indexes into `columns` of the declared PRIMARY KEY, in key order; empty: the key is the rowid. */
  readonly key: readonly number[];
  /** Index of the column that is an alias of the rowid (INTEGER PRIMARY KEY), or -1. */
  readonly rowidAlias: number;
  /** Of a WITHOUT ROWID table; null: records are in declaration order and have a rowid. */
  readonly clustering: Clustering | null;
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

/** All captured tables at one version of the schema. */
export interface Catalog {
  /** Counts schema versions in one log, from 1. */
  readonly version: number;
  readonly encoding: TextEncoding;
  readonly tables: readonly Table[];
}

export const findTable = (catalog: Catalog, name: string): Table | undefined => catalog.tables.find((table) => table.name === name);
