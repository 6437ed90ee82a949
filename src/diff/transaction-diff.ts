/**
 * Pages → row changes: the one comparison that serves a transaction, the recovery after a gap (mirror against hive) and,
 * with an empty mirror, the first state.
 *
 *     changed pages ──► by tree (page map) ──► sqlite_schema first: what became of the tables
 *                   ──► a table whose place and columns stayed: its changed leaves (tree-membership, leaf-merge)
 *                   ──► a table that was created, moved or altered: all its rows
 *                   ──► joined by key (table-changes), ordered by foreign keys, written as one list
 *
 * `diff` returns with the page map and the schema moved on. After a throw the object must not be used again.
 */
import { ChangeWriter, type PartSpill } from '../change/change-codec.ts';
import type { Table, TextEncoding } from '../change/table.ts';
import { Schema, SCHEMA_TREE, type TrackedTable } from '../catalog/schema.ts';
import { decodeSchemaRow, type SchemaRow } from '../catalog/schema-rows.ts';
import type { TableFilter } from '../catalog/table-reader.ts';
import { type PageMap, PageMapEdit, schemaTree, type TreeToAdd } from '../mirror/page-map.ts';
import { cellCount, PageCorruption, pageKind } from '../sqlite/btree-page.ts';
import { type CompareKeys, keyComparison } from '../sqlite/key-order.ts';
import { RecordError } from '../sqlite/record.ts';
import { WaggleError } from '../support/errors.ts';
import { onlyRenamed, recordComparison, rowComparison, sameColumns, sameKey } from './column-changes.ts';
import { KeyMerge } from './key-merge.ts';
import { LeafMerge, type RowVisitor } from './leaf-merge.ts';
import type { PageImages } from './page-images.ts';
import { PagesByTree } from './pages-by-tree.ts';
import { TableChanges, type TableChangesOptions } from './table-changes.ts';
import { MembershipFinder } from './tree-membership.ts';
import { forEachRow, leavesOf, type RowsFrom } from './tree-scan.ts';

/** Valid until the next comparison. */
export interface TransactionChanges {
  readonly changes: ChangeWriter;
  readonly previous: Schema;
  /** The same object as `previous` where no version of the catalog was made. */
  readonly schema: Schema;
}

export interface TransactionDiffOptions {
  readonly schema: Schema;
  readonly map: PageMap;
  readonly usableSize: number;
  readonly encoding: TextEncoding;
  readonly captured: TableFilter;
  /** Where changes of a large transaction are put aside; null: they stay in memory. */
  readonly spill: PartSpill | null;
  /** `event`: a table that a transaction leaves without rows gives one `t`. */
  readonly deleteAll: 'rows' | 'event';
}

/** Tables of which objects are kept. */
const KEPT_TABLES = 16;

export class TransactionDiff {
  readonly #map: PageMap;
  readonly #usableSize: number;
  #encoding: TextEncoding;
  #captured: TableFilter;
  readonly #spill: PartSpill | null;
  readonly #deleteAll: 'rows' | 'event';
  #schema: Schema;
  // What follows is used again by each transaction: most change one row, and making these anew took half of their time.
  readonly #byTree = new PagesByTree();
  readonly #edit = new PageMapEdit();
  readonly #membership: MembershipFinder;
  readonly #merge: LeafMerge;
  readonly #tables: TableChanges[] = [];
  #tablesUsed = 0;
  readonly #sameRecords = new WeakMap<Table, TableChangesOptions['sameRow']>();
  readonly #changes = new ChangeWriter();

  constructor({ schema, map, usableSize, encoding, captured, spill, deleteAll }: TransactionDiffOptions) {
    this.#deleteAll = deleteAll;
    this.#spill = spill;
    this.#schema = schema;
    this.#map = map;
    this.#usableSize = usableSize;
    this.#encoding = encoding;
    this.#captured = captured;
    this.#membership = new MembershipFinder(map);
    this.#merge = new LeafMerge(usableSize);
  }

  get schema(): Schema {
    return this.#schema;
  }

  /** For a database without any table: its first one decides the encoding. */
  setEncoding(encoding: TextEncoding): void {
    this.#encoding = encoding;
  }

