/**
 * The hive as waggle knows it at the head of the log: mirror, page map and schema, moved on together, one transaction
 * after the other. Turns pages into changes; knows nothing of where the pages came from or where the changes go.
 */
import { Schema, SCHEMA_TREE } from '../catalog/schema.ts';
import type { SchemaRow } from '../catalog/schema-rows.ts';
import type { TableFilter } from '../catalog/table-reader.ts';
import type { PartSpill } from '../change/change-codec.ts';
import type { Catalog, Rowid, RowPlace } from '../change/table.ts';
import { diffFormats } from '../diff/format-diff.ts';
import type { PageImages } from '../diff/page-images.ts';
import { readSchemaRows, TransactionDiff, type TransactionChanges } from '../diff/transaction-diff.ts';
import { rowKey, keyNumber } from '../diff/row-key.ts';
import { forEachIndexRow, forEachRow } from '../diff/tree-scan.ts';
import type { Mirror } from '../mirror/mirror.ts';
import { PageMap, schemaTree } from '../mirror/page-map.ts';
import { cellCount, PageCorruption } from '../sqlite/btree-page.ts';
import { type DatabaseHeader, parseDatabaseHeader } from '../sqlite/database-header.ts';
import { keyComparison } from '../sqlite/key-order.ts';
import { emptyDifference, findDifference, type PageDifference } from '../sqlite/page-difference.ts';
import { checkRecord, RecordError } from '../sqlite/record.ts';
import { WaggleError } from '../support/errors.ts';

/** A set of pages that changed together. */
export interface PageSet {
  readonly sizePages: number;
  /** Each once. */
  readonly pages: readonly number[];
  /** All images are in memory. False: they are too many to be kept, and an image is valid until the next call of `image`. */
  readonly isResident: boolean;
  has(page: number): boolean;
  image(page: number): Buffer;
}

/**
 * Pages that one transaction can add without writing them: those that it freed again before they left SQLite's cache. A damaged page 1
 * counts billions.
 */
const MOST_UNWRITTEN_PAGES = 2 ** 18;

export class Replica {
  readonly mirror: Mirror;
  /** Which tree each page belongs to, as of the last set that was applied. */
  readonly map: PageMap;
  readonly usableSize: number;
  readonly #diff: TransactionDiff;
  readonly #images: SetOnMirror;

  private constructor(parts: { mirror: Mirror; map: PageMap; diff: TransactionDiff; usableSize: number }) {
    this.mirror = parts.mirror;
    this.map = parts.map;
    this.usableSize = parts.usableSize;
    this.#diff = parts.diff;
    this.#images = new SetOnMirror(parts.mirror);
  }

  /**
   * Reads schema and page map out of a mirror. `known`: the catalog that the log has as of the same batch; null: this is the
   * first state and gets version `firstVersion`.
   */
  static read(mirror: Mirror, options: ReplicaOptions): Replica {
    const readPage = (page: number): Buffer => mirror.page(existing(page));
    const header = headerOf(mirror);
    const { usableSize, encoding } = header;
    try {
      const map = new PageMap(mirror.sizePages);
      ofTable('sqlite_schema', () => map.addTree(schemaTree(SCHEMA_TREE), usableSize, mirror.sizePages, readPage));
      const rows = readSchemaRows({ root: 1, usableSize, sizePages: mirror.sizePages, readPage, after: null }, encoding);
      const version = options.known?.version ?? options.firstVersion;
      const schema =
        options.known === null
          ? Schema.read(rows, { version, encoding, captured: options.captured, previous: null })
          : knownSchema(rows, options.known);
      for (const entry of schema.tables) ofTable(entry.table.name, () => map.addTree(entry, usableSize, mirror.sizePages, readPage));
      const diff = new TransactionDiff({
        schema,
        map,
        usableSize,
        encoding,
        captured: options.captured,
        spill: options.spill ?? null,
        deleteAll: options.deleteAll ?? 'rows',
      });
      return new Replica({ mirror, map, diff, usableSize });
    } catch (error) {
      if (error instanceof PageCorruption || error instanceof RecordError) throw new WaggleError('HIVE_CORRUPT', error.message, { cause: error });
      throw error;
    }
  }

  get schema(): Schema {
    return this.#diff.schema;
  }

