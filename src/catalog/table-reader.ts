/**
 * Tables as SQLite itself describes them: the hive's CREATE statements run in an empty in-memory database, whose PRAGMAs
 * tell columns, keys, defaults and foreign keys. There is no SQL parser of ours.
 */
import Database from 'better-sqlite3';
import type { Affinity, Column, RecordLayout, Table, Value } from '../change/table.ts';
import { type Collation, COLLATIONS } from '../sqlite/key-order.ts';
import { WaggleError } from '../support/errors.ts';
import type { SchemaRow } from './schema-rows.ts';

/** A captured table and where its tree begins. */
export interface RootedTable {
  readonly table: Table;
  readonly root: number;
}

/** Whether a table is captured. Never asked for SQLite's own tables, virtual tables and their shadow tables. */
export type TableFilter = (name: string) => boolean;

interface TableListRow {
  readonly name: string;
  readonly type: 'table' | 'view' | 'shadow' | 'virtual';
  readonly wr: 0 | 1;
  readonly strict: 0 | 1;
}

/** A column of an index, as `PRAGMA index_xinfo` tells it. */
interface IndexColumnRow {
  readonly cid: number;
  readonly desc: 0 | 1;
  readonly coll: string;
  /** 1: the rows stand in its order. */
  readonly key: 0 | 1;
}

interface ColumnRow {
  readonly cid: number;
  readonly name: string;
  readonly type: string;
  readonly notnull: 0 | 1;
  readonly dflt_value: string | null;
  readonly pk: number;
  /** 0 plain, 1 hidden, 2 virtual generated, 3 stored generated. */
  readonly hidden: 0 | 1 | 2 | 3;
}

/**
 * The captured tables of a schema, in schema order. `generation` means nothing in any of them: the caller knows better. `known`: tables of
 * the schema before, which need not be asked for again where their definition is the same.
 * Throws CATALOG_UNREADABLE for a statement that SQLite refuses and COLLATION_UNKNOWN for a WITHOUT ROWID table whose order only
 * the application knows.
 */
export const readTables = (rows: readonly SchemaRow[], captured: TableFilter, known: ReadonlyMap<string, Table> = new Map()): RootedTable[] => {
  const tables = rows.filter((row) => row.type === 'table' && row.sql !== null && !row.name.toLowerCase().startsWith('sqlite_'));
  const real = tables.filter((row) => row.root !== 0 && captured(row.name));
  const virtual = tables.filter((row) => row.root === 0);
  const isKnown = (row: SchemaRow): boolean => virtual.length === 0 && known.get(row.name)?.sql === row.sql;
  if (real.every(isKnown)) return real.map((row) => ({ table: known.get(row.name)!, root: row.root }));

  using database = openScratch();
  const { scratch } = database;
  // Virtual tables first: they create their shadow tables themselves, and SQLite then knows them as such.
  for (const row of virtual) createVirtual(scratch, row);
  const made = new Set(tableList(scratch).map((table) => table.name));
  for (const row of real) if (!made.has(row.name) && !isKnown(row)) create(scratch, row);

  const listed = new Map(tableList(scratch).map((table) => [table.name, table]));
  const result: RootedTable[] = [];
  for (const row of real) {
    if (isKnown(row)) {
      result.push({ table: known.get(row.name)!, root: row.root });
      continue;
    }
    const entry = listed.get(row.name);
    if (entry === undefined || entry.type !== 'table') continue;
    result.push({ table: describe(scratch, row, entry), root: row.root });
  }
  return result;
};

const openScratch = (): { scratch: Database.Database } & Disposable => {
  const scratch = new Database(':memory:');
  scratch.pragma('foreign_keys = OFF');
  return { scratch, [Symbol.dispose]: () => void scratch.close() };
};

const tableList = (scratch: Database.Database): TableListRow[] => scratch.pragma('main.table_list') as TableListRow[];

const createVirtual = (scratch: Database.Database, row: SchemaRow): void => {
  try {
    scratch.exec(row.sql!);
  } catch (error) {
    // A module that is not compiled in here: its shadow tables then look like plain tables and are captured as such.
    if (!(error instanceof Database.SqliteError)) throw error;
  }
};

const create = (scratch: Database.Database, row: SchemaRow): void => {
  try {
    // Not `exec`: a definition is one statement, whatever an edited sqlite_schema says.
    scratch.prepare(row.sql!).run();
  } catch {
    load(scratch, row);
  }
};

/**
 * Lets SQLite read the definition as part of a schema that exists: it then allows what it would not create, such as functions that
 * only the application has, or "strings" in double quotes.
 */
const load = (scratch: Database.Database, row: SchemaRow): void => {
  try {
    scratch.unsafeMode(true);
    scratch.exec(`CREATE TABLE ${quoted(row.name)}(x); PRAGMA writable_schema = ON`);
    scratch.prepare('UPDATE sqlite_schema SET sql = ? WHERE name = ?').run(row.sql, row.name);
    scratch.exec('PRAGMA writable_schema = RESET');
    // The definition is looked at now.
    scratch.pragma(`main.table_xinfo(${quoted(row.name)})`);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new WaggleError('CATALOG_UNREADABLE', `SQLite does not accept the definition of table "${row.name}": ${reason}`, { cause: error });
  }
};

