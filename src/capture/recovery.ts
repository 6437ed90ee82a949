/** Copying and comparing the whole hive: the first state, and what happened in a time that nobody saw. */
import type { HiveSnapshot } from '../hive/hive-snapshot.ts';
import { Mirror, type MirrorOptions } from '../mirror/mirror.ts';
import type { PageMap } from '../mirror/page-map.ts';
import { PageCorruption } from '../sqlite/btree-page.ts';
import { RecordError } from '../sqlite/record.ts';
import { WaggleError } from '../support/errors.ts';
import type { PageSet, Replica } from './replica.ts';

/** A mirror of the snapshot. */
export const mirrorSnapshot = (snapshot: HiveSnapshot, options: MirrorOptions, batchId: number): Mirror =>
  Mirror.create(options, { sizePages: snapshot.sizePages, batchId, page: (page) => snapshot.page(page) });

/** Pages of the two can be held against each other. */
export const hasSameFormat = ({ mirror, usableSize }: Replica, { header }: HiveSnapshot): boolean =>
  header.pageSize === mirror.pageSize && header.usableSize === usableSize;

/** The pages in which the hive, of the same format, differs from the mirror, found by comparing bytes. Memory: their numbers. */
export const findChangedPages = (mirror: Mirror, snapshot: HiveSnapshot): PageSet => {
  const pages: number[] = [];
  for (let page = 1; page <= snapshot.sizePages; page += 1) {
    if (page > mirror.sizePages || !mirror.page(page).equals(snapshot.page(page))) pages.push(page);
  }
  const changed = new Set(pages);
  return { sizePages: snapshot.sizePages, pages, isResident: false, has: (page) => changed.has(page), image: (page) => snapshot.page(page) };
};

/** Throws HIVE_CORRUPT where a table has a page that the file does not: it would read as zeros, which in an overflow chain are a value. */
export const requirePages = (map: PageMap, snapshot: HiveSnapshot): void => {
  for (const page of snapshot.missingPages()) {
    if (map.treeOf(page) !== 0) throw new WaggleError('HIVE_CORRUPT', `page ${page} of a table lies behind the end of the file: it was cut off`);
  }
};

/** What cannot be read of the mirror; null: nothing, so that what a comparison stumbled over stands in the hive. Reads all rows. */
export const faultOf = (replica: Replica): string | null => {
  try {
    replica.checkRows();
    return null;
  } catch (error) {
    if (error instanceof PageCorruption || error instanceof RecordError) return error.message;
    throw error;
  }
};
