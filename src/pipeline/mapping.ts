/**
 * From the hive's tables to a sink's: which tables, columns and rows a sink gets, under which names and in which form.
 *
 * Names are compared as SQLite compares them (ASCII letters without case); `*` in a filter stands for any characters.
 * Tables without a declared key get the leading key column `waggle_rowid`.
 *
 * Every value but those of `$seq`, `$txid`, `$ts` and `$op` depends on the row alone, so that a table that was filled is the same as one that
 * was streamed from its beginning.
 */
import type { Change, RowChange } from '../change/change.ts';
import type { Row } from '../change/row.ts';
import type { Catalog, Table, Value } from '../change/table.ts';
import { WaggleError } from '../support/errors.ts';
import { suggestion } from '../support/nearest-name.ts';
import type { MaskKey } from './shaping/mask.ts';
import { fold, isPattern, matchesName, passesFilter } from './shaping/names.ts';
import type { NameFilter, OptionPath, TableOptions } from './shaping/options.ts';
import { RowFilter } from './shaping/row-filter.ts';
import { type Cell, type ChangeField, planTable, type TablePlan } from './shaping/table-plan.ts';
import type { SinkChange, SinkRowChange, SinkTable } from './sink.ts';

export type { TableOptions } from './shaping/options.ts';

/** Which tables; both left out: all. `exclude` wins. */
export type TableFilter = NameFilter;

export interface MappingOptions {
  /** A table must pass all of them: the configuration's own and the sink's. */
  readonly filters?: readonly TableFilter[];
  /** By the table's name in the hive; `*` stands for any characters. What a later entry says of a table wins, and what its full name says wins over all. */
  readonly tables?: Readonly<Record<string, TableOptions>>;
  /** As the sink asks; default `number`. */
  readonly integers?: 'number' | 'bigint';
  /** As the sink wants; `states` leaves out before images. Default `changes`. */
  readonly wants?: 'states' | 'changes';
  /** The hive's name, for `$hive`. */
  readonly hive?: string;
  /** Key of the mask `hash`. A MaskKey shows only its fingerprint as JSON. */
  readonly maskKey?: MaskKey | string | null;
  /** What stands before an error about an option of the sink: where it is in the configuration. Default: its name alone. */
  readonly place?: (path: OptionPath) => string;
}

export class TableMapping {
  readonly #options: MappingOptions;
  readonly #integers: 'number' | 'bigint';
  readonly #states: boolean;
  /** By the name of their entry in `tables`. */
  readonly #filters = new Map<string, RowFilter>();
  readonly #plans = new WeakMap<Table, TablePlan | false>();

  /** Throws CONFIG_INVALID for a `where` that is no expression. */
  constructor(options: MappingOptions = {}) {
    this.#options = options;
    this.#integers = options.integers ?? 'number';
    this.#states = options.wants === 'states';
    for (const [entry, { where }] of Object.entries(options.tables ?? {}))
      if (where !== undefined) this.#filters.set(entry, new RowFilter(where, this.#place(['tables', entry, 'where'])));
  }

  /** The sink's table, one object for one object of the hive's; null where the sink does not get it. Throws CONFIG_INVALID. */
  table(table: Table): SinkTable | null {
    const plan = this.#plan(table);
    return plan === false ? null : plan.table;
  }

  /** A row has in the target the key that tells it in the hive. */
  keepsKey(table: Table): boolean {
    const plan = this.#plan(table);
    return plan !== false && !plan.keyMoves;
  }

  /** What `map` makes of the change where no option can make two of it (no `key`, no `where`, no `history`); null for nothing. */
  change(change: Change): SinkChange | null {
    const [only = null] = this.map(change);
    return only;
  }

