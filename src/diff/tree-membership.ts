/**
 * Which pages left a tree, stayed in it, came into it: found from the changed pages alone (DESIGN "From pages to rows").
 *
 * A page of a b-tree has exactly one parent. Every changed interior page drops its old children and attaches its new
 * ones; a dropped child that nobody attaches again is removed, also when it has no frame of its own (SQLite never writes
 * clean pages that go to the freelist). When a removed page is itself an interior page without a frame, its
 * children are dropped as well: the computation starts over with them, until nothing new is removed (at most
 * once a level of the tree).
 */
import { forEachChild, INDEX_TREE, PageCorruption, pageKind, type TreeKinds } from '../sqlite/btree-page.ts';
import type { PageMap, TreeToAdd } from '../mirror/page-map.ts';
import type { PageImages } from './page-images.ts';

export interface TreeMembership {
  /** Leaves whose old rows take part: changed or removed ones. Of a WITHOUT ROWID table's tree: interior pages too. */
  readonly oldLeaves: readonly number[];
  /** Leaves whose new rows take part: changed or added ones. Interior pages as above. */
  readonly newLeaves: readonly number[];
  /** Pages that left the tree. */
  readonly removed: readonly number[];
  /** Pages of the new tree that were not b-tree pages of it before. */
  readonly added: readonly number[];
  /** Unchanged leaves of overflow chains with a changed page, and for any leaf: the first pages of such chains. */
  readonly touchedChains: ReadonlyMap<number, ReadonlySet<number>>;
  /** No interior page changed and no page came or went: each changed leaf still covers the same range of rowids. */
  readonly inPlace: boolean;
}

const NO_PAGES: readonly number[] = [];
const NO_CHAINS: ReadonlyMap<number, ReadonlySet<number>> = new Map();

/** One object serves transaction after transaction. */
export class MembershipFinder {
  readonly #map: PageMap;
  readonly #marks = new PageMarks();

  constructor(map: PageMap) {
    this.#map = map;
  }

  /** `changed`: the changed pages that the map gives to this tree (b-tree and overflow). */
  find({ tree, root, kinds }: TreeToAdd, changed: readonly number[], images: PageImages): TreeMembership {
    let touchedChains = NO_CHAINS;
    let btreePages = changed;
    const { chain } = this.#map;
    if (changed.some((page) => chain[page] !== 0)) {
      touchedChains = this.#touchedChains(changed);
      btreePages = changed.filter((page) => chain[page] === 0);
    }
    const isInterior = (page: number): boolean => pageKind(images.oldPage(page), page) === kinds.interior;
    if (!btreePages.some(isInterior) && (!btreePages.includes(root) || pageKind(images.newPage(root), root) === kinds.leaf)) {
      // The common case: only leaves changed under unchanged parents.
      for (const page of btreePages) {
        if (pageKind(images.newPage(page), page) !== kinds.leaf) throw new PageCorruption(`page ${page} is not a leaf of its tree`);
      }
      return { oldLeaves: btreePages, newLeaves: btreePages, removed: NO_PAGES, added: NO_PAGES, touchedChains, inPlace: true };
    }
    const oldInterior = new Set(btreePages.filter(isInterior));
    return this.#settle({ tree, root, kinds, btreePages, oldInterior, images, touchedChains });
  }

