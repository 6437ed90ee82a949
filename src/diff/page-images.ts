/** The two sides of a comparison: the database before and after. */
import type { PageDifference } from '../sqlite/page-difference.ts';

export interface PageImages {
  /**
   * Image before; pages past the old end read as zeros. Valid until the next call of `oldPage`
   * (`newPage` may fall back to it).
   */
  oldPage(page: number): Buffer;
  /** Image after; for a page that did not change the one before. Valid until the next call of either function. */
  newPage(page: number): Buffer;
  /**
   * Where the two images of a page differ; null: nowhere. `sameFrom`: from there on they are known to be the same. Valid until the next call.
   * Calls neither of the functions above where the page was not written.
   */
  difference(page: number, before: Buffer, after: Buffer, sameFrom: number): PageDifference | null;
  /** The page was written (it may still hold the same bytes). */
  isChanged(page: number): boolean;
  /** Database size in pages before and after. */
  readonly oldSizePages: number;
  readonly newSizePages: number;
}
