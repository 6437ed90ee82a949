/**
 * Which pages left a tree, stayed in it, came into it: found from the changed pages alone (DESIGN "From pages to rows").
 *
 * A page of a b-tree has exactly one parent. Every changed interior page drops its old children and attaches its new
 * ones; a dropped child that nobody attaches again is removed, also when it has no frame of its own (SQLite never writes
 * clean pages that go to the freelist). When a removed page is itself an interior page without a frame, its
 * children are dropped as well: the computation starts over with them, until nothing new is removed (at most
 * once a level of the tree).
 */
import { checkNotEmpty, forEachChild, INTERIOR_TABLE, LEAF_TABLE, PageCorruption, pageKind } from '../sqlite/btree-page.ts';
import type { PageMap } from '../mirror/page-map.ts';
import type { PageImages } from './page-images.ts';

export interface TreeMembership {
  /** Leaves whose old rows take part: changed or removed ones. */
  readonly oldLeaves: number[];
  /** Leaves whose new rows take part: changed or added ones. */
  readonly newLeaves: number[];
  /** Pages that left the tree. */
  readonly removed: number[];
  /** Pages of the new tree that were not b-tree pages of it before. */
  readonly added: number[];
  /** Unchanged leaves of overflow chains with a changed page, and for any leaf: the first pages of such chains. */
  readonly touchedChains: Map<number, Set<number>>;
  /** No interior page changed and no page came or went: each changed leaf still covers the same range of rowids. */
  readonly inPlace: boolean;
}

/** `changed`: the changed pages that the map gives to this tree (b-tree and overflow). */
export const findMembership = (tree: number, root: number, changed: readonly number[], map: PageMap, images: PageImages): TreeMembership => {
  const touchedChains = new Map<number, Set<number>>();
  const btreePages: number[] = [];
  const oldInterior = new Set<number>();
  for (const page of changed) {
    const chain = map.chain[page]!;
    if (chain !== 0) {
      const first = chain > 0 ? page : -chain;
      const leaf = map.chain[first]!;
      let firsts = touchedChains.get(leaf);
      if (firsts === undefined) touchedChains.set(leaf, (firsts = new Set()));
      firsts.add(first);
      continue;
    }
    btreePages.push(page);
    if (pageKind(images.oldPage(page), page) === INTERIOR_TABLE) oldInterior.add(page);
  }

  if (oldInterior.size === 0 && (!btreePages.includes(root) || pageKind(images.newPage(root), root) === LEAF_TABLE)) {
    // The common case: only leaves changed under unchanged parents.
    for (const page of btreePages) {
      const image = images.newPage(page);
      if (pageKind(image, page) !== LEAF_TABLE) throw new PageCorruption(`page ${page} is not a leaf table page`);
      if (page !== root) checkNotEmpty(image, page);
    }
    return { oldLeaves: btreePages, newLeaves: btreePages, removed: [], added: [], touchedChains, inPlace: true };
  }
  return settle({ tree, root, btreePages, oldInterior, map, images, touchedChains });
};

interface Settling {
  readonly tree: number;
  readonly root: number;
  readonly btreePages: readonly number[];
  readonly oldInterior: ReadonlySet<number>;
  readonly map: PageMap;
  readonly images: PageImages;
  readonly touchedChains: Map<number, Set<number>>;
}

const settle = ({ tree, root, btreePages, oldInterior, map, images, touchedChains }: Settling): TreeMembership => {
  const isMember = (page: number): boolean => map.treeOf(page) === tree && map.chain[page] === 0;
  const unframedInterior = new Set<number>();
  for (;;) {
    const dropped = new Set<number>();
    for (const page of oldInterior) forEachChild(images.oldPage(page), page, (child) => void dropped.add(child));
    for (const page of unframedInterior) forEachChild(images.oldPage(page), page, (child) => void dropped.add(child));

    const attached = new Set<number>();
    const kept = new Set<number>();
    const newLeaves: number[] = [];
    const added: number[] = [];
    // A page whose parent turns out to be removed holds somebody else's bytes: a fault counts in the last round only.
    let fault: PageCorruption | null = null;
    const queue = btreePages.filter((page) => page === root || !dropped.has(page));
    for (let page = queue.pop(); page !== undefined; page = queue.pop()) {
      if (kept.has(page)) continue;
      kept.add(page);
      if (!isMember(page)) added.push(page);
      const image = images.newPage(page);
      const kind = pageKind(image, page);
      try {
        if (kind === LEAF_TABLE) {
          newLeaves.push(page);
          if (page !== root) checkNotEmpty(image, page);
          continue;
        }
        if (kind !== INTERIOR_TABLE) throw new PageCorruption(`page ${page} is not a table page (kind ${kind})`);
        forEachChild(image, page, (child) => {
          if (child < 2 || child > images.newSizePages) throw new PageCorruption(`page ${page} has a child outside the database`);
          if (attached.has(child)) throw new PageCorruption(`page ${child} is referred to twice`);
          attached.add(child);
          if (images.isChanged(child) || !isMember(child)) queue.push(child);
        });
      } catch (error) {
        if (!(error instanceof PageCorruption)) throw error;
        fault ??= error;
      }
    }

    const removed = [...dropped].filter((page) => !attached.has(page) && page !== root);
    const found = removed.filter(
      (page) => !images.isChanged(page) && !unframedInterior.has(page) && pageKind(images.oldPage(page), page) === INTERIOR_TABLE,
    );
    if (found.length > 0) {
      for (const page of found) unframedInterior.add(page);
      continue;
    }
    if (fault !== null) throw fault;

    const oldLeaves = btreePages.filter((page) => !oldInterior.has(page));
    for (const page of removed) {
      if (!images.isChanged(page) && !unframedInterior.has(page)) oldLeaves.push(page);
    }
    const inPlace = added.length === 0 && removed.length === 0 && oldInterior.size === 0 && newLeaves.length === oldLeaves.length;
    return { oldLeaves, newLeaves, removed, added, touchedChains, inPlace };
  }
};
