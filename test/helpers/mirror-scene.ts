/**
 * A mirror beside a log that is a number, under a workload of which every state is known: batch after batch of random
 * pages, growing and shrinking. Whatever happened to the disk, `open` must give the state as of the log.
 */
import assert from 'node:assert/strict';
import { Mirror, type MirrorOptions } from '../../src/mirror/mirror.ts';
import { Random } from './random.ts';

export const PAGE_SIZE = 512;
export const FIRST_PAGES = 20;

/**
 * What page `page` holds after batch `batch` wrote it: of five batches one gives it other bytes all over, one almost only zeros, the others a few
 * bytes here and there.
 */
export const imageOf = (batch: number, page: number): Buffer => {
  const image = Buffer.alloc(PAGE_SIZE, [(batch * 31 + page) & 0xff, 0][batch % 5] ?? page & 0xff);
  image.fill(batch & 0xff, 16 + ((batch * 37) % 400), 16 + ((batch * 37) % 400) + (batch % 40));
  image.writeUInt32LE(batch, 0);
  image.writeUInt32LE(page, 4);
  return image;
};

export interface Batch {
  readonly id: number;
  readonly sizePages: number;
  readonly pages: readonly number[];
  readonly isLarge: boolean;
}

/** The batches 2 … count of a seed (1 is the first state). */
export const batchesOf = (seed: number, count: number): Batch[] => {
  const random = new Random(seed);
  const batches: Batch[] = [];
  let sizePages = FIRST_PAGES;
  for (let id = 2; id <= count; id += 1) {
    sizePages = Math.max(1, sizePages + random.pick([0, 0, 0, 1, 3, 15, -1, -9]));
    const pages = new Set<number>();
    for (let index = random.int(12); index >= 0; index -= 1) pages.add(1 + random.int(sizePages));
    batches.push({ id, sizePages, pages: [...pages], isLarge: random.chance(0.1) });
  }
  return batches;
};

/** Which batch wrote each page last as of batch `id`; 0: nobody, it reads as zeros. Index 0 is not used. */
export const stateAt = (batches: readonly Batch[], id: number): number[] => {
  let state = Array.from({ length: FIRST_PAGES + 1 }, () => 1);
  for (const batch of batches) {
    if (batch.id > id) break;
    state = Array.from({ length: batch.sizePages + 1 }, (_, page) => state[page] ?? 0);
    for (const page of batch.pages) state[page] = batch.id;
  }
  return state;
};

export const optionsFor = (directory: string, makeLogDurable: () => void = () => {}, durability: 'os' | 'fsync' = 'os'): MirrorOptions => ({
  directory,
  pageSize: PAGE_SIZE,
  durability,
  makeLogDurable,
  foldBytes: 12 * 1024,
  cacheBytes: 1,
});

export const createMirror = (options: MirrorOptions): Mirror =>
  Mirror.create(options, { sizePages: FIRST_PAGES, batchId: 1, page: (page) => imageOf(1, page) });

/** Takes a batch into the mirror's redo, as a capture session does before it goes into the log. */
export const takeBatch = (mirror: Mirror, batch: Batch): void => {
  if (batch.isLarge) {
    mirror.commitLarge(batch.id, batch.pages, (page) => imageOf(batch.id, page), batch.sizePages);
    return;
  }
  // Two transactions, of which the first writes every other page with bytes that the second replaces.
  const first = batch.pages.filter((_, index) => index % 2 === 0);
  stageCompared(mirror, first, { writer: batch.id + 500, sizePages: Math.max(batch.sizePages, mirror.sizePages) });
  stageCompared(mirror, batch.pages, { writer: batch.id, sizePages: batch.sizePages });
  mirror.commit(batch.id);
};

/** Most pages are compared before they are staged, as the diff does with rows' leaves; the redo must find the others' differences itself. */
const stageCompared = (mirror: Mirror, pages: readonly number[], { writer, sizePages }: { writer: number; sizePages: number }): void => {
  const images = new Map(pages.map((page) => [page, imageOf(writer, page)]));
  for (const [page, image] of images) if ((writer + page) % 4 !== 0) mirror.difference(page, Buffer.from(mirror.page(page)), image, PAGE_SIZE);
  mirror.stage(pages, (page) => images.get(page)!, sizePages);
};

export const assertState = (mirror: Mirror, batches: readonly Batch[], id: number): void => {
  const state = stateAt(batches, id);
  assert.equal(mirror.sizePages, state.length - 1, `size as of batch ${id}`);
  for (let page = 1; page < state.length; page += 1) {
    const writer = state[page]!;
    const expected = writer === 0 ? Buffer.alloc(PAGE_SIZE) : imageOf(writer, page);
    const actual = mirror.page(page);
    assert(actual.equals(expected), `page ${page} as of batch ${id} is of batch ${actual.readUInt32LE(0)}, should be of ${writer}`);
  }
};

/** Opens the mirror as of batch `id` and checks every page; throws where it is not valid. */
export const openAndCheck = async (options: MirrorOptions, batches: readonly Batch[], id: number): Promise<void> => {
  const mirror = Mirror.open(options, id);
  if (!(mirror instanceof Mirror)) throw new Error(`the mirror as of batch ${id} is invalid: ${mirror.invalid}`);
  try {
    assertState(mirror, batches, id);
  } finally {
    await mirror[Symbol.asyncDispose]();
  }
};
