/** The pages that were read or written last, in one slab; first in, first out. Holds copies. */

export class PageCache {
  readonly #pageSize: number;
  readonly #slab: Buffer;
  readonly #views: Buffer[];
  readonly #slots = new Map<number, number>();
  readonly #owners: Float64Array;
  #next = 0;

  constructor(pageSize: number, pages: number) {
    this.#pageSize = pageSize;
    this.#slab = Buffer.alloc(pageSize * pages);
    this.#views = Array.from({ length: pages }, (_, slot) => this.#slab.subarray(slot * pageSize, (slot + 1) * pageSize));
    this.#owners = new Float64Array(pages);
  }

  /** A view that stays valid until as many other pages were put as the cache holds. */
  get(page: number): Buffer | undefined {
    const slot = this.#slots.get(page);
    return slot === undefined ? undefined : this.#views[slot];
  }

  /** A slot for the page, for the caller to fill. */
  claim(page: number): Buffer {
    let slot = this.#slots.get(page);
    if (slot === undefined) {
      slot = this.#next;
      this.#next = (slot + 1) % this.#views.length;
      const owner = this.#owners[slot]!;
      if (owner !== 0) this.#slots.delete(owner);
      this.#owners[slot] = page;
      this.#slots.set(page, slot);
    }
    return this.#views[slot]!;
  }

  /** Forgets a page whose slot could not be filled. */
  drop(page: number): void {
    const slot = this.#slots.get(page);
    if (slot === undefined) return;
    this.#slots.delete(page);
    this.#owners[slot] = 0;
  }

  put(page: number, image: Uint8Array): void {
    this.claim(page).set(image);
  }

  clear(): void {
    this.#slots.clear();
    this.#owners.fill(0);
  }

  get pageSize(): number {
    return this.#pageSize;
  }
}
