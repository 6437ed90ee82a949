/** One version of a hive's table → the table that a sink sees, and how each of its values comes to be. Compiled once, used for each row. */
import { ROWID_COLUMN } from '../../change/key.ts';
import type { Column, Table, Value } from '../../change/table.ts';
import { canonicalInteger } from '../../sqlite/varint.ts';
import { WaggleError } from '../../support/errors.ts';
import { suggestion } from '../../support/nearest-name.ts';
import type { SinkColumn, SinkTable } from '../sink.ts';
import { convert, TYPES } from './convert.ts';
import { maskFunction, type MaskKey } from './mask.ts';
import { entryFor, fold, keyFor, passesFilter } from './names.ts';
import type { AddedValue, Mask, OptionPath, TableOptions, TypeOverride } from './options.ts';
import type { RowFilter } from './row-filter.ts';

/** Where a value of the sink's table comes from. */
export type Cell =
  | { readonly from: 'column'; readonly index: number; readonly shape: Shape | null }
  | { readonly from: 'rowid' }
  | { readonly from: 'constant'; readonly value: Value }
  /** Of the change; NULL in before images. */
  | { readonly from: 'change'; readonly what: ChangeField }
  /** NULL, or when the row was deleted. */
  | { readonly from: 'deletion' };

export type ChangeField = 'seq' | 'txid' | 'ts' | 'op';

/** Undefined: the value is refused. */
type Shape = (value: Value) => Value | undefined;

export interface TablePlan {
  readonly table: SinkTable;
  /** By column of the sink's table. Null: all columns of the hive as they are. */
  readonly cells: readonly Cell[] | null;
  readonly filter: RowFilter | null;
  /** An update can change the key: it is not the declared one. */
  readonly keyMoves: boolean;
}

export interface PlanContext {
  readonly integers: 'number' | 'bigint';
  /** For `$hive`. */
  readonly hive: string;
  readonly maskKey: MaskKey | string | null;
  readonly filter: RowFilter | null;
  /** Where the configuration says this of the table, for errors. */
  readonly place: (path: OptionPath) => string;
}

/** NULL in every row that the hive has. */
const DELETED_AT: SinkColumn = { name: 'deleted_at', notNull: false, defaultValue: null, alwaysInteger: false, ...TYPES.timestamptz };
const HISTORY: readonly [string, ChangeField][] = [
  ['waggle_seq', 'seq'],
  ['waggle_op', 'op'],
  ['waggle_ts', 'ts'],
];

/**
 * Throws CONFIG_INVALID where the options contradict themselves or the table. A name that the table does not have is not one: it
 * may have had it, or will (`TableMapping.check` looks at the table as it is).
 */
export const planTable = (source: Table, options: TableOptions, context: PlanContext): TablePlan => {
  const builder = new PlanBuilder(source, options, context);
  const table: SinkTable = {
    name: targetName(source.name, options.to),
    source: source.name,
    columns: builder.columns,
    key: builder.key,
    ...(options.history === true ? { history: true } : {}),
    ...(builder.deletedAt === -1 ? {} : { deletedAt: builder.deletedAt }),
  };
  return {
    table,
    cells: builder.isPlain ? null : builder.cells,
    filter: context.filter,
    keyMoves: options.key !== undefined,
  };
};

export const targetName = (source: string, to: string | undefined): string => to?.replaceAll('*', () => source) ?? source;

class PlanBuilder {
  readonly columns: SinkColumn[] = [];
  readonly cells: Cell[] = [];
  readonly key: readonly number[];
  readonly deletedAt: number;
  readonly #source: Table;
  readonly #options: TableOptions;
  readonly #context: PlanContext;
  /** Index in the hive's table → in the sink's. */
  readonly #places = new Map<number, number>();

