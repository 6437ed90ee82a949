/**
 * Rows of a WITHOUT ROWID table one by one in the order of its key: of a whole tree, or of some pages of it. Rows stand on interior
 * pages as well as on leaves, so a page's rows do not stand together in that order. Memory: a page for each level of the tree.
 */
import { cellCount, checkIndexPage, childAt, IndexCell, LEAF_INDEX, PageCorruption, pageKind } from '../sqlite/btree-page.ts';
import type { CompareKeys } from '../sqlite/key-order.ts';
import { readPayload, type ReadPage } from '../sqlite/payload.ts';

export interface IndexSource {
  readonly readPage: ReadPage;
  readonly usableSize: number;
  readonly sizePages: number;
  readonly compare: CompareKeys;
}

/** A page with its cells, one of them parsed. Its image is a copy: readers may reuse their buffers. */
export class IndexPage {
  readonly page: number;
  readonly image: Buffer;
  readonly isLeaf: boolean;
  readonly count: number;
  readonly cell: IndexCell;
  readonly #source: IndexSource;
  index = 0;
  #record: Buffer | null = null;

  /** Throws a PageCorruption unless it is a page of an index. */
  constructor(page: number, source: IndexSource) {
    this.page = page;
    this.#source = source;
    this.image = Buffer.from(source.readPage(page));
    checkIndexPage(this.image, page);
    this.isLeaf = pageKind(this.image, page) === LEAF_INDEX;
    this.count = cellCount(this.image, page);
    this.cell = new IndexCell(source.usableSize);
  }

  moveTo(index: number): void {
    this.index = index;
    this.#record = null;
    this.cell.parseAt(this.image, this.page, index);
  }

  /** Of the parsed cell. Valid as long as the page is. */
  record(): Buffer {
    this.#record ??= readPayload(this.image, this.cell, this.#source.usableSize, this.#source.readPage);
    return this.#record;
  }
}

/** `current` stands on a row; null: there are no more. */
export interface IndexCursor {
  readonly current: IndexPage | null;
  next(): void;
}

/** The rows of a whole tree, or those behind a key. Costs the tree's depth to begin. */
export class TreeCursor implements IndexCursor {
  current: IndexPage | null = null;
  readonly #source: IndexSource;
  readonly #root: number;
  /** From the root down to the page that holds the row. */
  readonly #path: IndexPage[] = [];
  #pages = 0;

  /** `after`: a record that begins with a key; null: from the first row. */
  constructor(root: number, source: IndexSource, after: Buffer | null = null) {
    this.#source = source;
    this.#root = root;
    this.#descend(root, after);
    this.#settle();
  }

  next(): void {
    const { current } = this;
    if (current === null) return;
    current.index += 1;
    // Between two rows of an interior page stand those of the child between them.
    if (!current.isLeaf) this.#descend(childAt(current.image, current.page, current.index), null);
    this.#settle();
  }

  /** Down to the leaf where the first row behind `after` stands; each page on the way at its first row behind it. */
  #descend(from: number, after: Buffer | null): void {
    for (let page = from; ;) {
      this.#pages += 1;
      if (this.#pages > this.#source.sizePages || this.#path.length > 64) throw new PageCorruption(`the tree of page ${this.#root} runs in a circle`);
      const found = new IndexPage(page, this.#source);
      if (after !== null) found.index = this.#firstBehind(found, after);
      this.#path.push(found);
      if (found.isLeaf) return;
      page = childAt(found.image, found.page, found.index);
    }
  }

  #firstBehind(page: IndexPage, after: Buffer): number {
    let [low, high] = [0, page.count];
    while (low < high) {
      const middle = (low + high) >> 1;
      page.moveTo(middle);
      if (this.#source.compare(page.record(), after) > 0) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** Up to the page that has a row left. */
  #settle(): void {
    let page = this.#path.at(-1);
    while (page !== undefined && page.index >= page.count) {
      this.#path.pop();
      page = this.#path.at(-1);
    }
    this.current = page ?? null;
    if (page !== undefined) page.moveTo(page.index);
  }
}

/** The rows that stand on some pages of one tree. Memory also holds the first key of each page. */
export class PagesCursor implements IndexCursor {
  current: IndexPage | null = null;
  readonly #source: IndexSource;
  /** Not begun yet, the first one last. */
  readonly #waiting: { page: number; first: Buffer }[] = [];
  /** Begun and not at an end: the ranges of pages of one tree are nested or apart, so there are never more than it has levels. */
  #open: IndexPage[] = [];

  constructor(pages: readonly number[], source: IndexSource) {
    this.#source = source;
    for (const number of pages) {
      const page = new IndexPage(number, source);
      if (page.count === 0) continue;
      page.moveTo(0);
      this.#waiting.push({ page: number, first: Buffer.from(page.record()) });
    }
    this.#waiting.sort((a, b) => source.compare(b.first, a.first));
    this.#settle();
  }

  next(): void {
    const { current } = this;
    if (current === null) return;
    if (current.index + 1 < current.count) current.moveTo(current.index + 1);
    else this.#open = this.#open.filter((page) => page !== current);
    this.#settle();
  }

  #settle(): void {
    const { compare } = this.#source;
    let least: IndexPage | null = null;
    for (const page of this.#open) if (least === null || compare(page.record(), least.record()) < 0) least = page;
    for (
      let next = this.#waiting.at(-1);
      next !== undefined && (least === null || compare(next.first, least.record()) < 0);
      next = this.#waiting.at(-1)
    ) {
      this.#waiting.pop();
      least = new IndexPage(next.page, this.#source);
      least.moveTo(0);
      this.#open.push(least);
    }
    this.current = least;
  }
}
