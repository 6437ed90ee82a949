/** The two sides of a comparison: the database before and after. */

export interface PageImages {
  /**
   * Image before; pages past the old end read as zeros. Valid until the next call of `oldPage`
   * (`newPage` may fall back to it).
   */
  oldPage(page: number): Buffer;
  /** Image after; for a page that did not change the one before. Valid until the next call of either function. */
  newPage(page: number): Buffer;
  /** The page was written (it may still hold the same bytes). */
  isChanged(page: number): boolean;
  /** Database size in pages before and after. */
  readonly oldSizePages: number;
  readonly newSizePages: number;
}
