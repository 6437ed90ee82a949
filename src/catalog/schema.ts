/**
 * The captured tables at one version of the hive's schema, with where their trees begin. A new version is made when
 * sqlite_schema changed, or when rows of a table changed their rowid without a change to tell.
 */
import { INDEX_TREE, TABLE_TREE, type TreeKinds } from '../sqlite/btree-page.ts';
import type { Catalog, Table, TextEncoding } from '../change/table.ts';
import type { SchemaRow } from './schema-rows.ts';
import { readTables, type RootedTable, type TableFilter } from './table-reader.ts';

/** A captured table with its root page and the id under which the page map knows its tree. */
export interface TrackedTable {
  readonly table: Table;
  /** Place in `catalog.tables`. */
  readonly index: number;
  readonly root: number;
  readonly tree: number;
  readonly kinds: TreeKinds;
}

/** The tree of sqlite_schema itself. Tables have ids above. */
export const SCHEMA_TREE = 1;

export class Schema {
  readonly catalog: Catalog;
  readonly tables: readonly TrackedTable[];
  readonly byName: ReadonlyMap<string, TrackedTable>;
  readonly #byTree: ReadonlyMap<number, TrackedTable>;
  #order: readonly TrackedTable[] | null = null;
  #ranks: readonly number[] | null = null;

  constructor(catalog: Catalog, tables: readonly TrackedTable[]) {
    this.catalog = catalog;
    this.tables = tables;
    this.byName = new Map(tables.map((entry) => [entry.table.name, entry]));
    this.#byTree = new Map(tables.map((entry) => [entry.tree, entry]));
  }

  /** The schema of sqlite_schema's rows. Tree ids go by name: a table that is known keeps its id. */
  static read(rows: readonly SchemaRow[], options: SchemaOptions): Schema {
    const known = new Map(options.previous?.tables.map((entry) => [entry.table.name, entry.table]));
    return Schema.#make(readTables(rows, options.captured, known), options);
  }

  static #make(rooted: readonly RootedTable[], { version, encoding, previous }: SchemaOptions): Schema {
    let nextTree = Math.max(SCHEMA_TREE, ...(previous?.tables.map((entry) => entry.tree) ?? [])) + 1;
    const tables = rooted.map(({ table, root }, index) => {
      const known = previous?.byName.get(table.name);
      const generation = known === undefined || known.root !== root ? version : known.table.generation;
      const kinds = table.withoutRowid === undefined ? TABLE_TREE : INDEX_TREE;
      return { table: { ...table, generation }, index, root, tree: known?.tree ?? nextTree++, kinds };
    });
    return new Schema({ version, encoding, tables: tables.map((entry) => entry.table) }, tables);
  }

  /** The same tables as a new version in which the named ones have a new generation. */
  withMoved(names: ReadonlySet<string>): Schema {
    const version = this.catalog.version + 1;
    const tables = this.tables.map((entry) => (names.has(entry.table.name) ? { ...entry, table: { ...entry.table, generation: version } } : entry));
    return new Schema({ ...this.catalog, version, tables: tables.map((entry) => entry.table) }, tables);
  }

  /** The same tables with what an earlier catalog knew of them: its version and its generations (after a restart). */
  adopt(catalog: Catalog): Schema {
    const known = new Map(catalog.tables.map((table) => [table.name, table]));
    const tables = this.tables.map((entry) => ({
      ...entry,
      table: { ...entry.table, generation: known.get(entry.table.name)?.generation ?? entry.table.generation },
    }));
    return new Schema({ ...this.catalog, version: catalog.version, tables: tables.map((entry) => entry.table) }, tables);
  }

  ofTree(tree: number): TrackedTable | undefined {
    return this.#byTree.get(tree);
  }

  /** Tables in foreign-key order, parents first; in a cycle the order is the schema's. */
  inForeignKeyOrder(): readonly TrackedTable[] {
    this.#order ??= parentsFirst(this.tables, this.byName);
    return this.#order;
  }

  /** Place of the table at `index` in that order. */
  foreignKeyRank(index: number): number {
    if (this.#ranks === null) {
      const ranks: number[] = [];
      this.inForeignKeyOrder().forEach((entry, rank) => (ranks[entry.index] = rank));
      this.#ranks = ranks;
    }
    return this.#ranks[index]!;
  }
}

export interface SchemaOptions {
  readonly version: number;
  readonly encoding: TextEncoding;
  readonly captured: TableFilter;
  readonly previous: Schema | null;
}

const parentsFirst = (tables: readonly TrackedTable[], byName: ReadonlyMap<string, TrackedTable>): TrackedTable[] => {
  const order: TrackedTable[] = [];
  const seen = new Set<TrackedTable>();
  // REFERENCES may spell a table's name in other letters than its CREATE TABLE.
  const byFoldedName = new Map([...byName].map(([name, entry]) => [name.toLowerCase(), entry]));
  const visit = (entry: TrackedTable): void => {
    if (seen.has(entry)) return;
    seen.add(entry);
    for (const name of entry.table.references) {
      const parent = byFoldedName.get(name.toLowerCase());
      if (parent !== undefined) visit(parent);
    }
    order.push(entry);
  };
  for (const entry of tables) visit(entry);
  return order;
};