  /**
   * Takes another filter, or the same one again. The changes that come of it stand beside no pages: newly captured tables with all
   * their rows, tables that are left out as dropped. Null: the same tables are captured.
   */
  refilter(captured: TableFilter): TransactionChanges | null {
    return this.#diff.refilter(
      captured,
      this.#imagesOf({ sizePages: this.mirror.sizePages, pages: [], isResident: true, has: () => false, image: (page) => this.mirror.page(page) }),
    );
  }

  /**
   * The changes to the database in another mirror, whose pages are of another size. This replica stays as it is.
   * Throws HIVE_CORRUPT and the catalog's errors.
   */
  compareWith(other: Mirror, captured: TableFilter, spill: PartSpill | null): TransactionChanges {
    const previous = this.schema;
    const before = { schema: previous, usableSize: this.usableSize, sizePages: this.mirror.sizePages, readPage: pagesOf(this.mirror) };
    const { usableSize, encoding } = headerOf(other);
    if (encoding !== headerOf(this.mirror).encoding && previous.tables.length > 0) throw new WaggleError('HIVE_CORRUPT', 'the text encoding changed');
    const after = { usableSize, sizePages: other.sizePages, readPage: pagesOf(other) };
    try {
      const rows = readSchemaRows({ ...after, root: 1, after: null }, encoding);
      const schema = Schema.read(rows, { version: previous.catalog.version + 1, encoding, captured, previous });
      return diffFormats(before, { ...after, schema }, encoding, spill);
    } catch (error) {
      if (error instanceof PageCorruption || error instanceof RecordError) throw new WaggleError('HIVE_CORRUPT', error.message, { cause: error });
      throw error;
    }
  }

  /** The changes that a set of pages makes. Small sets are staged in the mirror; a large one waits for `mirror.commitLarge`. */
  apply(set: PageSet): TransactionChanges {
    const unwritten = set.sizePages - this.mirror.sizePages - set.pages.length;
    if (unwritten > MOST_UNWRITTEN_PAGES) throw new WaggleError('HIVE_CORRUPT', `a commit counts ${unwritten} pages that nobody wrote`);
    const changes = this.#diff.diff(set.pages, this.#imagesOf(set));
    if (set.isResident) this.mirror.stage(set.pages, (page) => set.image(page), set.sizePages);
    return changes;
  }

  /**
   * Gives `onRow` the rows of a table in their order, behind `after`, up to about `maxBytes` of records; a record is valid during the call.
   * Null if the table is not captured. Throws PageCorruption and RecordError.
   */
  readRows(
    table: string,
    { after, maxBytes }: { readonly after: RowPlace | null; readonly maxBytes: number },
    onRow: (rowid: Rowid, record: Buffer) => void,
  ): ReplicaRows | null {
    const entry = this.schema.byName.get(table);
    if (entry === undefined) return null;
    let bytes = 0;
    let done = true;
    const { mirror, usableSize } = this;
    const take = (rowid: Rowid, record: Buffer): boolean => {
      if (bytes >= maxBytes) {
        done = false;
        return false;
      }
      checkRecord(record);
      onRow(rowid, record);
      bytes += record.length + 16;
      return true;
    };
    let pages = 0;
    const readPage = (page: number): Buffer => {
      pages += 1;
      return mirror.page(existing(page));
    };
    const from = { root: entry.root, usableSize, sizePages: mirror.sizePages, readPage };
    const { withoutRowid } = entry.table;
    // A place of the other kind is one of an earlier table of that name. Its reader sees by the generation that it is to start again.
    if (withoutRowid === undefined) {
      forEachRow({ ...from, after: after instanceof Uint8Array ? null : after }, take);
    } else {
      const compare = keyComparison(withoutRowid.key, this.schema.catalog.encoding);
      const place = after instanceof Uint8Array ? Buffer.from(after.buffer, after.byteOffset, after.length) : null;
      forEachIndexRow({ ...from, compare, after: place }, (record) => take(keyNumber(rowKey(entry.table, 0, record)), record));
    }
    return { done, pages, tablePages: this.map.pagesOf(entry.tree) };
  }

  /** Reads every row and keeps none. Throws PageCorruption and RecordError. */
  checkRows(): void {
    const { mirror, usableSize } = this;
    for (const { table, root } of this.schema.tables) {
      const from = { root, usableSize, sizePages: mirror.sizePages, readPage: (page: number) => mirror.page(existing(page)) };
      const check = (record: Buffer): boolean => {
        checkRecord(record);
        return true;
      };
      if (table.withoutRowid === undefined) forEachRow({ ...from, after: null }, (_rowid, record) => check(record));
      else forEachIndexRow({ ...from, compare: keyComparison(table.withoutRowid.key, this.schema.catalog.encoding), after: null }, check);
    }
  }

  /** Page size, reserved bytes and encoding are written once; a database that changed them is another one. */
  #checkFormat(firstPage: Buffer): void {
    const { pageSize } = this.mirror;
    const header = parseDatabaseHeader(firstPage);
    if (header === null) throw new WaggleError('HIVE_CORRUPT', 'page 1 is not the first page of a database any more');
    if (header.pageSize !== pageSize) throw new WaggleError('HIVE_PAGE_SIZE_CHANGED', `the page size changed from ${pageSize} to ${header.pageSize}`);
    if (header.usableSize !== this.usableSize) throw new WaggleError('HIVE_PAGE_SIZE_CHANGED', 'the reserved bytes of the pages changed');
    if (header.encoding === headerOf(this.mirror).encoding) return;
    if (cellCount(this.mirror.page(1), 1) > 0) throw new WaggleError('HIVE_CORRUPT', 'the text encoding changed');
    this.#diff.setEncoding(header.encoding);
  }

  #imagesOf(set: PageSet): PageImages {
    if (set.has(1)) this.#checkFormat(set.image(1));
    this.#images.begin(set);
    return this.#images;
  }
}