  /** By leaf. */
  #touchedChains(changed: readonly number[]): Map<number, Set<number>> {
    const { chain: chains } = this.#map;
    const byLeaf = new Map<number, Set<number>>();
    for (const page of changed) {
      const chain = chains[page]!;
      if (chain === 0) continue;
      const first = chain > 0 ? page : -chain;
      const leaf = chains[first]!;
      let firsts = byLeaf.get(leaf);
      if (firsts === undefined) byLeaf.set(leaf, (firsts = new Set()));
      firsts.add(first);
    }
    return byLeaf;
  }

  #settle({ tree, root, kinds, btreePages, oldInterior, images, touchedChains }: Settling): TreeMembership {
    const map = this.#map;
    const marks = this.#marks;
    const isMember = (page: number): boolean => map.treeOf(page) === tree && map.chain[page] === 0;
    const unframedInterior = new Set<number>();
    for (;;) {
      marks.begin(Math.max(images.oldSizePages, images.newSizePages));
      const dropped: number[] = [];
      const drop = (child: number): void => {
        if (marks.add(child, DROPPED)) dropped.push(child);
      };
      for (const page of oldInterior) forEachChild(images.oldPage(page), page, drop);
      for (const page of unframedInterior) forEachChild(images.oldPage(page), page, drop);

      const newLeaves: number[] = [];
      const added: number[] = [];
      // A page whose parent turns out to be removed holds somebody else's bytes: a fault counts in the last round only.
      let fault: PageCorruption | null = null;
      const queue = btreePages.filter((page) => page === root || !marks.has(page, DROPPED));
      for (let page = queue.pop(); page !== undefined; page = queue.pop()) {
        if (!marks.add(page, KEPT)) continue;
        if (!isMember(page)) added.push(page);
        const image = images.newPage(page);
        const kind = pageKind(image, page);
        if (kind === kinds.leaf || (kinds === INDEX_TREE && kind === kinds.interior)) newLeaves.push(page);
        if (kind === kinds.leaf) continue;
        try {
          if (kind !== kinds.interior) throw new PageCorruption(`page ${page} is of another kind of tree (kind ${kind})`);
          forEachChild(image, page, (child) => {
            if (child < 2 || child > images.newSizePages) throw new PageCorruption(`page ${page} has a child outside the database`);
            if (!marks.add(child, ATTACHED)) throw new PageCorruption(`page ${child} is referred to twice`);
            if (images.isChanged(child) || !isMember(child)) queue.push(child);
          });
        } catch (error) {
          if (!(error instanceof PageCorruption)) throw error;
          fault ??= error;
        }
      }

      const removed = dropped.filter((page) => !marks.has(page, ATTACHED) && page !== root);
      const found = removed.filter(
        (page) => !images.isChanged(page) && !unframedInterior.has(page) && pageKind(images.oldPage(page), page) === kinds.interior,
      );
      if (found.length > 0) {
        for (const page of found) unframedInterior.add(page);
        continue;
      }
      if (fault !== null) throw fault;

      const interiorToo = kinds === INDEX_TREE;
      const oldLeaves = interiorToo ? [...btreePages] : btreePages.filter((page) => !oldInterior.has(page));
      for (const page of removed) {
        if (!images.isChanged(page) && (interiorToo || !unframedInterior.has(page))) oldLeaves.push(page);
      }
      const inPlace = added.length === 0 && removed.length === 0 && oldInterior.size === 0 && newLeaves.length === oldLeaves.length;
      return { oldLeaves, newLeaves, removed, added, touchedChains, inPlace };
    }
  }
}

interface Settling {
  readonly tree: number;
  readonly root: number;
  readonly kinds: TreeKinds;
  readonly btreePages: readonly number[];
  readonly oldInterior: ReadonlySet<number>;
  readonly images: PageImages;
  readonly touchedChains: ReadonlyMap<number, ReadonlySet<number>>;
}

const DROPPED = 1;
const ATTACHED = 2;
const KEPT = 4;

/** Marks on pages, all gone with `begin`. A Set of the children of one interior page takes ten times as long to fill. */
class PageMarks {
  #marks = new Int32Array(0);
  /** A multiple of 8; what is below is of an earlier time. */
  #now = 0;

  /** `pages`: the highest page number. */
  begin(pages: number): void {
    this.#now += 8;
    if (pages < this.#marks.length && this.#now < 2 ** 31 - 8) return;
    this.#marks = new Int32Array(Math.max(this.#marks.length, Math.ceil(pages * 1.2) + 1));
    this.#now = 8;
  }

  /** False: the page had the mark. Throws a PageCorruption for a page outside the database. */
  add(page: number, mark: number): boolean {
    if (page >= this.#marks.length) throw new PageCorruption(`page ${page} lies outside the database`);
    const before = Math.max(this.#marks[page]!, this.#now);
    if ((before & mark) !== 0) return false;
    this.#marks[page] = before | mark;
    return true;
  }

  has(page: number, mark: number): boolean {
    return page < this.#marks.length && this.#marks[page]! > this.#now && (this.#marks[page]! & mark) !== 0;
  }
}
