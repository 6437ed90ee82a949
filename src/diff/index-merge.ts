/**
 * Rows of the changed pages of a WITHOUT ROWID table, before and after, compared by their bytes. Rows stand on interior pages too
 * and move between pages of all levels, so the pages of each side are taken as one heap of rows: what stands on both sides with
 * the same bytes stayed, the rest is told as gone or as new, and whoever is told joins what has the same key.
 *
 * Cells whose bytes did not change where they stand are left out first: of sixty cells on a page usually one changed. Memory: the
 * cells that did change or move.
 */
import type { PageMapEdit } from '../mirror/page-map.ts';
import { cellCount, cellPointersOffset, checkIndexPage, IndexCell, INTERIOR_INDEX, PageCorruption, pageKind, readU16 } from '../sqlite/btree-page.ts';
import { forEachOverflowPage, readPayload } from '../sqlite/payload.ts';
import type { PageImages } from './page-images.ts';
import { onPage } from './tree-scan.ts';

/** What a comparison finds. Records are valid during the call. */
export interface RecordVisitor {
  created(record: Buffer): void;
  deleted(record: Buffer): void;
}

export interface IndexMergeOptions {
  readonly tree: number;
  readonly images: PageImages;
  readonly edit: PageMapEdit;
  /** For a page: the first pages of overflow chains that have a changed page. */
  readonly touchedChains: ReadonlyMap<number, ReadonlySet<number>>;
  readonly visitor: RecordVisitor;
}

/** A cell as it stands in a page, without the left child: the same bytes are the same row unless its chain was touched. */
interface LooseCell {
  readonly bytes: Buffer;
  readonly page: number;
}

/** One object serves tree after tree; `begin` comes first. */
export class IndexMerge {
  readonly #usableSize: number;
  #options!: IndexMergeOptions;
  readonly #cell: IndexCell;
  readonly #readOld = (page: number): Buffer => this.#options.images.oldPage(page);
  readonly #readNew = (page: number): Buffer => this.#options.images.newPage(page);

  constructor(usableSize: number) {
    this.#usableSize = usableSize;
    this.#cell = new IndexCell(usableSize);
  }

  begin(options: IndexMergeOptions): this {
    this.#options = options;
    return this;
  }

  /** Compares all rows on the old images of `oldPages` with those on the new images of `newPages`, in any order. */
  merge(oldPages: readonly number[], newPages: readonly number[]): void {
    const gone = new Map<string, LooseCell[]>();
    const both = new Set(newPages);
    const come: LooseCell[] = [];
    for (const page of oldPages) {
      if (both.delete(page)) this.#looseCells(page, gone, come);
      else this.#allCells(page, this.#readOld, (cell) => keep(gone, cell));
    }
    for (const page of both) this.#allCells(page, this.#readNew, (cell) => come.push(cell));
    for (const cell of come) {
      const same = gone.get(keyOf(cell));
      const old = same?.pop();
      if (old === undefined) this.#created(cell);
      else if (this.#isTouched(old)) {
        this.#deleted(old);
        this.#created(cell);
      } else this.#moved(old, cell);
    }
    for (const cells of gone.values()) for (const cell of cells) this.#deleted(cell);
  }

  /** A page that itself did not change: only rows whose chains did take part. */
  compareTouched(page: number): void {
    this.#allCells(page, this.#readNew, (cell) => {
      if (!this.#isTouched(cell)) return;
      this.#deleted(cell);
      this.#created(cell);
    });
  }

  /** The cells of a page that stands on both sides, but for those that stayed as they are where they are. */
  #looseCells(page: number, gone: Map<string, LooseCell[]>, come: LooseCell[]): void {
    const { images } = this.#options;
    const before = Buffer.from(images.oldPage(page));
    const after = Buffer.from(images.newPage(page));
    checkIndexPage(before, page);
    checkIndexPage(after, page);
    const oldOffsets = this.#cellOffsets(before, page);
    const newOffsets = new Set(this.#cellOffsets(after, page));
    const cell = this.#cell;
    cell.page = page;
    for (const offset of oldOffsets) {
      cell.parse(before, offset);
      const { start, end } = cell;
      const stayed = newOffsets.has(offset) && before.compare(after, start, end, start, end) === 0;
      const loose = { bytes: before.subarray(start, end), page };
      if (stayed && !this.#isTouched(loose)) newOffsets.delete(offset);
      else keep(gone, loose);
    }
    for (const offset of newOffsets) {
      cell.parse(after, offset);
      come.push({ bytes: after.subarray(cell.start, cell.end), page });
    }
  }

  /** Of each cell, behind the left child. */
  #cellOffsets(image: Buffer, page: number): number[] {
    const pointers = cellPointersOffset(image, page);
    const child = pageKind(image, page) === INTERIOR_INDEX ? 4 : 0;
    return Array.from({ length: cellCount(image, page) }, (_, index) => {
      const offset = readU16(image, pointers + index * 2);
      if (offset < pointers) throw new PageCorruption(`page ${page}: a cell lies in the page header`);
      return offset + child;
    });
  }

  #allCells(page: number, read: (page: number) => Buffer, visit: (cell: LooseCell) => void): void {
    const image = Buffer.from(read(page));
    checkIndexPage(image, page);
    for (const offset of this.#cellOffsets(image, page)) {
      this.#cell.page = page;
      this.#cell.parse(image, offset);
      visit({ bytes: image.subarray(this.#cell.start, this.#cell.end), page });
    }
  }

  #isTouched({ bytes, page }: LooseCell): boolean {
    const touched = this.#options.touchedChains.get(page);
    if (touched === undefined) return false;
    this.#cell.parse(bytes, 0);
    return touched.has(this.#cell.readOverflow(bytes));
  }

  #moved(old: LooseCell, now: LooseCell): void {
    this.#cell.parse(now.bytes, 0);
    const first = this.#cell.readOverflow(now.bytes);
    if (first !== 0 && old.page !== now.page) this.#options.edit.claim(first, this.#options.tree, now.page);
  }

  #deleted({ bytes, page: home }: LooseCell): void {
    const cell = this.#cell;
    cell.page = home;
    cell.parse(bytes, 0);
    const record = readPayload(bytes, cell, this.#usableSize, this.#readOld);
    forEachOverflowPage(bytes, cell, this.#usableSize, this.#readOld, (page) => this.#options.edit.clear(page));
    try {
      this.#options.visitor.deleted(record);
    } catch (error) {
      throw onPage(error, home);
    }
  }

  #created({ bytes, page: home }: LooseCell): void {
    const { edit, tree, images, visitor } = this.#options;
    const cell = this.#cell;
    cell.page = home;
    cell.parse(bytes, 0);
    const record = readPayload(bytes, cell, this.#usableSize, this.#readNew);
    let first = 0;
    forEachOverflowPage(bytes, cell, this.#usableSize, this.#readNew, (page) => {
      if (page < 2 || page > images.newSizePages) throw new PageCorruption(`overflow page ${page} lies outside the database`);
      edit.claim(page, tree, first === 0 ? home : -first);
      if (first === 0) first = page;
    });
    try {
      visitor.created(record);
    } catch (error) {
      throw onPage(error, home);
    }
  }
}

const keyOf = ({ bytes }: LooseCell): string => bytes.toString('latin1');

const keep = (cells: Map<string, LooseCell[]>, cell: LooseCell): void => {
  const key = keyOf(cell);
  const same = cells.get(key);
  if (same === undefined) cells.set(key, [cell]);
  else same.push(cell);
};