  /**
   * `changed`: the pages written by the transaction, each once. What it gives is valid until the next call. Throws HIVE_CORRUPT and
   * the catalog's errors.
   */
  diff(changed: readonly number[], images: PageImages): TransactionChanges {
    const previous = this.#schema;
    const byTree = this.#byTree;
    byTree.group(changed, this.#map);
    this.#begin();
    const schemaPages = byTree.of(SCHEMA_TREE);
    if (schemaPages !== undefined) return this.#diffTables({ previous, schema: this.#nextSchema(schemaPages, images), images });
    const found: TableChanges[] = [];
    for (const tree of byTree.trees) {
      const entry = previous.ofTree(tree);
      if (entry !== undefined) found.push(this.#comparePages(entry, byTree.of(tree)!, images));
    }
    return this.#finish({ previous, schema: previous, found, dropped: [], rewritten: [], images });
  }

  /**
   * Other tables are captured from now on, on pages that did not change: what is new comes with all its rows, what is left out
   * goes as if it had been dropped. Null if the same tables are captured.
   */
  refilter(captured: TableFilter, images: PageImages): TransactionChanges | null {
    this.#captured = captured;
    const previous = this.#schema;
    const schema = guarded('sqlite_schema', () => this.#readSchema(images));
    if (schema === previous) return null;
    this.#byTree.clear();
    this.#begin();
    return this.#diffTables({ previous, schema, images });
  }

  #begin(): void {
    this.#tablesUsed = 0;
    this.#tables.length = Math.min(this.#tables.length, KEPT_TABLES);
    this.#changes.reset();
  }

  /** The schema may have changed: every table is looked at. */
  #diffTables({ previous, schema, images }: { previous: Schema; schema: Schema; images: PageImages }): TransactionChanges {
    const rewritten: TrackedTable[] = [];
    const found: TableChanges[] = [];
    const dropped = schema === previous ? [] : goneTables(previous, schema);
    for (const entry of schema.tables) {
      const known = previous.byName.get(entry.table.name);
      const old = known === undefined || dropped.includes(known) ? undefined : known;
      const pages = this.#byTree.of(entry.tree);
      if (old === undefined || old.root !== entry.root || !this.#isSameTable(old, entry, pages)) {
        found.push(this.#compareWhole(old, entry, images));
        rewritten.push(entry);
      } else if (pages !== undefined) {
        found.push(this.#comparePages(entry, pages, images));
      }
    }
    return this.#finish({ previous, schema, found, dropped, rewritten, images });
  }

  /** All rows are compared: writes the changes in their order, and moves map and schema on. */
  #finish(parts: {
    previous: Schema;
    schema: Schema;
    found: TableChanges[];
    dropped: readonly TrackedTable[];
    rewritten: readonly TrackedTable[];
    images: PageImages;
  }): TransactionChanges {
    const { previous, dropped, rewritten, images } = parts;
    const { changes, schema } = writeChanges({ ...parts, into: this.#changes });
    this.#moveMap(dropped, rewritten, images);
    this.#schema = schema;
    return { changes, previous, schema };
  }

  /** The schema after the transaction; the same object if no captured table changed in it. */
  #nextSchema(pages: number[], images: PageImages): Schema {
    const previous = this.#schema;
    return guarded('sqlite_schema', () => {
      let any = false;
      const note = (): void => void (any = true);
      this.#mergePages({ of: schemaTree(SCHEMA_TREE), order: null, pages, images, visitor: { created: note, updated: note, deleted: note } });
      return any ? this.#readSchema(images) : previous;
    });
  }

  /** The same object if no captured table differs. */
  #readSchema(images: PageImages): Schema {
    const previous = this.#schema;
    const rows = readSchemaRows(
      { root: 1, usableSize: this.#usableSize, sizePages: images.newSizePages, readPage: (page) => images.newPage(page), after: null },
      this.#encoding,
    );
    const schema = Schema.read(rows, { version: previous.catalog.version + 1, encoding: this.#encoding, captured: this.#captured, previous });
    return sameTables(previous, schema) ? previous : schema;
  }

  #isSameTable(old: TrackedTable, now: TrackedTable, pages: number[] | undefined): boolean {
    if (old === now || sameColumns(old.table, now.table)) return true;
    // A rename alone rewrites no row, and says so itself.
    return pages === undefined && onlyRenamed(old.table, now.table);
  }

  #comparePages(entry: TrackedTable, pages: number[], images: PageImages): TableChanges {
    const visitor = this.#tableChanges({ index: entry.index, table: entry.table, previous: entry.table, sameRow: this.#sameRecord(entry.table) });
    if (this.#deleteAll === 'event' && this.#loseAllRows(entry, images)) visitor.truncate(this.#schema.byName.get(entry.table.name)!.index);
    guarded(entry.table.name, () => this.#mergePages({ of: entry, order: this.#orderOf(entry), pages, images, visitor }));
    return visitor;
  }

  /** A tree without rows is a leaf without cells. */
  #loseAllRows({ root, kinds }: TrackedTable, images: PageImages): boolean {
    const isEmpty = (page: Buffer): boolean => pageKind(page, root) === kinds.leaf && cellCount(page, root) === 0;
    return isEmpty(images.newPage(root)) && !isEmpty(images.oldPage(root));
  }

  #sameRecord(table: Table): TableChangesOptions['sameRow'] {
    let same = this.#sameRecords.get(table);
    if (same === undefined) this.#sameRecords.set(table, (same = recordComparison(table, this.#encoding)));
    return same;
  }

  #tableChanges(options: TableChangesOptions): TableChanges {
    const known = this.#tables[this.#tablesUsed];
    if (known === undefined) this.#tables.push(new TableChanges(options, this.#spill));
    else known.begin(options);
    return this.#tables[this.#tablesUsed++]!;
  }

  /** The order in which the rows of a WITHOUT ROWID table stand; null: by rowid. */
  #orderOf({ table }: TrackedTable): CompareKeys | null {
    return table.withoutRowid === undefined ? null : keyComparison(table.withoutRowid.key, this.#encoding);
  }

  #mergePages(options: { of: TreeToAdd; order: CompareKeys | null; pages: number[]; images: PageImages; visitor: RowVisitor }): void {
    const { of, order, pages, images, visitor } = options;
    const { tree } = of;
    const edit = this.#edit;
    const { touchedChains, oldLeaves, newLeaves, removed, added, inPlace } = this.#membership.find(of, pages, images);
    const merging = { tree, images, edit, touchedChains, visitor, pairs: 'changed' as const };
    const merge = order === null ? this.#merge.begin(merging) : new KeyMerge({ ...merging, usableSize: this.#usableSize, compare: order });
    // Clears go first, so that a claim of the same page (a leaf that became an overflow page) wins.
    for (const page of removed) edit.clear(page);
    for (const page of added) edit.claim(page, tree, 0);
    if (inPlace) for (const leaf of oldLeaves) merge.compareInPlace(leaf);
    else merge.merge(oldLeaves, newLeaves);
    if (touchedChains.size === 0) return;
    const taken = new Set([...oldLeaves, ...newLeaves, ...removed]);
    for (const leaf of touchedChains.keys()) if (!taken.has(leaf)) merge.compareInPlace(leaf);
  }

