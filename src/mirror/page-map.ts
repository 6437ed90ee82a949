/**
 * Which tree each page of the mirror belongs to (DESIGN "From pages to rows"). Two typed arrays, indexed by page number:
 *
 *     tree[p]    id of the table's tree, 0: no captured tree (indexes, free pages, pointer maps)
 *     chain[p]   0: a b-tree page    > 0: first page of an overflow chain, whose cell stands on page chain[p]
 *                (a leaf; of a WITHOUT ROWID table also an interior page)
 *                < 0: a later page of the overflow chain that begins at -chain[p]
 *
 * Pages are attributed by reachability from the table's root alone, never by what they look like: freed pages hold
 * valid-looking rows.
 */
import {
  cellCount,
  checkIndexPage,
  checkLeaf,
  checkNotEmpty,
  forEachChild,
  INDEX_TREE,
  IndexCell,
  PageCorruption,
  pageKind,
  TableCell,
  TABLE_TREE,
  type TreeKinds,
} from '../sqlite/btree-page.ts';
import { forEachOverflowPage, type ReadPage } from '../sqlite/payload.ts';

export class PageMap {
  tree: Int32Array;
  chain: Int32Array;

  constructor(pages: number) {
    this.tree = new Int32Array(pages + 1);
    this.chain = new Int32Array(pages + 1);
  }

  /** Makes room for page numbers up to `pages`. */
  ensure(pages: number): void {
    if (pages < this.tree.length) return;
    const length = Math.max(pages + 1, Math.ceil(this.tree.length * 1.5));
    this.tree = grown(this.tree, length);
    this.chain = grown(this.chain, length);
  }

  treeOf(page: number): number {
    return page < this.tree.length ? this.tree[page]! : 0;
  }

  /** How many pages the tree has. */
  pagesOf(tree: number): number {
    let pages = 0;
    for (const owner of this.tree) if (owner === tree) pages += 1;
    return pages;
  }

  /** Forgets every page of a tree. */
  clearTree(tree: number): void {
    for (let page = this.tree.indexOf(tree); page !== -1; page = this.tree.indexOf(tree, page + 1)) {
      this.tree[page] = 0;
      this.chain[page] = 0;
    }
  }

  /**
   * Walks a tree from its root and claims its pages. Throws a PageCorruption when a page is claimed twice or is not of
   * the tree's kinds.
   */
  addTree({ tree, root, kinds }: TreeToAdd, usableSize: number, sizePages: number, readPage: ReadPage): void {
    this.ensure(sizePages);
    const cell = kinds === INDEX_TREE ? new IndexCell(usableSize) : new TableCell(usableSize);
    const stack = [root];
    const claim = (page: number, chain: number): void => {
      if (page < 1 || page > sizePages) throw new PageCorruption(`page ${page} lies outside the database`);
      if (this.tree[page] !== 0) throw new PageCorruption(`page ${page} is referred to twice`);
      this.tree[page] = tree;
      this.chain[page] = chain;
    };
    for (let page = stack.pop(); page !== undefined; page = stack.pop()) {
      claim(page, 0);
      const image = readPage(page);
      const kind = pageKind(image, page);
      if (kind !== kinds.interior && kind !== kinds.leaf) throw new PageCorruption(`page ${page} is of another kind of tree (kind ${kind})`);
      if (kind === kinds.interior) forEachChild(image, page, (child) => void stack.push(child));
      else if (page !== root) checkNotEmpty(image, page);
      if (kind === kinds.leaf || kinds === INDEX_TREE) this.#addOverflow(page, image, cell, usableSize, readPage, claim);
    }
  }

  #addOverflow(
    leaf: number,
    image: Buffer,
    cell: TableCell | IndexCell,
    usableSize: number,
    readPage: ReadPage,
    claim: (page: number, chain: number) => void,
  ): void {
    if (cell instanceof IndexCell) checkIndexPage(image, leaf);
    else checkLeaf(image, leaf);
    const count = cellCount(image, leaf);
    let stable: Buffer | null = null;
    for (let index = 0; index < count; index += 1) {
      cell.parseAt(stable ?? image, leaf, index);
      if (cell.payloadBytes === cell.localBytes) continue;
      // The reader may reuse its buffer while the chain is followed.
      stable ??= Buffer.from(image);
      let first = 0;
      forEachOverflowPage(stable, cell, usableSize, readPage, (page) => {
        claim(page, first === 0 ? leaf : -first);
        if (first === 0) first = page;
      });
    }
  }
}

/** A tree that is not in the map yet. */
export interface TreeToAdd {
  readonly tree: number;
  readonly root: number;
  readonly kinds: TreeKinds;
}

/** The tree of sqlite_schema. */
export const schemaTree = (tree: number): TreeToAdd => ({ tree, root: 1, kinds: TABLE_TREE });

const grown = (array: Int32Array, length: number): Int32Array => {
  const result = new Int32Array(length);
  result.set(array);
  return result;
};

/** Changes to the map that one transaction makes: collected while the old map is still being asked, then applied at once. Empty then. */
export class PageMapEdit {
  readonly #cleared: number[] = [];
  /** page, tree, chain; page, tree, chain; … */
  readonly #claimed: number[] = [];

  clear(page: number): void {
    this.#cleared.push(page);
  }

  claim(page: number, tree: number, chain: number): void {
    this.#claimed.push(page, tree, chain);
  }

  applyTo(map: PageMap): void {
    for (const page of this.#cleared) {
      map.tree[page] = 0;
      map.chain[page] = 0;
    }
    for (let at = 0; at < this.#claimed.length; at += 3) {
      map.tree[this.#claimed[at]!] = this.#claimed[at + 1]!;
      map.chain[this.#claimed[at]!] = this.#claimed[at + 2]!;
    }
    this.#cleared.length = 0;
    this.#claimed.length = 0;
  }
}
