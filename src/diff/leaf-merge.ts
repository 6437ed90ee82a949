/**
 * Rows of the changed leaves of one rowid tree, before and after, compared by rowid.
 *
 * Two ways: a leaf that stayed in its place is compared with itself, finding the changed bytes first (of sixty cells
 * on a page usually one changed); where the tree's structure changed, the leaves of each side are put in rowid order and
 * merged, because the leaves of a b-tree divide the rowids among themselves. Memory is one page a side.
 */
import type { Rowid } from '../change/table.ts';
import type { PageMapEdit } from '../mirror/page-map.ts';
import { cellCount, checkLeaf, readU16, btreeOffset, TableCell, PageCorruption } from '../sqlite/btree-page.ts';
import { isSameWithin } from '../sqlite/page-difference.ts';
import { forEachOverflowPage, readPayload } from '../sqlite/payload.ts';
import { sameBytes } from '../sqlite/same-bytes.ts';
import type { PageImages } from './page-images.ts';
import { onPage } from './tree-scan.ts';

/** What a comparison finds. Payloads are views that are valid during the call. */
export interface RowVisitor {
  created(rowid: Rowid, record: Buffer): void;
  updated(rowid: Rowid, before: Buffer, after: Buffer): void;
  deleted(rowid: Rowid, record: Buffer): void;
}

export interface LeafMergeOptions {
  readonly tree: number;
  readonly images: PageImages;
  readonly edit: PageMapEdit;
  /** For a leaf: the first pages of overflow chains that have a changed page. */
  readonly touchedChains: ReadonlyMap<number, ReadonlySet<number>>;
  readonly visitor: RowVisitor;
  /**
   * `changed`: `updated` is called for rows whose payload changed. `all`: for every row that stands on both sides; the
   * visitor compares (the columns changed, or the tree's root, so that nothing is known of its overflow chains).
   */
  readonly pairs: 'changed' | 'all';
}

/** One object serves tree after tree; `begin` comes first. */
export class LeafMerge {
  readonly #usableSize: number;
  #options!: LeafMergeOptions;
  readonly #oldCell: TableCell;
  readonly #newCell: TableCell;
  readonly #readOld = (page: number): Buffer => this.#options.images.oldPage(page);
  readonly #readNew = (page: number): Buffer => this.#options.images.newPage(page);

  constructor(usableSize: number) {
    this.#usableSize = usableSize;
    this.#oldCell = new TableCell(usableSize);
    this.#newCell = new TableCell(usableSize);
  }

  begin(options: LeafMergeOptions): this {
    this.#options = options;
    return this;
  }

  /** Compares a leaf with itself. */
  compareInPlace(leaf: number): void {
    const { images, touchedChains } = this.#options;
    let before = images.oldPage(leaf);
    let after = images.newPage(leaf);
    const touched = touchedChains.get(leaf);
    checkLeaf(before, leaf);
    checkLeaf(after, leaf);
    const difference = images.difference(leaf, before, after, sameFrom(before, after, leaf));
    if (difference === null && touched === undefined) return;
    // Reading an overflow chain may reuse the buffers behind the two images: copied before the first chain is read.
    let stable = false;
    const stabilise = (): void => {
      if (stable) return;
      before = Buffer.from(before);
      after = Buffer.from(after);
      stable = true;
    };
    const oldCount = cellCount(before, leaf);
    const newCount = cellCount(after, leaf);
    const pointers = btreeOffset(leaf) + 8;
    const oldCell = this.#oldCell;
    const newCell = this.#newCell;
    oldCell.page = leaf;
    newCell.page = leaf;
    let oldIndex = 0;
    let newIndex = 0;
    let last: Rowid = -Infinity;
    while (oldIndex < oldCount && newIndex < newCount) {
      const oldOffset = readU16(before, pointers + oldIndex * 2);
      const newOffset = readU16(after, pointers + newIndex * 2);
      oldCell.parse(before, oldOffset);
      if (oldOffset === newOffset && (difference === null || isSameWithin(difference, oldOffset, oldCell.end))) {
        if (touched !== undefined && oldCell.payloadBytes > oldCell.localBytes && touched.has(oldCell.readOverflow(before))) {
          stabilise();
          newCell.parse(after, newOffset);
          this.#pair(before, leaf, after, leaf);
        }
        oldIndex += 1;
        newIndex += 1;
        last = oldCell.rowid;
        continue;
      }
      newCell.parse(after, newOffset);
      if (newCell.rowid <= last) throw outOfOrder(leaf);
      if (oldCell.payloadBytes > oldCell.localBytes || newCell.payloadBytes > newCell.localBytes) stabilise();
      if (oldCell.rowid === newCell.rowid) {
        last = newCell.rowid;
        this.#pair(before, leaf, after, leaf);
        oldIndex += 1;
        newIndex += 1;
      } else if (oldCell.rowid < newCell.rowid) {
        this.#oldOnly(before);
        oldIndex += 1;
      } else {
        last = newCell.rowid;
        this.#newOnly(after, leaf);
        newIndex += 1;
      }
    }
    for (; oldIndex < oldCount; oldIndex += 1) {
      oldCell.parseAt(before, leaf, oldIndex);
      if (oldCell.payloadBytes > oldCell.localBytes) stabilise();
      this.#oldOnly(before);
    }
    for (; newIndex < newCount; newIndex += 1) {
      newCell.parseAt(after, leaf, newIndex);
      if (newCell.rowid <= last) throw outOfOrder(leaf);
      last = newCell.rowid;
      if (newCell.payloadBytes > newCell.localBytes) stabilise();
      this.#newOnly(after, leaf);
    }
  }

