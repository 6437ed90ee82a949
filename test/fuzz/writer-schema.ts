/** The tables as a writer sees them, and its account of what stands in them. */
import type { Value } from '../../src/change/table.ts';
import { addHash, hashText, rowText, type TableAccount, valueExpression, valueText } from './account.ts';
import type { Connection } from './connection.ts';

export interface ColumnInfo {
  readonly name: string;
  readonly type: string;
  readonly notNull: boolean;
  readonly pk: number;
  /** A generated column is not written to. */
  readonly generated: boolean;
}

export interface TableInfo {
  readonly name: string;
  readonly columns: readonly ColumnInfo[];
  readonly strict: boolean;
  /** Null: the table has none, or other columns took all its names. */
  readonly rowid: string | null;
  /** Columns that stand in a record; virtual generated ones do not. */
  readonly stored: readonly string[];
  /** Places of the declared key in `stored`; empty where the rowid tells the row. */
  readonly key: readonly number[];
  readonly parents: readonly string[];
  readonly scan: () => Value[][];
}

export const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;
const string = (name: string): string => `'${name.replaceAll("'", "''")}'`;

/** Not captured: shadow and virtual tables, SQLite's own, and those that the configuration leaves out. */
export class WriterSchema {
  readonly #db: Connection;
  #tables = new Map<string, TableInfo>();
  #version = -1n;
  hasTriggers = false;
  /** Row texts of each table at this writer's last account of it, and their hashes. */
  readonly #views = new Map<string, Map<string, number>>();

  constructor(db: Connection) {
    this.#db = db;
  }

  /** By name. Read again where the schema is another one. */
  get tables(): ReadonlyMap<string, TableInfo> {
    const version = this.version();
    if (version !== this.#version) this.#read();
    this.#version = version;
    return this.#tables;
  }

  version(): bigint {
    return this.#db.rows('PRAGMA schema_version')[0]![0] as bigint;
  }

  /** After a rollback the same version number can stand for another schema. */
  forget(): void {
    this.#version = -1n;
  }

  /** The given tables and those that a change of them can change too. */
  affectedBy(touched: ReadonlySet<string>): Set<string> {
    const tables = [...this.tables.values()];
    if (this.hasTriggers) return new Set(tables.map((table) => table.name));
    const all = new Set(touched);
    for (let size = -1; size !== all.size;) {
      size = all.size;
      const folded = new Set([...all].map((name) => name.toLowerCase()));
      for (const { name, parents } of tables) if (parents.some((parent) => folded.has(parent.toLowerCase()))) all.add(name);
    }
    return all;
  }

  sum(table: TableInfo): number {
    let sum = 0;
    for (const row of table.scan()) sum = addHash(sum, hashText(textOf(table, row)));
    return sum;
  }

  account(table: TableInfo, isComplete: boolean): TableAccount {
    const old = this.#views.get(table.name) ?? new Map<string, number>();
    const now = new Map<string, number>();
    const added: string[] = [];
    let sum = 0;
    let rowidSum = 0;
    let kept = 0;
    for (const row of table.scan()) {
      const text = textOf(table, row);
      let hash = old.get(text);
      if (hash === undefined) {
        hash = hashText(text);
        added.push(text);
      } else {
        kept += 1;
      }
      if (now.has(text)) throw new Error(`table ${table.name}: two rows that cannot be told apart: ${text}`);
      now.set(text, hash);
      sum = addHash(sum, hash);
      if (isComplete) rowidSum = addHash(rowidSum, hashText(`${String(row[0])}:${text}`));
    }
    const removed = kept === old.size ? [] : [...old.keys()].filter((text) => !now.has(text));
    this.#views.set(table.name, now);
    const account = { name: table.name, columns: table.stored, rows: now.size, sum, added, removed };
    return isComplete ? { ...account, rowidSum: table.rowid === null ? -1 : rowidSum } : account;
  }

  #read(): void {
    const db = this.#db;
    const tables = new Map<string, TableInfo>();
    const listed = db.rows('SELECT name, type, wr, strict FROM pragma_table_list WHERE schema = ? ORDER BY name', 'main');
    for (const [name, type, wr, strict] of listed as [string, string, bigint, bigint][]) {
      if (type !== 'table' || name.toLowerCase().startsWith('sqlite_') || name.startsWith('excluded')) continue;
      tables.set(name, this.#describe(name, wr === 1n, strict === 1n));
    }
    this.hasTriggers = db.rows("SELECT 1 FROM sqlite_schema WHERE type = 'trigger' LIMIT 1").length > 0;
    for (const name of this.#views.keys()) if (!tables.has(name)) this.#views.delete(name);
    this.#tables = tables;
  }

  #describe(name: string, isWithoutRowid: boolean, strict: boolean): TableInfo {
    const db = this.#db;
    const rows = db.rows(`SELECT name, type, "notnull", pk, hidden FROM pragma_table_xinfo(${string(name)})`) as [
      string,
      string,
      bigint,
      bigint,
      bigint,
    ][];
    const columns = rows.map(([column, type, notNull, pk, hidden]) => ({
      name: column,
      type,
      notNull: notNull === 1n,
      pk: Number(pk),
      generated: hidden >= 2n,
    }));
    const stored = rows.filter((row) => row[4] !== 2n).map((row) => row[0]);
    const pk = columns.filter((column) => column.pk > 0);
    const indexes = db.rows(`SELECT origin FROM pragma_index_list(${string(name)})`);
    const isAlias = pk.length === 1 && pk[0]!.type.toUpperCase() === 'INTEGER' && !isWithoutRowid && !indexes.some(([origin]) => origin === 'pk');
    const taken = new Set(columns.map((column) => column.name.toLowerCase()));
    const rowid = isWithoutRowid ? null : (['rowid', '_rowid_', 'oid'].find((word) => !taken.has(word)) ?? null);
    const parents = db.rows(`SELECT DISTINCT "table" FROM pragma_foreign_key_list(${string(name)})`).map(([parent]) => String(parent));
    const sql = `SELECT ${[rowid ?? 'NULL', ...stored.map((column) => valueExpression(quoted(column)))].join()} FROM ${quoted(name)} NOT INDEXED`;
    let scan: (() => Value[][]) | null = null;
    return {
      name,
      columns,
      strict,
      rowid,
      stored,
      key: isAlias ? [] : pk.map((column) => stored.indexOf(column.name)),
      parents,
      scan: () => (scan ??= db.prepare(sql))(),
    };
  }
}

/** `row`: what `scan` gave, the rowid first. */
const textOf = (table: TableInfo, row: readonly Value[]): string => {
  const values = row.slice(1).map(valueText);
  const needsRowid = table.rowid !== null && (table.key.length === 0 || table.key.some((place) => values[place] === 'n'));
  return rowText(needsRowid ? (row[0] as bigint) : null, values);
};
