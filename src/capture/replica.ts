/**
 * The hive as waggle knows it at the head of the log: mirror, page map and schema, moved on together, one transaction
 * after the other. Turns pages into changes; knows nothing of where the pages came from or where the changes go.
 */
import { Schema, SCHEMA_TREE } from '../catalog/schema.ts';
import type { TableFilter } from '../catalog/table-reader.ts';
import type { PartSpill } from '../change/change-codec.ts';
import type { Catalog, Rowid, TextEncoding } from '../change/table.ts';
import type { PageImages } from '../diff/page-images.ts';
import { readSchemaRows, TransactionDiff, type TransactionChanges } from '../diff/transaction-diff.ts';
import { forEachRow } from '../diff/tree-scan.ts';
import type { Mirror } from '../mirror/mirror.ts';
import { PageMap } from '../mirror/page-map.ts';
import { PageCorruption } from '../sqlite/btree-page.ts';
import { type DatabaseHeader, parseDatabaseHeader } from '../sqlite/database-header.ts';
import { WaggleError } from '../support/errors.ts';

/** A set of pages that changed together. */
export interface PageSet {
  readonly sizePages: number;
  /** Each once. */
  readonly pages: readonly number[];
  /** All images, or null where they are too many to be kept. */
  readonly images: ReadonlyMap<number, Buffer> | null;
  readonly image: (page: number) => Buffer;
}

export class Replica {
  readonly mirror: Mirror;
  readonly #diff: TransactionDiff;
  readonly #usableSize: number;

  private constructor(mirror: Mirror, diff: TransactionDiff, usableSize: number) {
    this.mirror = mirror;
    this.#diff = diff;
    this.#usableSize = usableSize;
  }

  /**
   * Reads schema and page map out of a mirror. `known`: the catalog that the log has as of the same batch; null: this is the
   * first state and gets version `firstVersion`.
   */
  static read(mirror: Mirror, options: ReplicaOptions): Replica {
    const readPage = (page: number): Buffer => mirror.page(page);
    const header = headerOf(mirror);
    const { usableSize, encoding } = header;
    try {
      const rows = readSchemaRows(readPage, usableSize, encoding);
      const version = options.known?.version ?? options.firstVersion;
      let schema = Schema.read(rows, { version, encoding, captured: options.captured, previous: null });
      if (options.known !== null) schema = schema.adopt(options.known);
      const map = new PageMap(mirror.sizePages);
      map.addTree(SCHEMA_TREE, 1, usableSize, mirror.sizePages, readPage);
      for (const entry of schema.tables) map.addTree(entry.tree, entry.root, usableSize, mirror.sizePages, readPage);
      const diff = new TransactionDiff({ schema, map, usableSize, encoding, captured: options.captured, spill: options.spill ?? null });
      return new Replica(mirror, diff, usableSize);
    } catch (error) {
      if (error instanceof PageCorruption) throw new WaggleError('HIVE_CORRUPT', error.message, { cause: error });
      throw error;
    }
  }

  get schema(): Schema {
    return this.#diff.schema;
  }

  /** The changes that a set of pages makes. Small sets are staged in the mirror; a large one waits for `mirror.commitLarge`. */
  apply(set: PageSet): TransactionChanges {
    const changes = this.#diff.diff(set.pages, this.#imagesOf(set));
    if (set.images !== null) this.mirror.stage(set.images, set.sizePages);
    return changes;
  }

  /**
   * Rows of a table in rowid order, behind `after`, up to about `maxBytes` of records. `done`: the table has no more.
   * Null if the table is not captured.
   */
  readRows(table: string, after: Rowid | null, maxBytes: number): ReplicaRows | null {
    const entry = this.schema.byName.get(table);
    if (entry === undefined) return null;
    const rowids: Rowid[] = [];
    const records: Buffer[] = [];
    let bytes = 0;
    let done = true;
    forEachRow({ root: entry.root, usableSize: this.#usableSize, readPage: (page) => this.mirror.page(page), after }, (rowid, record) => {
      if (bytes >= maxBytes) {
        done = false;
        return false;
      }
      rowids.push(rowid);
      records.push(Buffer.from(record));
      bytes += record.length + 16;
      return true;
    });
    return { rowids, records, done };
  }

  #imagesOf(set: PageSet): PageImages {
    const { mirror } = this;
    const changed = set.images ?? new Set(set.pages);
    const encodingOf = this.schema.catalog.encoding;
    requireSameFormat(set, mirror.pageSize, encodingOf);
    return {
      oldPage: (page) => mirror.page(page),
      newPage: (page) => (changed.has(page) ? set.image(page) : mirror.page(page)),
      isChanged: (page) => changed.has(page),
      oldSizePages: mirror.sizePages,
      newSizePages: set.sizePages,
    };
  }
}

export interface ReplicaOptions {
  readonly captured: TableFilter;
  readonly known: Catalog | null;
  readonly firstVersion: number;
  /** Where changes of a large transaction are put aside. */
  readonly spill?: PartSpill | null;
}

export interface ReplicaRows {
  readonly rowids: Rowid[];
  readonly records: Buffer[];
  readonly done: boolean;
}

const headerOf = (mirror: Mirror): DatabaseHeader => {
  const header = parseDatabaseHeader(mirror.page(1));
  if (header === null) throw new WaggleError('HIVE_CORRUPT', 'page 1 is not the first page of a database');
  return header;
};

/** Page size and encoding are written once; a database that changed them is another one. */
const requireSameFormat = (set: PageSet, pageSize: number, encoding: TextEncoding): void => {
  if (set.images?.has(1) === false) return;
  const header = set.images === null && !set.pages.includes(1) ? null : parseDatabaseHeader(set.image(1));
  if (header === null) return;
  if (header.pageSize !== pageSize) throw new WaggleError('HIVE_PAGE_SIZE_CHANGED', `the page size changed from ${pageSize} to ${header.pageSize}`);
  if (header.encoding !== encoding && set.sizePages > 1) throw new WaggleError('HIVE_CORRUPT', 'the text encoding changed');
};