  /**
   * The change as the sink sees it, added to `into`: nothing, one, or two where the row gets another key in the target. The before image of
   * a `u` whose transaction altered the table is shown under the new columns, by name. Throws SINK_ROW_REFUSED for a value or row that
   * cannot be shaped.
   */
  map(change: Change, into: SinkChange[] = []): SinkChange[] {
    if (change.op === 's') {
      const table = change.table === null ? null : this.table(change.table);
      const previous = change.previous === null ? null : this.table(change.previous);
      if (table !== null || previous !== null) into.push({ op: 's', table, previous, source: change });
      return into;
    }
    const plan = this.#plan(change.table);
    if (plan === false) return into;
    const { table } = plan;
    if (change.op === 't') {
      if (table.history === true) return into;
      const mark = table.deletedAt === undefined ? {} : { mark: { column: table.deletedAt, value: timestampOf(change) } };
      into.push({ op: 't', table, source: change, ...mark });
      return into;
    }
    if (this.#states && plan.cells === null && plan.filter === null && !plan.keyMoves && change.after !== null) {
      // Most rows of most sinks: nothing of what follows can apply to them.
      const values = change.after.values(this.#integers);
      into.push(new MappedRow(change, table, { op: change.op, key: pick(values, table.key), before: null, after: values }));
      return into;
    }
    const { before, after } = this.#images(plan, change);
    if (table.history === true) {
      this.#record(plan, { change, before, after }, into);
      return into;
    }
    if (after !== null && (before === null || !plan.keyMoves || sameKey(table, before, after))) {
      // A row that comes into the filter is a new one to the target.
      const op = change.op === 'u' && before === null && plan.filter !== null ? 'c' : change.op;
      into.push(this.#rowChange(plan, { op, change, before, after }));
    } else if (after === null) {
      if (before !== null) into.push(this.#removal(plan, change, before));
    } else {
      into.push(this.#removal(plan, change, before!), this.#rowChange(plan, { op: 'c', change, before: null, after }));
    }
    return into;
  }

  /** Checks the mapping against the tables as they are. Throws CONFIG_INVALID where it cannot be, or names what is not there. */
  check(catalog: Catalog): void {
    const targets = new Map<string, string>();
    this.#checkNames(catalog);
    for (const table of catalog.tables) {
      const mapped = this.table(table);
      if (mapped === null) continue;
      this.#filterOf(table)?.check(table);
      const other = targets.get(mapped.name);
      if (other !== undefined)
        throw new WaggleError(
          'CONFIG_INVALID',
          `${this.#placeOf(this.optionsOf(table.name).to === undefined ? other : table.name, ['to'])}: the tables ${other} and ${table.name} would both be written to ${mapped.name}`,
          { hint: 'Give one of them another name with `to`.' },
        );
      targets.set(mapped.name, table.name);
    }
  }

  #checkNames({ tables }: Catalog): void {
    const { filters = [], tables: entries = {} } = this.#options;
    const names = tables.map((table) => table.name);
    const asked = [
      ...filters.flatMap(({ include = [], exclude = [] }) => [...named(['include'], include), ...named(['exclude'], exclude)]),
      ...Object.keys(entries).map((name) => ({ name, path: [name] })),
    ];
    const unknown = asked.find(({ name }) => !isPattern(name) && !names.some((known) => matchesName(name, known)));
    if (unknown !== undefined) throw this.#unknownName(`no table ${unknown.name} is captured`, unknown, names);
    for (const [entry, options] of Object.entries(entries)) {
      const meant = tables.filter((table) => matchesName(entry, table.name));
      const known = meant.flatMap((table) => table.columns.map((column) => column.name));
      const added = Object.keys(options.columns?.add ?? {});
      const missing = columnsNamed(options).find(({ name }) => ![...known, ...added].some((each) => matchesName(name, each)));
      if (missing === undefined || meant.length === 0) continue;
      const { name, path } = missing;
      throw this.#unknownName(`the table ${meant[0]!.name} has no column ${name}`, { name, path: [entry, ...path] }, [...new Set(known)]);
    }
  }

  #unknownName(message: string, { name, path }: NamedOption, known: readonly string[]): WaggleError {
    return new WaggleError('CONFIG_INVALID', `${this.#place(['tables', ...path])}: ${message}${suggestion(fold(name), known)}`);
  }

  #place(path: OptionPath): string {
    return this.#options.place?.(path) ?? path.join('.');
  }

  /** Where the configuration says this of the table: as much of the path as stands in an entry that fits its name. */
  #placeOf(table: string, path: OptionPath): string {
    const entries = this.#entriesOf(table);
    for (let length = path.length; length > 0; length -= 1) {
      const entry = entries.findLast(([, options]) => reaches(options, path.slice(0, length)));
      if (entry !== undefined) return this.#place(['tables', entry[0], ...path.slice(0, length)]);
    }
    return this.#place(['tables', ...entries.slice(-1).map(([name]) => name)]);
  }

