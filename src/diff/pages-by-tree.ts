/** The changed pages of a transaction, tree by tree. One object serves them all: a list for each tree is kept and used again. */
import type { PageMap } from '../mirror/page-map.ts';

/** Longer lists are let go of. */
const KEPT_PAGES = 64;

export class PagesByTree {
  /** The trees that have changed pages, in the order of their first one. */
  readonly trees: number[] = [];
  readonly #pages = new Map<number, number[]>();

  /** Pages of no tree are left out. */
  group(changed: readonly number[], map: PageMap): void {
    this.clear();
    for (const page of changed) {
      const tree = map.treeOf(page);
      if (tree === 0) continue;
      let pages = this.#pages.get(tree);
      if (pages === undefined) this.#pages.set(tree, (pages = []));
      if (pages.length === 0) this.trees.push(tree);
      pages.push(page);
    }
  }

  /** Undefined: none of its pages changed. Valid until the next `group`. */
  of(tree: number): number[] | undefined {
    const pages = this.#pages.get(tree);
    return pages === undefined || pages.length === 0 ? undefined : pages;
  }

  clear(): void {
    for (const tree of this.trees) {
      const pages = this.#pages.get(tree)!;
      if (pages.length > KEPT_PAGES) this.#pages.delete(tree);
      else pages.length = 0;
    }
    this.trees.length = 0;
  }
}
