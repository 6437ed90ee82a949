/**
 * From the hive's tables to a sink's: which tables and columns a sink gets, and under which names.
 *
 * Names are compared as SQLite compares them (ASCII letters without case); `*` in a filter stands for any characters.
 * Tables without a declared key get the leading key column `waggle_rowid`.
 */
import type { Change } from '../change/change.ts';
import { ROWID_COLUMN } from '../change/key.ts';
import type { Row } from '../change/row.ts';
import type { Catalog, Column, Table, Value } from '../change/table.ts';
import { canonicalInteger } from '../sqlite/varint.ts';
import { WaggleError } from '../support/errors.ts';
import type { SinkChange, SinkColumn, SinkTable } from './sink.ts';

/** Which tables; both left out: all. `exclude` wins. */
export interface TableFilter {
  readonly include?: readonly string[] | undefined;
  readonly exclude?: readonly string[] | undefined;
}

export interface TableOptions {
  /** Name in the target. */
  readonly to?: string | undefined;
  readonly columns?: { readonly exclude?: readonly string[] | undefined; readonly rename?: Readonly<Record<string, string>> | undefined } | undefined;
}

export interface MappingOptions {
  /** A table must pass all of them: the configuration's own and the sink's. */
  readonly filters?: readonly TableFilter[];
  /** By the table's name in the hive. */
  readonly tables?: Readonly<Record<string, TableOptions>>;
  /** As the sink asks; default `number`. */
  readonly integers?: 'number' | 'bigint';
  /** As the sink wants; `states` leaves out before images. Default `changes`. */
  readonly wants?: 'states' | 'changes';
}

/** A table of the hive and what a sink sees of it. */
interface MappedTable {
  readonly sinkTable: SinkTable;
  /** For each column of the sink's table: index of the hive's column, or -1 for the rowid. Null: all columns as they are. */
  readonly picks: readonly number[] | null;
}

export class TableMapping {
  readonly #filters: readonly { include: RegExp[] | null; exclude: RegExp[] }[];
  readonly #options: ReadonlyMap<string, TableOptions>;
  readonly #integers: 'number' | 'bigint';
  readonly #states: boolean;
  readonly #mapped = new WeakMap<Table, MappedTable | false>();

  constructor(options: MappingOptions = {}) {
    this.#filters = (options.filters ?? []).map(({ include, exclude }) => ({
      include: include?.map(pattern) ?? null,
      exclude: exclude?.map(pattern) ?? [],
    }));
    this.#options = new Map(Object.entries(options.tables ?? {}).map(([name, table]) => [fold(name), table]));
    this.#integers = options.integers ?? 'number';
    this.#states = options.wants === 'states';
  }

  /** The sink's table, one object for one object of the hive's; null where the sink does not get it. Throws CONFIG_INVALID. */
  table(table: Table): SinkTable | null {
    const mapped = this.#map(table);
    return mapped === false ? null : mapped.sinkTable;
  }

  /**
   * The change as the sink sees it, or null. The before image of a `u` whose transaction altered the table is shown
   * under the new columns, by name.
   */
  change(change: Change): SinkChange | null {
    if (change.op === 's') {
      const table = change.table === null ? null : this.table(change.table);
      const previous = change.previous === null ? null : this.table(change.previous);
      return table === null && previous === null ? null : { op: 's', table, previous, source: change };
    }
    const mapped = this.#map(change.table);
    if (mapped === false) return null;
    const { sinkTable: table } = mapped;
    if (change.op === 't') return { op: 't', table, source: change };
    const after = change.after === null ? null : this.#values(mapped, change.after);
    const wantsBefore = change.before !== null && (!this.#states || after === null);
    const before = wantsBefore && change.before !== null ? this.#before(mapped, change.before) : null;
    const values = after ?? before ?? [];
    return { op: change.op, table, key: pick(values, table.key), before: this.#states ? null : before, after, source: change };
  }

  /**
   * Checks the mapping against all tables: throws CONFIG_INVALID where it cannot be; tells what is named in it but not there.
   */
  check(catalog: Catalog): string[] {
    const targets = new Map<string, string>();
    for (const table of catalog.tables) {
      const mapped = this.table(table);
      if (mapped === null) continue;
      const other = targets.get(mapped.name);
      if (other !== undefined) throw invalid(`the tables ${other} and ${table.name} would both be written to ${mapped.name}`);
      targets.set(mapped.name, table.name);
    }
    return [...this.#options].flatMap(([name, options]) => {
      const table = catalog.tables.find((candidate) => fold(candidate.name) === name);
      if (table === undefined) return [`the hive has no table ${name}`];
      const columns = new Set(table.columns.map((column) => fold(column.name)));
      const named = [...(options.columns?.exclude ?? []), ...Object.keys(options.columns?.rename ?? {})];
      return named.filter((column) => !columns.has(fold(column))).map((column) => `the table ${table.name} has no column ${column}`);
    });
  }

  #map(table: Table): MappedTable | false {
    let mapped = this.#mapped.get(table);
    if (mapped === undefined) {
      mapped = this.#passes(table.name) && mapTable(table, this.#options.get(fold(table.name)) ?? {}, this.#integers);
      this.#mapped.set(table, mapped);
    }
    return mapped;
  }

  #passes(name: string): boolean {
    if (/^sqlite_/i.test(name)) return false;
    return this.#filters.every(({ include, exclude }) => (include === null || matches(include, name)) && !matches(exclude, name));
  }

  #values(mapped: MappedTable, row: Row): readonly Value[] {
    const values = row.values(this.#integers);
    if (mapped.picks === null) return values;
    const rowid = this.#integers === 'bigint' ? BigInt(row.rowid) : row.rowid;
    return mapped.picks.map((index) => (index === -1 ? rowid : (values[index] ?? null)));
  }

  #before(mapped: MappedTable, row: Row): readonly Value[] {
    const old = this.#map(row.table);
    if (old === mapped) return this.#values(mapped, row);
    if (old === false) return mapped.sinkTable.columns.map(() => null);
    const values = this.#values(old, row);
    const places = new Map(old.sinkTable.columns.map((column, index) => [column.name, index]));
    return mapped.sinkTable.columns.map((column) => values[places.get(column.name) ?? -1] ?? null);
  }
}

