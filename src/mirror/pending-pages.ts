/**
 * Pages of transactions that are not in a committed batch yet, and where they differ from what the batches before have left: the union of what each
 * transaction's diff found, so that the redo need not compare again what the diff has compared.
 */
import { addDifference, emptyDifference, findDifference, type PageDifference } from '../sqlite/page-difference.ts';

/** Pages that are kept to be used again. */
const MOST_POOLED = 4096;

interface PendingPage {
  /** Undefined: compared, and not yet staged. */
  image: Buffer | undefined;
  /** What was found, of all transactions of the batch. */
  readonly difference: PageDifference;
  /** Each of them was compared. */
  isCompared: boolean;
  /** Which transaction was compared last. */
  comparedFor: number;
}

export class PendingPages {
  readonly #pageSize: number;
  readonly #pages = new Map<number, PendingPage>();
  /** A batch has hundreds. */
  readonly #pool: PendingPage[] = [];
  readonly #scratch: PageDifference;
  /** The transaction that is staged next. */
  #transaction = 1;

  constructor(pageSize: number) {
    this.#pageSize = pageSize;
    this.#scratch = emptyDifference(pageSize);
  }

  /** As of the last staged transaction; undefined: none of the batch wrote it. */
  image(page: number): Buffer | undefined {
    return this.#pages.get(page)?.image;
  }

  /**
   * Notes where `after`, which is staged next, differs from `before`, which the page is now. `sameFrom` as of `findDifference`. Null: nowhere. Valid
   * until the next call.
   */
  compare(page: number, before: Buffer, after: Buffer, sameFrom: number): PageDifference | null {
    const found = findDifference(before, after, this.#scratch, sameFrom);
    const pending = this.#pageOf(page);
    addDifference(pending.difference, this.#scratch);
    pending.comparedFor = this.#transaction;
    return found ? this.#scratch : null;
  }

  stage(page: number, image: Buffer): void {
    const pending = this.#pageOf(page);
    pending.image = image;
    if (pending.comparedFor !== this.#transaction) pending.isCompared = false;
  }

  /** All pages of the transaction are staged. */
  endTransaction(): void {
    this.#transaction += 1;
  }

  /** The pages that were staged. What was only compared is forgotten: its transaction was refused. */
  staged(): number[] {
    for (const [page, { image }] of this.#pages) if (image === undefined) this.#pages.delete(page);
    return [...this.#pages.keys()];
  }

  /** Where a staged page differs from `before`, what the batches before have left; null: not known. Valid until the next call. */
  difference(page: number, before: Buffer | undefined): PageDifference | null {
    const pending = this.#pages.get(page)!;
    if (pending.isCompared) return pending.difference;
    if (before === undefined) return null;
    findDifference(before, pending.image!, this.#scratch);
    return this.#scratch;
  }

  /** The batch is committed. */
  clear(): void {
    for (const pending of this.#pages.values()) {
      if (this.#pool.length >= MOST_POOLED) break;
      pending.image = undefined;
      pending.difference.fill(0);
      pending.isCompared = true;
      pending.comparedFor = 0;
      this.#pool.push(pending);
    }
    this.#pages.clear();
  }

  #pageOf(page: number): PendingPage {
    let pending = this.#pages.get(page);
    if (pending === undefined) {
      pending = this.#pool.pop() ?? { image: undefined, difference: emptyDifference(this.#pageSize), isCompared: true, comparedFor: 0 };
      this.#pages.set(page, pending);
    }
    return pending;
  }
}