const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;

const describe = (scratch: Database.Database, row: SchemaRow, listed: TableListRow): Table => {
  const strict = listed.strict === 1;
  const rows = (scratch.pragma(`main.table_xinfo(${quoted(row.name)})`) as ColumnRow[]).filter((column) => column.hidden !== 2);
  const columns = rows.map((column) => describeColumn(scratch, column, strict));
  const key = columns
    .map((column, index) => ({ ordinal: column.keyOrdinal, index }))
    .filter((entry) => entry.ordinal > 0)
    .sort((a, b) => a.ordinal - b.ordinal)
    .map((entry) => entry.index);
  const references = (scratch.pragma(`main.foreign_key_list(${quoted(row.name)})`) as { table: string }[]).map((fk) => fk.table);
  return {
    name: row.name,
    columns,
    key,
    rowidAlias: findRowidAlias(scratch, row.name, columns, key),
    ...(listed.wr === 1 ? { withoutRowid: describeLayout(scratch, row.name, rows) } : {}),
    strict,
    references: [...new Set(references)],
    sql: row.sql!,
    generation: 0,
  };
};

/**
 * The INTEGER PRIMARY KEY column, unless SQLite made an index for it (`INTEGER PRIMARY KEY DESC` is no alias:
 * https://sqlite.org/lang_createtable.html#rowids_and_the_integer_primary_key).
 */
const findRowidAlias = (scratch: Database.Database, name: string, columns: readonly Column[], key: readonly number[]): number => {
  if (key.length !== 1 || columns[key[0]!]!.type.toUpperCase() !== 'INTEGER') return -1;
  const indexes = scratch.pragma(`main.index_list(${quoted(name)})`) as { origin: string }[];
  return indexes.some((index) => index.origin === 'pk') ? -1 : key[0]!;
};

/** A WITHOUT ROWID table is its primary key's index, which has all columns. */
const describeLayout = (scratch: Database.Database, name: string, columns: readonly ColumnRow[]): RecordLayout => {
  const indexes = scratch.pragma(`main.index_list(${quoted(name)})`) as { name: string; origin: string }[];
  const primary = indexes.find((index) => index.origin === 'pk')!;
  const rows = scratch.pragma(`main.index_xinfo(${quoted(primary.name)})`) as IndexColumnRow[];
  return {
    fields: rows.map(({ cid }) => columns.findIndex((column) => column.cid === cid)),
    key: rows.filter((row) => row.key === 1).map(({ coll, desc }) => ({ collation: knownCollation(name, coll), descending: desc === 1 })),
  };
};

const knownCollation = (table: string, name: string): Collation => {
  const known = COLLATIONS.find((collation) => collation === name.toUpperCase());
  if (known !== undefined) return known;
  throw new WaggleError('COLLATION_UNKNOWN', `table "${table}" is WITHOUT ROWID in the order of the collation "${name}", which SQLite does not have`);
};

const describeColumn = (scratch: Database.Database, column: ColumnRow, strict: boolean): Column => {
  const generated = column.hidden === 3;
  return {
    name: column.name,
    type: column.type,
    affinity: affinityOf(column.type, strict),
    notNull: column.notnull === 1,
    defaultSql: column.dflt_value,
    defaultValue: column.dflt_value === null || generated ? null : defaultValue(scratch, column.type, column.dflt_value, strict),
    keyOrdinal: column.pk,
    generated,
  };
};

/** Affinity of a declared type (https://sqlite.org/datatype3.html#determination_of_column_affinity). */
const affinityOf = (type: string, strict: boolean): Affinity => {
  const upper = type.toUpperCase();
  if (strict && upper === 'ANY') return 'BLOB';
  if (upper.includes('INT')) return 'INTEGER';
  if (upper.includes('CHAR') || upper.includes('CLOB') || upper.includes('TEXT')) return 'TEXT';
  if (upper === '' || upper.includes('BLOB')) return 'BLOB';
  if (upper.includes('REAL') || upper.includes('FLOA') || upper.includes('DOUB')) return 'REAL';
  return 'NUMERIC';
};

/**
 * What a row that is older than the column holds in it. SQLite itself answers: the column is added to a table with a row.
 * It refuses where the default is not constant, and then no row can be older than the column either.
 */
const defaultValue = (scratch: Database.Database, type: string, sql: string, strict: boolean): Value => {
  scratch.exec(`CREATE TABLE temp.older(x INT)${strict ? ' STRICT' : ''}; INSERT INTO temp.older VALUES(1)`);
  // SQLite gives the text of an expression without the parentheses that it stood in. An identifier ("text") must not get any.
  const added = [sql, `(${sql})`].some((text) =>
    isAccepted(scratch, `ALTER TABLE temp.older ADD COLUMN y ${type === '' ? '' : quoted(type)} DEFAULT ${text}`),
  );
  const value = added ? scratch.prepare<[], Value>('SELECT y FROM temp.older').pluck().safeIntegers().get() : null;
  scratch.exec('DROP TABLE temp.older');
  return value ?? null;
};

const isAccepted = (scratch: Database.Database, sql: string): boolean => {
  try {
    scratch.exec(sql);
    return true;
  } catch (error) {
    if (!(error instanceof Database.SqliteError)) throw error;
    return false;
  }
};