  #plan(table: Table): TablePlan | false {
    let plan = this.#plans.get(table);
    if (plan === undefined) {
      plan = this.#passes(table.name) && this.#makePlan(table);
      this.#plans.set(table, plan);
    }
    return plan;
  }

  #makePlan(table: Table): TablePlan {
    const { hive = '', maskKey = null } = this.#options;
    const place = (path: OptionPath): string => this.#placeOf(table.name, path);
    return planTable(table, this.optionsOf(table.name), { integers: this.#integers, hive, maskKey, filter: this.#filterOf(table), place });
  }

  #filterOf(table: Table): RowFilter | null {
    const entry = this.#entriesOf(table.name).findLast(([, { where }]) => where !== undefined);
    return entry === undefined ? null : this.#filters.get(entry[0])!;
  }

  /** All that the options say of a table, by its name in the hive. */
  optionsOf(name: string): TableOptions {
    let merged: TableOptions = {};
    for (const [, entry] of this.#entriesOf(name)) merged = merge(merged, entry);
    return merged;
  }

  /** What a later one says wins. */
  #entriesOf(name: string): [string, TableOptions][] {
    const entries = Object.entries(this.#options.tables ?? {}).filter(([key]) => matchesName(key, name));
    return [...entries.filter(([key]) => isPattern(key)), ...entries.filter(([key]) => !isPattern(key))];
  }

  #passes(name: string): boolean {
    return !/^sqlite_/i.test(name) && (this.#options.filters ?? []).every((filter) => passesFilter(filter, name));
  }

  /** What the target has and shall have of the row. `before` also where only its key is asked for. */
  #images(plan: TablePlan, change: RowChange): { before: readonly Value[] | null; after: readonly Value[] | null } {
    const { filter } = plan;
    const after = change.after !== null && (filter === null || filter.passes(change.after)) ? this.#values(plan, change.after, change) : null;
    const wantsBefore = !this.#states || after === null || filter !== null || plan.keyMoves;
    if (change.before === null || !wantsBefore || (filter !== null && !filter.passes(change.before))) return { before: null, after };
    // Of what it had, a sink that wants states needs the key alone, but for a row that stays with a mark.
    const keyOnly = this.#states && plan.table.deletedAt === undefined && plan.table.history !== true;
    return { before: this.#before(plan, change.before, keyOnly), after };
  }

  #rowChange(
    { table }: TablePlan,
    { op, change, before, after }: { op: RowChange['op']; change: RowChange; before: readonly Value[] | null; after: readonly Value[] },
  ): SinkRowChange {
    return new MappedRow(change, table, { op, key: pick(after, table.key), before: this.#states ? null : before, after });
  }

  /** The row goes, or gets the time of its end. */
  #removal(plan: TablePlan, change: RowChange, before: readonly Value[]): SinkRowChange {
    const { table } = plan;
    const { deletedAt } = table;
    if (deletedAt === undefined)
      return new MappedRow(change, table, { op: 'd', key: pick(before, table.key), before: this.#states ? null : before, after: null });
    const after = this.#withChange(plan, before, { change, op: 'd' });
    after[deletedAt] = timestampOf(change);
    return this.#rowChange(plan, { op: 'u', change, before, after });
  }

  /** The change as rows of the history: the row as it became or, of a `d`, as it was. */
  #record(plan: TablePlan, images: { change: RowChange; before: readonly Value[] | null; after: readonly Value[] | null }, into: SinkChange[]): void {
    const { change, before, after } = images;
    const row = after ?? before;
    if (row === null) return;
    const entered = change.op === 'u' && change.before !== null && plan.filter !== null && !plan.filter.passes(change.before);
    const what = after === null ? 'd' : entered ? 'c' : change.op;
    const values = this.#withChange(plan, row, { change, op: what });
    into.push(this.#rowChange(plan, { op: change.op === 'r' ? 'r' : 'c', change, before: null, after: values }));
  }

  /** `keyOnly`: a value outside of the key that cannot be shaped is NULL, so that a row that was refused can be deleted. */
  #values({ table, cells }: TablePlan, row: Row, change: RowChange | null, keyOnly = false): readonly Value[] {
    const values = row.values(this.#integers);
    if (cells === null) return values;
    return cells.map((cell, index) => this.#value(cell, { row, values, change, mayFail: keyOnly && !table.key.includes(index) }));
  }

  #value(cell: Cell, { row, values, change, mayFail }: { row: Row; values: readonly Value[]; change: RowChange | null; mayFail: boolean }): Value {
    switch (cell.from) {
      case 'column': {
        const value = values[cell.index] ?? null;
        if (cell.shape === null) return value;
        const shaped = cell.shape(value);
        if (shaped === undefined && !mayFail) throw refused(row.table, cell.index);
        return shaped ?? null;
      }
      case 'rowid':
        return this.#integers === 'bigint' ? BigInt(row.rowid) : row.rowid;
      case 'constant':
        return cell.value;
      case 'change':
        return change === null ? null : this.#changeValue(cell.what, change, change.op);
      case 'deletion':
        return null;
    }
  }

  /** The image with what tells of the change put in. */
  #withChange({ cells }: TablePlan, image: readonly Value[], { change, op }: { change: RowChange; op: RowChange['op'] }): Value[] {
    return image.map((value, index) => {
      const cell = cells?.[index];
      return cell?.from === 'change' ? this.#changeValue(cell.what, change, op) : value;
    });
  }

  #changeValue(what: ChangeField, change: RowChange, op: RowChange['op']): Value {
    switch (what) {
      case 'seq': {
        const seq = change.seq ?? change.snapshot?.seq ?? 0;
        return this.#integers === 'bigint' ? BigInt(seq) : seq;
      }
      case 'txid':
        return (change.transaction ?? change.snapshot)?.txid ?? '';
      case 'ts':
        return timestampOf(change);
      case 'op':
        return op;
    }
  }

  #before(plan: TablePlan, row: Row, keyOnly: boolean): readonly Value[] {
    const old = this.#plan(row.table);
    if (old === plan) return this.#values(plan, row, null, keyOnly);
    if (old === false) return plan.table.columns.map(() => null);
    const values = this.#values(old, row, null, keyOnly);
    const places = new Map(old.table.columns.map((column, index) => [column.name, index]));
    return plan.table.columns.map((column) => values[places.get(column.name) ?? -1] ?? null);
  }
}