  constructor(source: Table, options: TableOptions, context: PlanContext) {
    this.#source = source;
    this.#options = options;
    this.#context = context;
    if (options.history === true && (options.deleted === 'soft' || options.key !== undefined))
      throw this.#invalid(
        ['history'],
        '`history` has a key of its own and keeps deletes as rows: it goes neither with `key` nor with `deleted: soft`',
      );
    if (options.history === true) for (const [name, what] of HISTORY) this.#add(changeColumn(name, what), { from: 'change', what });
    source.columns.forEach((column, index) => this.#addColumn(column, index));
    for (const [name, value] of Object.entries(options.columns?.add ?? {})) this.#addValue(name, value);
    this.deletedAt = options.deleted === 'soft' ? this.columns.length : -1;
    if (options.deleted === 'soft') this.#add(DELETED_AT, { from: 'deletion' });
    const key = this.#keyPlaces();
    const rowid = key.length === 0;
    if (rowid) {
      this.columns.unshift(rowidColumn(this.columns));
      this.cells.unshift({ from: 'rowid' });
    }
    const shifted = rowid ? [0, ...key.map((place) => place + 1)] : key;
    this.key = options.history === true ? [rowid ? 1 : 0, ...shifted.filter((place) => place !== (rowid ? 1 : 0))] : shifted;
    if (rowid && this.deletedAt !== -1) this.deletedAt += 1;
    this.#checkNames();
  }

  get isPlain(): boolean {
    const { columns } = this.#source;
    return (
      this.cells.length === columns.length && this.cells.every((cell, index) => cell.from === 'column' && cell.index === index && cell.shape === null)
    );
  }

