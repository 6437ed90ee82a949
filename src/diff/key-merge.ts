/**
 * Rows of the changed pages of one WITHOUT ROWID tree, before and after, compared by key: what `LeafMerge` is for rowid trees.
 *
 * Two rows meet where SQLite holds their keys to be the same, under the key's collations. What that means for the change (a key that
 * is now written 'A' instead of 'a' is another key to every sink) `TableChanges` decides, by bytes.
 */
import type { PageMapEdit } from '../mirror/page-map.ts';
import { PageCorruption } from '../sqlite/btree-page.ts';
import type { CompareKeys } from '../sqlite/key-order.ts';
import { forEachOverflowPage } from '../sqlite/payload.ts';
import { type IndexCursor, type IndexPage, type IndexSource, PagesCursor, TreeCursor } from './index-cursor.ts';
import type { RowVisitor } from './leaf-merge.ts';
import type { PageImages } from './page-images.ts';

export interface KeyMergeOptions {
  readonly tree: number;
  readonly images: PageImages;
  readonly edit: PageMapEdit;
  readonly usableSize: number;
  readonly compare: CompareKeys;
  /** For a page: the first pages of overflow chains that have a changed page. */
  readonly touchedChains: ReadonlyMap<number, ReadonlySet<number>>;
  /** Is given 0 as the rowid. */
  readonly visitor: RowVisitor;
  /** As of `LeafMergeOptions`. */
  readonly pairs: 'changed' | 'all';
}

export class KeyMerge {
  readonly #options: KeyMergeOptions;
  readonly #old: IndexSource;
  readonly #new: IndexSource;

  constructor(options: KeyMergeOptions) {
    this.#options = options;
    const { images, usableSize, compare } = options;
    this.#old = { readPage: (page) => images.oldPage(page), usableSize, sizePages: images.oldSizePages, compare };
    this.#new = { readPage: (page) => images.newPage(page), usableSize, sizePages: images.newSizePages, compare };
  }

  /** Compares a page with itself: it holds the same range of keys. */
  compareInPlace(page: number): void {
    const { images, usableSize, touchedChains } = this.#options;
    const before = images.oldPage(page);
    const after = images.newPage(page);
    if (!touchedChains.has(page) && before.compare(after, 0, usableSize, 0, usableSize) === 0) return;
    this.merge([page], [page]);
  }

  /** Compares all rows on the old images of `oldPages` with those on the new images of `newPages`, in any order. */
  merge(oldPages: readonly number[], newPages: readonly number[]): void {
    this.#merge(new PagesCursor(oldPages, this.#old), new PagesCursor(newPages, this.#new));
  }

  /** Compares two whole trees; `oldRoot` null: there was none. */
  mergeTrees(oldRoot: number | null, newRoot: number): void {
    this.#merge(oldRoot === null ? { current: null, next: () => {} } : new TreeCursor(oldRoot, this.#old), new TreeCursor(newRoot, this.#new));
  }

  #merge(before: IndexCursor, after: IndexCursor): void {
    while (before.current !== null && after.current !== null) {
      if (this.#isSame(before.current, after.current)) {
        before.next();
        after.next();
        continue;
      }
      const order = this.#options.compare(before.current.record(), after.current.record());
      if (order === 0) this.#pair(before.current, after.current);
      else if (order < 0) this.#oldOnly(before.current);
      else this.#newOnly(after.current);
      if (order <= 0) before.next();
      if (order >= 0) after.next();
    }
    for (; before.current !== null; before.next()) this.#oldOnly(before.current);
    for (; after.current !== null; after.next()) this.#newOnly(after.current);
  }

  /** The same row for sure, seen without reading its overflow pages: the common case, first. */
  #isSame(before: IndexPage, after: IndexPage): boolean {
    const { edit, tree, touchedChains, pairs } = this.#options;
    const oldCell = before.cell;
    const newCell = after.cell;
    if (pairs === 'all' || oldCell.payloadBytes !== newCell.payloadBytes) return false;
    const { localOffset: oldStart, localBytes } = oldCell;
    const { localOffset: newStart } = newCell;
    if (before.image.compare(after.image, newStart, newStart + localBytes, oldStart, oldStart + localBytes) !== 0) return false;
    if (newCell.payloadBytes === localBytes) return true;
    const first = newCell.readOverflow(after.image);
    if (oldCell.readOverflow(before.image) !== first || touchedChains.get(before.page)?.has(first) === true) return false;
    if (before.page !== after.page) edit.claim(first, tree, after.page);
    return true;
  }

  #pair(before: IndexPage, after: IndexPage): void {
    const { visitor, pairs } = this.#options;
    this.#clearChain(before);
    this.#claimChain(after);
    if (pairs === 'all' || !before.record().equals(after.record())) visitor.updated(0, before.record(), after.record());
  }

  #oldOnly(before: IndexPage): void {
    this.#clearChain(before);
    this.#options.visitor.deleted(0, before.record());
  }

  #newOnly(after: IndexPage): void {
    this.#claimChain(after);
    this.#options.visitor.created(0, after.record());
  }

  #clearChain({ image, cell }: IndexPage): void {
    const { edit, usableSize } = this.#options;
    forEachOverflowPage(image, cell, usableSize, this.#old.readPage, (page) => edit.clear(page));
  }

  #claimChain({ image, cell, page: holder }: IndexPage): void {
    const { edit, tree, images, usableSize } = this.#options;
    let first = 0;
    forEachOverflowPage(image, cell, usableSize, this.#new.readPage, (page) => {
      if (page < 2 || page > images.newSizePages) throw new PageCorruption(`overflow page ${page} lies outside the database`);
      edit.claim(page, tree, first === 0 ? holder : -first);
      if (first === 0) first = page;
    });
  }
}