/** A class, as rows are no literals: see `Row`. */
class MappedRow implements SinkRowChange {
  readonly op: SinkRowChange['op'];
  readonly table: SinkTable;
  readonly key: readonly Value[];
  readonly before: readonly Value[] | null;
  readonly after: readonly Value[] | null;
  readonly source: RowChange;

  constructor(source: RowChange, table: SinkTable, { op, key, before, after }: Omit<SinkRowChange, 'source' | 'table'>) {
    this.op = op;
    this.table = table;
    this.key = key;
    this.before = before;
    this.after = after;
    this.source = source;
  }
}

const merge = (base: TableOptions, entry: TableOptions): TableOptions => ({ ...base, ...entry, columns: { ...base.columns, ...entry.columns } });

interface NamedOption {
  readonly name: string;
  /** Below `tables`, or below a table's entry. */
  readonly path: OptionPath;
}

const named = (path: OptionPath, names: readonly string[]): NamedOption[] => names.map((name) => ({ name, path }));

/** Columns that must be there: not those of patterns. */
const columnsNamed = ({ columns = {}, key = [] }: TableOptions): NamedOption[] =>
  [
    ...named(['columns', 'include'], columns.include ?? []),
    ...named(['columns', 'exclude'], columns.exclude ?? []),
    ...(['rename', 'types', 'mask'] as const).flatMap((option) =>
      Object.keys(columns[option] ?? {}).map((name) => ({ name, path: ['columns', option, name] })),
    ),
    ...named(['key'], key),
  ].filter(({ name }) => !isPattern(name));

const reaches = (options: unknown, [first, ...rest]: OptionPath): boolean => {
  if (first === undefined) return true;
  return typeof options === 'object' && options !== null && Object.hasOwn(options, first) && reaches(Reflect.get(options, first), rest);
};

/** When the change was committed (or the row read): ISO 8601 with microseconds. */
const timestampOf = ({ transaction, snapshot }: Change): string => {
  const timestampUs = (transaction ?? snapshot)?.timestampUs ?? 0;
  const micros = String(timestampUs % 1_000_000).padStart(6, '0');
  return `${new Date(Math.floor(timestampUs / 1_000_000) * 1000).toISOString().slice(0, 19)}.${micros}Z`;
};

const sameKey = ({ key }: SinkTable, a: readonly Value[], b: readonly Value[]): boolean => key.every((index) => sameValue(a[index]!, b[index]!));

const sameValue = (a: Value, b: Value): boolean => {
  if (a instanceof Uint8Array && b instanceof Uint8Array) return Buffer.compare(a, b) === 0;
  // INTEGER 1 and REAL 1.0 are one key.
  // oxlint-disable-next-line eqeqeq
  return a === b || (isNumeric(a) && isNumeric(b) && a == b);
};

const isNumeric = (value: Value): value is number | bigint => typeof value === 'number' || typeof value === 'bigint';

const pick = (values: readonly Value[], indexes: readonly number[]): readonly Value[] => {
  if (indexes.length === 1) return [values[indexes[0]!] ?? null];
  return indexes.map((index) => values[index] ?? null);
};

const refused = (table: Table, index: number): WaggleError =>
  new WaggleError(
    'SINK_ROW_REFUSED',
    `table ${table.name}, column ${table.columns[index]!.name}: a value cannot be converted to the type that \`types\` asks for`,
    {
      hint: 'Mend the value in the hive, or take the column out of `types`.',
    },
  );
