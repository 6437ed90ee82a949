/**
 * Waggle's own page-exact copy of the hive as of the head of the log: where before-images come from, and the rows of
 * snapshots. On disk (in `<state>/mirror/`):
 *
 *     pages      the page file; page p at (p - 1) * page size
 *     redo-N     batches of changed pages behind it (redo-segment.ts)
 *     folded     the last batch that the page file holds, with a checksum
 *
 * The order that keeps log and mirror together (DESIGN "Down and up again"): a batch is appended to the redo segment, then
 * committed in the log, and folded into the page file only when the log is known to be durable. So after any kill
 * folded ≤ the log's batch id, and the redo chain from folded to it is unbroken; what lies after is cut off.
 */
import { closeSync, existsSync, fstatSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import { emptyDifference, findDifference, type PageDifference } from '../sqlite/page-difference.ts';
import { createFile, readFully, replaceFile, syncData, syncDataAside, syncDirectory, writeFully } from '../support/file.ts';
import { PageCache } from './page-cache.ts';
import { PendingPages } from './pending-pages.ts';
import { type RedoBatch, RedoSegment } from './redo-segment.ts';

export interface MirrorOptions {
  readonly directory: string;
  readonly pageSize: number;
  /** `fsync`: every batch is durable before `commit` returns. */
  readonly durability: 'os' | 'fsync';
  /** Makes everything that the log has durable; called before each fold. */
  readonly makeLogDurable: () => void;
  /** Segment size at which a fold begins. Default 32 MiB. */
  readonly foldBytes?: number;
  /** Size of the page cache. Default 16 MiB. */
  readonly cacheBytes?: number;
}

/** How a page source gives the first state: page by page, 1 … sizePages; the buffer is valid until the next call. */
export interface FirstState {
  readonly sizePages: number;
  readonly batchId: number;
  readonly page: (page: number) => Buffer;
}

/** A segment that has grown to more than so many times its allowed length is deleted, not kept to be used again. */
const MAX_SPARE = 2;
/** Pages that a fold writes without a pause for the thread's other work. */
const FOLD_SLICE = 128;

export class Mirror implements AsyncDisposable {
  readonly pageSize: number;
  sizePages: number;
  readonly #options: MirrorOptions;
  readonly #fd: number;
  readonly #cache: PageCache;
  readonly #zeros: Buffer;
  /** Images of transactions that are not in a committed batch yet. */
  readonly #pending: PendingPages;
  readonly #scratch: PageDifference;
  #active: RedoSegment;
  #sealed: RedoSegment | null = null;
  /** Folded, to be written over. */
  #spare: RedoSegment | null = null;
  #segmentNumber: number;
  #lastId: number;
  #folding: Promise<void> | null = null;
  #foldError: unknown = null;
  #isClosed = false;

  private constructor(options: MirrorOptions, state: { fd: number; sizePages: number; batchId: number }) {
    this.#options = options;
    this.pageSize = options.pageSize;
    this.sizePages = state.sizePages;
    this.#fd = state.fd;
    this.#lastId = state.batchId;
    this.#zeros = Buffer.alloc(options.pageSize);
    this.#pending = new PendingPages(options.pageSize);
    this.#scratch = emptyDifference(options.pageSize);
    this.#cache = new PageCache(options.pageSize, Math.max(64, Math.floor((options.cacheBytes ?? 16 * 1024 * 1024) / options.pageSize)));
    this.#segmentNumber = 1;
    this.#active = this.#createSegment(1);
  }

  /** Begins anew with the given state; whatever stood in the directory is deleted. Durable when it returns. */
  static create(options: MirrorOptions, first: FirstState): Mirror {
    rmSync(options.directory, { recursive: true, force: true });
    mkdirSync(options.directory, { recursive: true, mode: 0o700 });
    const fd = createFile(join(options.directory, 'pages'));
    try {
      const pieces = Math.max(1, Math.floor((1024 * 1024) / options.pageSize));
      const piece = Buffer.allocUnsafe(pieces * options.pageSize);
      for (let page = 1; page <= first.sizePages;) {
        const from = page;
        let filled = 0;
        for (; page <= first.sizePages && filled < piece.length; page += 1) filled += first.page(page).copy(piece, filled, 0, options.pageSize);
        writeFully(fd, piece.subarray(0, filled), (from - 1) * options.pageSize);
      }
      syncData(fd);
      writeFolded(options.directory, first.batchId, first.sizePages, options.pageSize);
      syncDirectory(dirname(options.directory));
      return new Mirror(options, { fd, sizePages: first.sizePages, batchId: first.batchId });
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** Page size of the mirror in this directory; null: there is none, or its state cannot be read. */
  static pageSizeOf(directory: string): number | null {
    return readFolded(directory)?.pageSize ?? null;
  }

  /** Last batch that its page file holds; null as above. */
  static batchIdOf(directory: string): number | null {
    return readFolded(directory)?.batchId ?? null;
  }

  /**
   * Opens the mirror as of the log's batch `batchId`, or tells why it is not valid. Everything up to that batch is
   * folded at once, so that the redo log starts empty.
   */
  static open(options: MirrorOptions, batchId: number): Mirror | { invalid: string } {
    const { directory, pageSize } = options;
    const folded = readFolded(directory);
    if (folded === null || !existsSync(join(directory, 'pages'))) return { invalid: 'there is no mirror, or its state cannot be read' };
    if (folded.pageSize !== pageSize) return { invalid: 'its page size is another one' };
    if (folded.batchId > batchId) return { invalid: 'it is ahead of the log' };
    options.makeLogDurable();
    const fd = openSync(join(directory, 'pages'), 'r+');
    try {
      if (fstatSync(fd).size < folded.sizePages * pageSize) return closed(fd, { invalid: 'its page file is too short' });
      const replayed = replay(options, fd, folded, batchId);
      if ('invalid' in replayed) return closed(fd, replayed);
      return new Mirror(options, { fd, sizePages: replayed.sizePages, batchId });
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /**
   * The page as of the last staged transaction; zeros past the end. Valid until a few thousand other pages were read.
   * A page that was staged is valid as long as its buffer.
   */
  page(page: number): Buffer {
    if (page > this.sizePages) return this.#zeros;
    const pending = this.#pending.image(page);
    if (pending !== undefined) return pending;
    const cached = this.#cache.get(page);
    if (cached !== undefined) return cached;
    const slot = this.#cache.claim(page);
    try {
      this.#readPage(page, slot);
    } catch (error) {
      this.#cache.drop(page);
      throw error;
    }
    return slot;
  }

  /**
   * Where the image `after`, which is staged next, differs from `before`, which `page` gives; null: nowhere. `sameFrom` as of `findDifference`.
   * What is found here the redo need not find again. Valid until the next call.
   */
  difference(page: number, before: Buffer, after: Buffer, sameFrom: number): PageDifference | null {
    if (page <= this.sizePages) return this.#pending.compare(page, before, after, sameFrom);
    // Past the end `before` is zeros, whatever the files hold there.
    return findDifference(before, after, this.#scratch, sameFrom) ? this.#scratch : null;
  }

  /** Takes a transaction's images: `page` gives them from now on. The buffers must stay unchanged until `commit`. */
  stage(pages: readonly number[], image: (page: number) => Buffer, sizePages: number): void {
    this.#zeroGap(sizePages);
    for (const page of pages) this.#pending.stage(page, image(page));
    this.#pending.endTransaction();
    this.sizePages = sizePages;
  }

  /** Appends what was staged as batch `batchId`. */
  commit(batchId: number): void {
    const pages = this.#pending.staged();
    this.#append({
      id: batchId,
      sizePages: this.sizePages,
      pages,
      image: (page) => this.#pending.image(page)!,
      // What the cache holds of these pages is what the batches before have left: `page` reads no pending page into it.
      difference: (page) => this.#pending.difference(page, this.#cache.get(page)),
    });
    for (const page of pages) this.#cache.put(page, this.#pending.image(page)!);
    this.#pending.clear();
  }

  /** Takes and appends one transaction that is too large to be staged; nothing is. After a throw the mirror is as before. */
  commitLarge(batchId: number, pages: readonly number[], image: (page: number) => Buffer, sizePages: number): void {
    const zeroed = new Set(pagesBetween(this.sizePages, sizePages, pages));
    const imageOf = (page: number): Buffer => (zeroed.has(page) ? this.#zeros : image(page));
    this.#append({ id: batchId, sizePages, pages: [...pages, ...zeroed], image: imageOf, difference: () => null });
    this.sizePages = sizePages;
    this.#cache.clear();
  }

  /**
   * Call when the batch is in the log. Starts a fold when the segment has grown, and waits for the running one when the next has
   * grown as well: redo never grows without bound. Throws what a fold failed with, once; call again to try it again.
   */
  async afterLogCommit(): Promise<void> {
    if (this.#foldError !== null) {
      const error = this.#foldError;
      this.#foldError = null;
      throw error;
    }
    const limit = this.#foldBytes;
    if (!this.#active.isFull(limit)) return;
    if (this.#folding !== null && this.#active.isFull(limit * 4)) await this.#folding;
    if (this.#folding === null) this.#startFold();
  }

  /** May be called again. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#folding;
    this.#active[Symbol.dispose]();
    this.#sealed?.[Symbol.dispose]();
    this.#spare?.[Symbol.dispose]();
    closeSync(this.#fd);
  }

  /** Pages between the old end and the new one that nobody writes read as zeros, whatever the files hold there. */
  #zeroGap(sizePages: number): void {
    for (let page = this.sizePages + 1; page <= sizePages; page += 1) this.#pending.stage(page, this.#zeros);
  }

  #append(batch: Omit<RedoBatch, 'previousId'>): void {
    this.#active.append({ ...batch, previousId: this.#lastId }, { durable: this.#options.durability === 'fsync' });
    this.#lastId = batch.id;
  }

  #readPage(page: number, into: Buffer): void {
    const segments = this.#sealed === null || this.#active.hasWhole(page) ? [this.#active] : [this.#sealed, this.#active];
    if (!segments.some((segment) => segment.hasWhole(page))) readFilePage(this.#fd, page, into);
    for (const segment of segments) segment.readOver(page, into);
  }

  get #foldBytes(): number {
    return this.#options.foldBytes ?? 32 * 1024 * 1024;
  }

  #createSegment(number: number): RedoSegment {
    const { directory, durability } = this.#options;
    const path = join(directory, `redo-${number}`);
    const durable = durability === 'fsync';
    const spare = this.#spare;
    if (spare === null) return RedoSegment.create(path, this.pageSize, { durable });
    const segment = RedoSegment.reuse(spare, path, { durable });
    this.#spare = null;
    return segment;
  }

  #startFold(): void {
    if (this.#sealed === null) {
      // First the new file: without space for it the old one goes on as the active one.
      const next = this.#createSegment(this.#segmentNumber + 1);
      this.#segmentNumber += 1;
      this.#sealed = this.#active;
      this.#active = next;
    }
    const segment = this.#sealed;
    this.#options.makeLogDurable();
    this.#folding = this.#fold(segment)
      .catch((error: unknown) => {
        this.#foldError = error;
      })
      .finally(() => {
        this.#folding = null;
      });
  }

  async #fold(segment: RedoSegment): Promise<void> {
    const image = Buffer.allocUnsafe(this.pageSize);
    let slice = 0;
    for (const page of [...segment.pages].sort((one, other) => one - other)) {
      if (!segment.hasWhole(page)) readFilePage(this.#fd, page, image);
      segment.readOver(page, image);
      writeFully(this.#fd, image, (page - 1) * this.pageSize);
      slice += 1;
      if (slice % FOLD_SLICE === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await syncDataAside(this.#fd);
    writeFolded(this.#options.directory, segment.lastId, segment.sizePages, this.pageSize);
    this.#sealed = null;
    if (segment.sizeBytes <= MAX_SPARE * this.#foldBytes) this.#spare = segment;
    else segment.remove();
  }
}

/** Pages behind `from`, up to `to`, that are not among `written`. A byte for each: of a large transaction there may be a million. */
const pagesBetween = (from: number, to: number, written: readonly number[]): number[] => {
  const isWritten = new Uint8Array(Math.max(0, to - from));
  for (const page of written) if (page > from) isWritten[page - from - 1] = 1;
  const pages: number[] = [];
  for (let index = isWritten.indexOf(0); index !== -1; index = isWritten.indexOf(0, index + 1)) pages.push(from + index + 1);
  return pages;
};

const closed = <T>(fd: number, result: T): T => {
  closeSync(fd);
  return result;
};

/** Page `page` of the page file into a buffer of one page; zeros past its end. */
const readFilePage = (fd: number, page: number, into: Buffer): void => {
  const length = readFully(fd, into, into.length, (page - 1) * into.length);
  if (length < into.length) into.fill(0, length);
};

interface Folded {
  readonly batchId: number;
  readonly sizePages: number;
  readonly pageSize: number;
}

const writeFolded = (directory: string, batchId: number, sizePages: number, pageSize: number): void => {
  const text = JSON.stringify({ batchId, sizePages, pageSize });
  replaceFile(join(directory, 'folded'), Buffer.from(`${text}\n${crc32(text)}\n`), { durable: true });
};

const readFolded = (directory: string): Folded | null => {
  let content: string;
  try {
    content = readFileSync(join(directory, 'folded'), 'utf8');
  } catch {
    // Absent or unreadable: the caller takes a new snapshot, and says so.
    return null;
  }
  const [text, sum] = content.split('\n');
  return text !== undefined && Number(sum) === crc32(text) ? (JSON.parse(text) as Folded) : null;
};

/** Folds the unbroken chain of batches folded+1 … batchId into the page file and deletes all segments. */
const replay = (options: MirrorOptions, fd: number, folded: Folded, batchId: number): { sizePages: number } | { invalid: string } => {
  const { directory, pageSize } = options;
  const numbers = readdirSync(directory)
    .map((name) => /^redo-(\d+)$/.exec(name)?.[1])
    .filter((number) => number !== undefined)
    .map(Number)
    .sort((a, b) => a - b);
  let reached = folded.batchId;
  let sizePages = folded.sizePages;
  const segments = numbers.map((number) => RedoSegment.open(join(directory, `redo-${number}`), pageSize));
  try {
    const image = Buffer.allocUnsafe(pageSize);
    for (const segment of segments) {
      for (let entry = segment.next(); entry !== null && entry.id <= batchId; entry = segment.next()) {
        segment.accept(entry);
        if (entry.id <= reached) continue;
        if (entry.previousId !== reached) return { invalid: `its redo log has a hole behind batch ${reached}` };
        segment.replay(entry, (page, over) => {
          readFilePage(fd, page, image);
          over(image);
          writeFully(fd, image, (page - 1) * pageSize);
        });
        reached = entry.id;
        sizePages = entry.sizePages;
      }
    }
    if (reached !== batchId) return { invalid: `its redo log ends at batch ${reached}, the log at ${batchId}` };
    syncData(fd);
    writeFolded(directory, batchId, sizePages, pageSize);
    for (let segment = segments.pop(); segment !== undefined; segment = segments.pop()) segment.remove();
    syncDirectory(directory);
    return { sizePages };
  } finally {
    for (const segment of segments) segment[Symbol.dispose]();
  }
};
