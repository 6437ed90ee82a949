/** Copying and comparing the whole hive: the first state, and what happened in a time that nobody saw. */
import type { HiveSnapshot } from '../hive/hive-snapshot.ts';
import { Mirror, type MirrorOptions } from '../mirror/mirror.ts';
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