  #add(column: SinkColumn, cell: Cell): void {
    this.columns.push(column);
    this.cells.push(cell);
  }

  #addColumn(column: Column, index: number): void {
    const { columns } = this.#options;
    if (!passesFilter(columns ?? {}, column.name)) {
      if (this.#source.key.includes(index) && this.#options.key === undefined)
        throw this.#invalid(
          ['columns', columns?.include === undefined ? 'exclude' : 'include'],
          `the column ${column.name} belongs to the key and cannot be left out`,
          'Choose other columns with `key`, or mask it with `hash`.',
        );
      return;
    }
    const type = entryFor(columns?.types, column.name);
    const mask = entryFor(columns?.mask, column.name);
    if (type !== undefined && mask !== undefined)
      throw this.#invalid(this.#maskPath(column.name), `the column ${column.name} has both a type and a mask`);
    this.#places.set(index, this.columns.length);
    this.#add(this.#sinkColumn(column, { index, type, mask }), { from: 'column', index, shape: this.#shape(column.name, type, mask) });
  }

  #sinkColumn(column: Column, { index, type, mask }: { index: number; type: TypeOverride | undefined; mask: Mask | undefined }): SinkColumn {
    const { integers } = this.#context;
    const renames = Object.entries(this.#options.columns?.rename ?? {});
    const name = renames.find(([from]) => fold(from) === fold(column.name))?.[1] ?? column.name;
    const plain: SinkColumn = {
      name,
      type: column.type,
      affinity: column.affinity,
      notNull: column.notNull,
      defaultValue: defaultOf(column, integers),
      alwaysInteger: index === this.#source.rowidAlias || (this.#source.strict && column.affinity === 'INTEGER'),
    };
    if (mask !== undefined) return { ...plain, type: 'TEXT', affinity: 'TEXT', alwaysInteger: false, defaultValue: null };
    if (type === undefined) return plain;
    return { ...plain, ...TYPES[type], alwaysInteger: false, defaultValue: convert(type, plain.defaultValue, integers) ?? null };
  }

  #shape(column: string, type: TypeOverride | undefined, mask: Mask | undefined): Shape | null {
    const { integers, maskKey } = this.#context;
    if (mask === 'hash' && maskKey === null)
      throw this.#invalid(
        this.#maskPath(column),
        `the column ${column} is masked with \`hash\`, but the sink has no \`mask_key\``,
        'Set `mask_key: ${WAGGLE_MASK_KEY}` beside `tables`, with a long random text in that environment variable.',
      );
    if (mask !== undefined) return maskFunction(mask, maskKey);
    return type === undefined ? null : (value) => convert(type, value, integers);
  }

  #addValue(name: string, value: AddedValue): void {
    const { integers, hive } = this.#context;
    const constant = (column: Pick<SinkColumn, 'type' | 'affinity' | 'kind'>, content: Value): void =>
      this.#add({ name, notNull: content !== null, defaultValue: null, alwaysInteger: false, ...column }, { from: 'constant', value: content });
    const integer = (content: number): Value => (integers === 'bigint' ? BigInt(content) : content);
    switch (typeof value) {
      case 'boolean':
        return constant(TYPES.boolean, integer(value ? 1 : 0));
      case 'number':
        return Number.isSafeInteger(value)
          ? constant({ type: 'INTEGER', affinity: 'INTEGER' }, integer(value))
          : constant({ type: 'REAL', affinity: 'REAL' }, value);
      case 'string': {
        if (value.startsWith('$$') || !value.startsWith('$')) return constant({ type: 'TEXT', affinity: 'TEXT' }, value.replace(/^\$\$/, '$'));
        const what = value.slice(1);
        if (what === 'hive') return constant({ type: 'TEXT', affinity: 'TEXT' }, hive);
        if (!isChangeField(what))
          throw this.#invalid(
            ['columns', 'add', name],
            `\`${name}: ${value}\`${suggestion(value, ['$seq', '$txid', '$ts', '$op', '$hive'])}`,
            'A text that begins with `$` is written `$$…`.',
          );
        return this.#add(changeColumn(name, what), { from: 'change', what });
      }
      default:
        return constant({ type: 'TEXT', affinity: 'TEXT' }, null);
    }
  }

  /** Without the added rowid. */
  #keyPlaces(): number[] {
    const { key } = this.#options;
    const masks = this.#options.columns?.mask;
    const chosen = key?.flatMap((name) => this.#keyPlace(name));
    // A version of the table without any of them: nothing else could tell its rows.
    const places =
      chosen !== undefined && chosen.length > 0
        ? chosen
        : this.#source.key.map((index) => this.#places.get(index)).filter((place) => place !== undefined);
    for (const place of places) {
      const cell = this.cells[place]!;
      const name = cell.from === 'column' ? this.#source.columns[cell.index]!.name : this.columns[place]!.name;
      const mask = cell.from === 'column' ? entryFor(masks, name) : undefined;
      if (mask !== undefined && mask !== 'hash')
        throw this.#invalid(
          this.#maskPath(name),
          `the column ${name} belongs to the key: masked with anything but \`hash\` it would tell rows no more`,
        );
      if (cell.from === 'change' || cell.from === 'deletion')
        throw this.#invalid(['key'], `the key column ${name} would be another with each change`);
    }
    return places;
  }

  #keyPlace(name: string): number[] {
    const index = this.#source.columns.findIndex((column) => fold(column.name) === fold(name));
    if (index === -1) {
      const added = this.columns.findIndex((column, place) => this.cells[place]!.from !== 'column' && fold(column.name) === fold(name));
      return added === -1 ? [] : [added];
    }
    const place = this.#places.get(index);
    if (place === undefined) throw this.#invalid(['key'], `the key column ${name} is left out`);
    return [place];
  }

  #checkNames(): void {
    const names = this.columns.map((column) => fold(column.name));
    const twice = this.columns.find((_, index) => names.indexOf(names[index]!) !== index);
    if (twice !== undefined)
      throw new WaggleError(
        'CONFIG_INVALID',
        `${this.#context.place(['columns'])}: two columns of ${this.#source.name} would both be named ${twice.name}`,
      );
  }

  #maskPath(column: string): OptionPath {
    return ['columns', 'mask', keyFor(this.#options.columns?.mask, column)];
  }

  #invalid(path: OptionPath, message: string, hint?: string): WaggleError {
    const text = `${this.#context.place(path)}: the table ${this.#source.name}: ${message}`;
    return new WaggleError('CONFIG_INVALID', text, hint === undefined ? {} : { hint });
  }
}

const isChangeField = (name: string): name is ChangeField => name === 'seq' || name === 'txid' || name === 'ts' || name === 'op';

const changeColumn = (name: string, what: ChangeField): SinkColumn => {
  const common = { name, notNull: true, defaultValue: null, volatile: true } as const;
  if (what === 'seq') return { ...common, type: 'INTEGER', affinity: 'INTEGER', alwaysInteger: true };
  if (what === 'ts') return { ...common, ...TYPES.timestamptz, alwaysInteger: false };
  return { ...common, type: 'TEXT', affinity: 'TEXT', alwaysInteger: false };
};

const defaultOf = ({ defaultValue }: Column, integers: 'number' | 'bigint'): Value =>
  integers === 'number' && typeof defaultValue === 'bigint' ? canonicalInteger(defaultValue) : defaultValue;

const rowidColumn = (columns: readonly SinkColumn[]): SinkColumn => {
  let name = ROWID_COLUMN;
  while (columns.some((column) => fold(column.name) === name)) name += '_';
  return { name, type: 'INTEGER', affinity: 'INTEGER', notNull: true, defaultValue: null, alwaysInteger: true, rowid: true };
};
