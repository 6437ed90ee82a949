/**
 * What SQLite says that a transaction did: the rows before and after it, compared by key. And what the log says, in the same
 * words, so that they can be held against each other.
 */
import { crc32 } from 'node:zlib';
import type Database from 'better-sqlite3';
import type { Change } from '../../src/change/change.ts';
import type { Row } from '../../src/change/row.ts';
import type { Value } from '../../src/change/table.ts';

/** By table and key: the row. Every table of the workload has a declared key. */
export interface HiveState {
  readonly tables: Readonly<Record<string, { readonly columns: readonly string[]; readonly rows: Readonly<Record<string, string>> }>>;
}

/** The hive as of transaction number `n`. */
export interface Moment {
  readonly n: number;
  readonly state: HiveState;
  /** A checksum of each page, as SQLite reads it. */
  readonly pages: readonly number[];
}

const text = (value: Value): string => {
  if (typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'bigint') return `i${value}`;
  if (typeof value === 'number') return `r${value}`;
  return value === null ? 'null' : `x${Buffer.from(value).toString('hex')}`;
};

/** A column that is NULL is left out: so a column that was added changes no row. */
const rowText = (columns: readonly string[], values: readonly Value[]): string =>
  columns.flatMap((column, index) => (values[index] === null ? [] : [`${column}=${text(values[index]!)}`])).join(' ');

export const readState = (database: Database.Database): HiveState => {
  const tables: Record<string, { columns: string[]; rows: Record<string, string> }> = {};
  const names = database.prepare<[], string>("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'").pluck().all();
  for (const name of names) {
    const statement = database.prepare<[], Value[]>(`SELECT * FROM "${name}"`).raw().safeIntegers();
    const columns = statement.columns().map((column) => column.name);
    const rows: Record<string, string> = {};
    // The key is the first column of every table of the workload.
    for (const values of statement.iterate()) rows[text(values[0]!)] = rowText(columns, values);
    tables[name] = { columns, rows };
  }
  return { tables };
};

export const readPages = (database: Database.Database, pageSize: number): number[] => {
  const bytes = database.serialize();
  return Array.from({ length: bytes.length / pageSize }, (_, index) => crc32(bytes.subarray(index * pageSize, (index + 1) * pageSize)));
};

/** The changes that lead from one state to the other, sorted. */
export const changesBetween = (before: HiveState, after: HiveState): string[] => {
  const changes: string[] = [];
  for (const [name, { columns, rows }] of Object.entries(after.tables)) {
    const old = before.tables[name];
    if (old === undefined || old.columns.join() !== columns.join()) changes.push(`s ${name}`);
    for (const [key, row] of Object.entries(rows)) {
      const oldRow = old?.rows[key];
      if (oldRow === undefined) changes.push(`c ${name} ${key}: ${row}`);
      else if (oldRow !== row) changes.push(`u ${name} ${key}: ${oldRow} -> ${row}`);
    }
  }
  for (const [name, { rows }] of Object.entries(before.tables)) {
    const now = after.tables[name];
    if (now === undefined) changes.push(`t ${name}`, `s ${name}`);
    else for (const [key, row] of Object.entries(rows)) if (!(key in now.rows)) changes.push(`d ${name} ${key}: ${row}`);
  }
  return changes.sort();
};

/** The same of a logged transaction. */
export const changesOf = (changes: readonly Change[]): string[] =>
  changes
    .map((change) => {
      if (change.op === 's') return `s ${change.name}`;
      if (change.op === 't') return `t ${change.table.name}`;
      const { name } = change.table;
      const key = text((change.after ?? change.before)!.values('bigint')[0]!);
      if (change.op === 'u') return `u ${name} ${key}: ${named(change.before!)} -> ${named(change.after!)}`;
      return `${change.op} ${name} ${key}: ${named((change.after ?? change.before)!)}`;
    })
    .sort();

const named = (row: Row): string =>
  rowText(
    row.table.columns.map((column) => column.name),
    row.values('bigint'),
  );
