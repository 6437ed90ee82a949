/**
 * What a consumer of changes ends up with, strictly: a create of a row that exists, an update or delete of one that does not,
 * or a before image that is not the state, is an error.
 */
import assert from 'node:assert/strict';
import type Database from 'better-sqlite3';
import type { Change } from '../../src/change/change.ts';
import type { Row } from '../../src/change/row.ts';
import type { Table, Value } from '../../src/change/table.ts';

type NamedRow = ReadonlyMap<string, string>;

const text = (value: Value): string =>
  value === null
    ? 'null'
    : typeof value === 'string'
      ? JSON.stringify(value)
      : typeof value === 'bigint'
        ? `int ${value}`
        : typeof value === 'number'
          ? `real ${Object.is(value, -0) ? 0 : value}`
          : `blob ${Buffer.from(value).toString('hex')}`;

const keyOf = (table: Table, values: readonly Value[], rowid: number | bigint): string => {
  const key = table.key.map((index) => values[index] ?? null);
  return key.length === 0 || key.includes(null) ? `${key.map(text).join()} rowid ${rowid}` : key.map(text).join();
};

export class TableModel {
  readonly tables = new Map<string, Map<string, NamedRow>>();

  /** Applies the changes of one transaction; `checkSingle`: a key may occur only once in it. */
  apply(changes: readonly Change[]): void {
    const seen = new Set<string>();
    /** Rows as they were before the transaction altered their table: before images have the old columns. */
    const unaltered = new Map<string, ReadonlyMap<string, NamedRow>>();
    for (const change of changes) {
      if (change.op === 's') {
        unaltered.set(change.name, new Map(this.#rows(change.name)));
        this.#schema(change.name, change.table, change.previous);
        continue;
      }
      const rows = this.#rows(change.table.name);
      if (change.op === 't') {
        rows.clear();
        continue;
      }
      const before = change.before === null ? null : named(change.before);
      const after = change.after === null ? null : named(change.after);
      const row = (change.after ?? change.before)!;
      const key = keyOf(row.table, row.values('bigint'), row.rowid);
      const once = `${change.table.name} ${key}`;
      assert(!seen.has(once), `two changes of ${once} in one transaction`);
      seen.add(once);
      if (change.op === 'c') {
        assert(!rows.has(key), `create of a row that is there: ${once}`);
      } else {
        const old = change.before!;
        const oldKey = keyOf(old.table, old.values('bigint'), old.rowid);
        assert(rows.has(oldKey), `${change.op} of a row that is not there: ${once}`);
        assertSameRow((unaltered.get(change.table.name) ?? rows).get(oldKey)!, before!, `before image of ${once}`);
        rows.delete(oldKey);
      }
      if (after !== null) rows.set(key, after);
    }
  }

  /** The state of a real database, read by SQLite. */
  static read(db: Database.Database, tables: readonly Table[]): TableModel {
    const model = new TableModel();
    for (const table of tables) {
      const quoted = `"${table.name.replaceAll('"', '""')}"`;
      const columns = table.columns.map((column) => `"${column.name.replaceAll('"', '""')}"`);
      const rows = new Map<string, NamedRow>();
      const statement = db
        .prepare<[], Value[]>(`SELECT ${table.withoutRowid === undefined ? 'rowid' : '0'}, ${columns.join(', ')} FROM ${quoted}`)
        .raw()
        .safeIntegers();
      for (const [rowid, ...values] of statement.iterate()) {
        rows.set(keyOf(table, values, rowid as bigint), new Map(table.columns.map((column, index) => [column.name, text(values[index]!)])));
      }
      model.tables.set(table.name, rows);
    }
    return model;
  }

  assertEquals(actual: TableModel): void {
    for (const [name, rows] of this.tables) {
      const other = actual.tables.get(name) ?? new Map<string, NamedRow>();
      for (const [key, row] of rows) {
        assert(other.has(key), `table ${name}: row ${key} is missing`);
        assertSameRow(row, other.get(key)!, `table ${name}, row ${key}`);
      }
      for (const key of other.keys()) assert(rows.has(key), `table ${name}: row ${key} is too many`);
    }
    for (const [name, rows] of actual.tables) assert(rows.size === 0 || this.tables.has(name), `table ${name} should be gone`);
  }

  #rows(table: string): Map<string, NamedRow> {
    let rows = this.tables.get(table);
    if (rows === undefined) this.tables.set(table, (rows = new Map()));
    return rows;
  }

  /** A new column is NULL until a change says otherwise, a dropped one goes, a renamed one keeps its values (by place). */
  #schema(name: string, table: Table | null, previous: Table | null): void {
    const rows = this.#rows(name);
    if (table === null) {
      assert.equal(rows.size, 0, `dropped table ${name} still holds rows`);
      this.tables.delete(name);
      return;
    }
    if (previous === null) {
      assert.equal(rows.size, 0, `created table ${name} already holds rows`);
      return;
    }
    const oldNames = previous.columns.map((column) => column.name);
    const renamed =
      oldNames.length === table.columns.length &&
      table.columns.every((column, index) => {
        const old = previous.columns[index]!;
        return (
          column.affinity === old.affinity &&
          column.keyOrdinal === old.keyOrdinal &&
          column.generated === old.generated &&
          text(column.defaultValue) === text(old.defaultValue) &&
          (column.name === old.name || !oldNames.includes(column.name))
        );
      });
    const moved = [...rows.values()].map((row) => {
      const next = new Map<string, string>();
      table.columns.forEach((column, index) => next.set(column.name, row.get(renamed ? oldNames[index]! : column.name) ?? 'null'));
      return next;
    });
    [...rows.keys()].forEach((key, index) => rows.set(key, moved[index]!));
  }
}

const named = (row: Row): NamedRow => new Map(row.table.columns.map((column, index) => [column.name, text(row.values('bigint')[index]!)]));

const assertSameRow = (expected: NamedRow, actual: NamedRow, what: string): void => {
  for (const [column, value] of expected) {
    if (actual.get(column) !== value)
      assert.fail(`${what}: column ${column} is ${actual.get(column)?.slice(0, 60)}, should be ${value.slice(0, 60)}`);
  }
};