  /** Compares all rows on the old images of `oldLeaves` with those on the new images of `newLeaves`, in any order. */
  merge(oldLeaves: readonly number[], newLeaves: readonly number[]): void {
    const usableSize = this.#usableSize;
    this.mergeOrdered(inRowidOrder(oldLeaves, this.#readOld, usableSize), inRowidOrder(newLeaves, this.#readNew, usableSize));
  }

  /** The same for leaves that stand in rowid order already. */
  mergeOrdered(oldLeaves: readonly number[], newLeaves: readonly number[]): void {
    const before = new LeafSequence(oldLeaves, this.#readOld, this.#oldCell);
    const after = new LeafSequence(newLeaves, this.#readNew, this.#newCell);
    while (!before.done && !after.done) {
      if (this.#oldCell.rowid === this.#newCell.rowid) {
        this.#pair(before.image, before.leaf, after.image, after.leaf);
        before.next();
        after.next();
      } else if (this.#oldCell.rowid < this.#newCell.rowid) {
        this.#oldOnly(before.image);
        before.next();
      } else {
        this.#newOnly(after.image, after.leaf);
        after.next();
      }
    }
    for (; !before.done; before.next()) this.#oldOnly(before.image);
    for (; !after.done; after.next()) this.#newOnly(after.image, after.leaf);
  }

  /** The same rowid on both sides: the parsed cells tell what is to be compared. */
  #pair(before: Buffer, oldLeaf: number, after: Buffer, newLeaf: number): void {
    const { edit, tree, touchedChains, visitor, pairs } = this.#options;
    const usableSize = this.#usableSize;
    const oldCell = this.#oldCell;
    const newCell = this.#newCell;
    const overflows = newCell.payloadBytes > newCell.localBytes;
    const sameLength = oldCell.payloadBytes === newCell.payloadBytes;
    if (pairs === 'changed' && sameLength && sameBytes(before, oldCell.localOffset, after, newCell.localOffset, newCell.localBytes)) {
      if (!overflows) return;
      const first = newCell.readOverflow(after);
      if (oldCell.readOverflow(before) === first && touchedChains.get(oldLeaf)?.has(first) !== true) {
        if (oldLeaf !== newLeaf) edit.claim(first, tree, newLeaf);
        return;
      }
    }
    const oldPayload = readPayload(before, oldCell, usableSize, this.#readOld);
    const newPayload = readPayload(after, newCell, usableSize, this.#readNew);
    if (oldCell.payloadBytes > oldCell.localBytes) this.#clearChain(before);
    if (overflows) this.#claimChain(after, newLeaf);
    // The local parts tell of all rows but these.
    if (pairs === 'changed' && sameLength && overflows && oldPayload.equals(newPayload)) return;
    try {
      visitor.updated(newCell.rowid, oldPayload, newPayload);
    } catch (error) {
      throw onPage(error, newLeaf);
    }
  }

  #oldOnly(before: Buffer): void {
    const cell = this.#oldCell;
    const payload = readPayload(before, cell, this.#usableSize, this.#readOld);
    if (cell.payloadBytes > cell.localBytes) this.#clearChain(before);
    try {
      this.#options.visitor.deleted(cell.rowid, payload);
    } catch (error) {
      throw onPage(error, cell.page);
    }
  }

  #newOnly(after: Buffer, leaf: number): void {
    const cell = this.#newCell;
    const payload = readPayload(after, cell, this.#usableSize, this.#readNew);
    if (cell.payloadBytes > cell.localBytes) this.#claimChain(after, leaf);
    try {
      this.#options.visitor.created(cell.rowid, payload);
    } catch (error) {
      throw onPage(error, leaf);
    }
  }

  #clearChain(before: Buffer): void {
    forEachOverflowPage(before, this.#oldCell, this.#usableSize, this.#readOld, (page) => this.#options.edit.clear(page));
  }

  #claimChain(after: Buffer, leaf: number): void {
    const { edit, tree, images } = this.#options;
    let first = 0;
    forEachOverflowPage(after, this.#newCell, this.#usableSize, this.#readNew, (page) => {
      if (page < 2 || page > images.newSizePages) throw new PageCorruption(`overflow page ${page} lies outside the database`);
      edit.claim(page, tree, first === 0 ? leaf : -first);
      if (first === 0) first = page;
    });
  }
}

/**
 * From where on the images of a leaf are the same, as far as one native compare (0.2 µs) tells: rows that came to the end lie below the old
 * content, which is as it was. Not tried where nothing came below it.
 */
const sameFrom = (before: Buffer, after: Buffer, leaf: number): number => {
  const content = readU16(before, btreeOffset(leaf) + 5);
  if (readU16(after, btreeOffset(leaf) + 5) >= content || content >= before.length) return before.length;
  return before.compare(after, content, before.length, content, before.length) === 0 ? content : before.length;
};

/** Both merges rest on the order of rowids: without it a row could be told as created and then as deleted. */
const outOfOrder = (leaf: number): PageCorruption => new PageCorruption(`page ${leaf}: rowids are out of order`);

/** The cells of some leaves in rowid order; the current one stands parsed in `cell`. Keeps a copy of the current leaf. */
class LeafSequence {
  done = false;
  leaf = 0;
  image: Buffer = Buffer.alloc(0);
  readonly #leaves: readonly number[];
  readonly #read: (page: number) => Buffer;
  readonly #cell: TableCell;
  #at = -1;
  #index = 0;
  #count = 0;
  #last: Rowid = -Infinity;

  constructor(leaves: readonly number[], read: (page: number) => Buffer, cell: TableCell) {
    this.#read = read;
    this.#cell = cell;
    this.#leaves = leaves;
    this.next();
  }

  next(): void {
    this.#index += 1;
    while (this.#index >= this.#count) {
      this.#at += 1;
      const leaf = this.#leaves[this.#at];
      if (leaf === undefined) {
        this.done = true;
        return;
      }
      const image = this.#read(leaf);
      checkLeaf(image, leaf);
      this.leaf = leaf;
      this.#count = cellCount(image, leaf);
      this.#index = 0;
      // Overflow chains are read through the same reader, which may reuse its buffer.
      if (this.image.length === image.length) image.copy(this.image);
      else this.image = Buffer.from(image);
    }
    this.#cell.parseAt(this.image, this.leaf, this.#index);
    if (this.#cell.rowid <= this.#last) throw outOfOrder(this.leaf);
    this.#last = this.#cell.rowid;
  }
}

const inRowidOrder = (leaves: readonly number[], read: (page: number) => Buffer, usableSize: number): readonly number[] => {
  if (leaves.length < 2) return leaves;
  const cell = new TableCell(usableSize);
  const firsts: { leaf: number; rowid: Rowid }[] = [];
  for (const leaf of leaves) {
    const image = read(leaf);
    checkLeaf(image, leaf);
    if (cellCount(image, leaf) === 0) continue;
    cell.parseAt(image, leaf, 0);
    firsts.push({ leaf, rowid: cell.rowid });
  }
  firsts.sort((a, b) => (a.rowid < b.rowid ? -1 : a.rowid > b.rowid ? 1 : 0));
  return firsts.map((entry) => entry.leaf);
};