  /** All rows of a table that was created, moved to another root, or whose columns changed. */
  #compareWhole(old: TrackedTable | undefined, now: TrackedTable, images: PageImages): TableChanges {
    const before = old?.table ?? now.table;
    const sameRow = sameColumns(before, now.table) ? this.#sameRecord(now.table) : rowComparison(before, now.table, this.#encoding);
    const visitor = this.#tableChanges({ index: now.index, table: now.table, previous: before, sameRow });
    guarded(now.table.name, () => {
      const compare = this.#orderOf(now);
      if (compare !== null) {
        const merging = { tree: now.tree, images, edit: new PageMapEdit(), touchedChains: new Map(), visitor, pairs: 'all' as const };
        new KeyMerge({ ...merging, usableSize: this.#usableSize, compare }).mergeTrees(old?.root ?? null, now.root);
        return;
      }
      const oldLeaves = old === undefined ? [] : leavesOf(old.root, images.oldSizePages, (page) => images.oldPage(page));
      const newLeaves = leavesOf(now.root, images.newSizePages, (page) => images.newPage(page));
      // The map is rebuilt for the whole tree afterwards: this edit is thrown away.
      const merge = this.#merge.begin({ tree: now.tree, images, edit: new PageMapEdit(), touchedChains: new Map(), visitor, pairs: 'all' });
      merge.mergeOrdered(oldLeaves, newLeaves);
    });
    return visitor;
  }

  #moveMap(dropped: readonly TrackedTable[], rewritten: readonly TrackedTable[], images: PageImages): void {
    this.#map.ensure(images.newSizePages);
    for (const entry of dropped) this.#map.clearTree(entry.tree);
    for (const entry of rewritten) this.#map.clearTree(entry.tree);
    this.#edit.applyTo(this.#map);
    for (const entry of rewritten) {
      guarded(entry.table.name, () => this.#map.addTree(entry, this.#usableSize, images.newSizePages, (page) => images.newPage(page)));
    }
  }
}

/** All rows of sqlite_schema, in rowid order. */
export const readSchemaRows = (from: RowsFrom, encoding: TextEncoding): SchemaRow[] => {
  const rows: SchemaRow[] = [];
  forEachRow(from, (_rowid, record) => {
    rows.push(decodeSchemaRow(record, encoding));
    return true;
  });
  return rows;
};

/** All changes in their order, and the schema with what they tell of it. */
export const writeChanges = (parts: {
  previous: Schema;
  schema: Schema;
  found: TableChanges[];
  dropped: readonly TrackedTable[];
  into: ChangeWriter;
}): { changes: ChangeWriter; schema: Schema } => {
  const { previous, schema, found, dropped, into } = parts;
  if (schema !== previous) writeSchemaChanges(previous, schema, dropped, into);
  const changes = writeRowChanges(schema, found, into);
  if (!found.some((table) => table.movedSilently)) return { changes, schema };
  const moved = new Set(found.filter((table) => table.movedSilently).map(({ table }) => table.name));
  return { changes, schema: schema === previous ? schema.withMoved(moved) : markMoved(schema, moved) };
};

/** Tables that are dropped, or whose name was taken by a table with another key. */
export const goneTables = (previous: Schema, schema: Schema): TrackedTable[] => previous.tables.filter((entry) => isGone(entry, schema));

/** Dropped, or its name was taken by a table with another key. */
const isGone = (entry: TrackedTable, schema: Schema): boolean => {
  const now = schema.byName.get(entry.table.name);
  return now === undefined || (now !== entry && !sameKey(entry.table, now.table));
};

const sameTables = (a: Schema, b: Schema): boolean =>
  a.tables.length === b.tables.length &&
  a.tables.every((entry, index) => {
    const other = b.tables[index]!;
    return entry.table.name === other.table.name && entry.root === other.root && entry.table.sql === other.table.sql;
  });

/** Dropped tables first (all rows gone, then the table), then what was created or altered. */
const writeSchemaChanges = (previous: Schema, schema: Schema, dropped: readonly TrackedTable[], changes: ChangeWriter): void => {
  for (const entry of dropped) {
    changes.truncate(entry.index);
    if (!schema.byName.has(entry.table.name)) changes.schema(entry.index, true);
  }
  for (const entry of schema.inForeignKeyOrder()) {
    if (previous.byName.get(entry.table.name)?.table.sql !== entry.table.sql) changes.schema(entry.index, false);
  }
};

/** Creates and updates parents first, then deletes children first, behind what stands in `into`. Gives the list that has them all. */
const writeRowChanges = (schema: Schema, found: TableChanges[], into: ChangeWriter): ChangeWriter => {
  if (found.length > 1) found.sort((a, b) => schema.foreignKeyRank(a.index) - schema.foreignKeyRank(b.index));
  const deletes: ChangeWriter[] = [];
  let all = into;
  const append = (lane: ChangeWriter): void => {
    if (lane.count === 0) return;
    if (all === into && into.count === 0) all = lane;
    else {
      if (all !== into) into.append(all);
      all = into;
      into.append(lane);
    }
  };
  for (const table of found) {
    const lanes = guarded(table.table.name, () => table.finish());
    append(lanes.upserts);
    deletes.push(lanes.deletes);
  }
  for (const lane of deletes.reverse()) append(lane);
  return all;
};

/** Within a version that this transaction made anyway. */
const markMoved = (schema: Schema, moved: ReadonlySet<string>): Schema => {
  const next = schema.withMoved(moved);
  const version = schema.catalog.version;
  const tables = next.tables.map((entry) => ({
    ...entry,
    table: moved.has(entry.table.name) ? { ...entry.table, generation: version } : entry.table,
  }));
  return new Schema({ ...schema.catalog, tables: tables.map((entry) => entry.table) }, tables);
};

/** Turns a contradiction in the file into HIVE_CORRUPT that names the table. */
export const guarded = <T>(table: string, work: () => T): T => {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof PageCorruption) && !(error instanceof RecordError)) throw error;
    throw new WaggleError('HIVE_CORRUPT', `table "${table}": ${error.message}`, { cause: error });
  }
};