/** The mirror before a set of pages, and with it. One object serves all sets. */
class SetOnMirror implements PageImages {
  oldSizePages = 0;
  newSizePages = 0;
  readonly #mirror: Mirror;
  readonly #scratch: PageDifference;
  #set: PageSet | null = null;

  constructor(mirror: Mirror) {
    this.#mirror = mirror;
    this.#scratch = emptyDifference(mirror.pageSize);
  }

  begin(set: PageSet): void {
    this.#set = set;
    this.oldSizePages = this.#mirror.sizePages;
    this.newSizePages = set.sizePages;
  }

  oldPage(page: number): Buffer {
    return this.#mirror.page(existing(page));
  }

  newPage(page: number): Buffer {
    return this.#set!.has(page) ? this.#set!.image(page) : this.#mirror.page(existing(page));
  }

  isChanged(page: number): boolean {
    return this.#set!.has(page);
  }

  difference(page: number, before: Buffer, after: Buffer, sameFrom: number): PageDifference | null {
    const set = this.#set!;
    if (!set.has(page)) return null;
    if (set.isResident) return this.#mirror.difference(page, before, after, sameFrom);
    return findDifference(before, after, this.#scratch, sameFrom) ? this.#scratch : null;
  }
}

export interface ReplicaOptions {
  readonly captured: TableFilter;
  readonly known: Catalog | null;
  readonly firstVersion: number;
  /** Where changes of a large transaction are put aside. */
  readonly spill?: PartSpill | null;
  /** As of `CaptureOptions`. */
  readonly deleteAll?: 'rows' | 'event' | undefined;
}

export interface ReplicaRows {
  /** The table has no more. */
  readonly done: boolean;
  /** Read for these rows, of all that the table has. */
  readonly pages: number;
  readonly tablePages: number;
}

/**
 * The tables that the log's catalog has, whatever the filter says now: changes are stored by a table's place in it.
 * Throws STATE_CORRUPT where the mirror does not have them.
 */
const knownSchema = (rows: readonly SchemaRow[], known: Catalog): Schema => {
  const names = new Set(known.tables.map((table) => table.name));
  const schema = Schema.read(rows, { version: known.version, encoding: known.encoding, captured: (name) => names.has(name), previous: null }).adopt(
    known,
  );
  const isSame =
    schema.tables.length === known.tables.length &&
    schema.tables.every(({ table }, index) => table.name === known.tables[index]!.name && table.sql === known.tables[index]!.sql);
  if (!isSame) throw new WaggleError('STATE_CORRUPT', 'the mirror does not have the tables of the log');
  return schema;
};

const pagesOf =
  (mirror: Mirror) =>
  (page: number): Buffer =>
    mirror.page(existing(page));
/** Names the table in what contradicts the file format. */
const ofTable = (name: string, work: () => void): void => {
  try {
    work();
  } catch (error) {
    if (error instanceof PageCorruption) throw new PageCorruption(`table "${name}": ${error.message}`, { cause: error });
    throw error;
  }
};

const headerOf = (mirror: Mirror): DatabaseHeader => {
  const header = parseDatabaseHeader(mirror.page(1));
  if (header === null) throw new WaggleError('HIVE_CORRUPT', 'page 1 is not the first page of a database');
  return header;
};

/** A page number that a page may name: what lies behind the end reads as zeros, what lies before the beginning is a fault. */
const existing = (page: number): number => {
  if (!(page >= 1)) throw new PageCorruption(`there is no page ${page}`);
  return page;
};