const mapTable = (table: Table, options: TableOptions, integers: 'number' | 'bigint'): MappedTable => {
  const excluded = new Set((options.columns?.exclude ?? []).map(fold));
  const renames = new Map(Object.entries(options.columns?.rename ?? {}).map(([from, to]) => [fold(from), to]));
  const picks: number[] = [];
  const columns: SinkColumn[] = [];
  for (const [index, column] of table.columns.entries()) {
    if (excluded.has(fold(column.name))) {
      if (table.key.includes(index)) throw invalid(`the column ${column.name} of ${table.name} belongs to its key and cannot be excluded`);
      continue;
    }
    picks.push(index);
    columns.push(sinkColumn(table, index, { name: renames.get(fold(column.name)) ?? column.name, integers }));
  }
  let key = table.key.map((index) => picks.indexOf(index));
  if (key.length === 0) {
    picks.unshift(-1);
    columns.unshift(rowidColumn(columns));
    key = [0];
  }
  const names = columns.map((column) => fold(column.name));
  const twice = columns.find((_, index) => names.indexOf(names[index]!) !== index);
  if (twice !== undefined) throw invalid(`two columns of ${table.name} would both be named ${twice.name}`);
  const plain = picks.length === table.columns.length && picks.every((from, index) => from === index);
  return { sinkTable: { name: options.to ?? table.name, source: table.name, columns, key }, picks: plain ? null : picks };
};

const sinkColumn = (table: Table, index: number, options: { name: string; integers: 'number' | 'bigint' }): SinkColumn => {
  const column = table.columns[index]!;
  return {
    name: options.name,
    type: column.type,
    affinity: column.affinity,
    notNull: column.notNull,
    defaultValue: defaultOf(column, options.integers),
    alwaysInteger: index === table.rowidAlias || (table.strict && column.affinity === 'INTEGER'),
  };
};

const defaultOf = ({ defaultValue }: Column, integers: 'number' | 'bigint'): Value =>
  integers === 'number' && typeof defaultValue === 'bigint' ? canonicalInteger(defaultValue) : defaultValue;

const rowidColumn = (columns: readonly SinkColumn[]): SinkColumn => {
  let name = ROWID_COLUMN;
  while (columns.some((column) => fold(column.name) === name)) name += '_';
  return { name, type: 'INTEGER', affinity: 'INTEGER', notNull: true, defaultValue: null, alwaysInteger: true };
};

const pick = (values: readonly Value[], indexes: readonly number[]): readonly Value[] => {
  if (indexes.length === 1) return [values[indexes[0]!] ?? null];
  return indexes.map((index) => values[index] ?? null);
};

const fold = (name: string): string => name.replace(/[A-Z]/g, (letter) => letter.toLowerCase());

const pattern = (glob: string): RegExp => new RegExp(`^${glob.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll('*', '.*')}$`, 'is');

const matches = (patterns: readonly RegExp[], name: string): boolean => patterns.some((candidate) => candidate.test(name));

const invalid = (message: string): WaggleError => new WaggleError('CONFIG_INVALID', message);
