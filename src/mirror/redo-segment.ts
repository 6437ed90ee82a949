/**
 * Redo segments of the mirror: batches of page images that are not yet folded into the page file. Numbers little-endian.
 *
 *     batch   0 magic 'WRDO'   4 page size u32   8 batch id u64   16 id of the batch before u64
 *             24 pages u32     28 database size in pages u32
 *             32 page numbers, u32 each | the images | crc32 of all before u32 | end mark 'DONE'
 *
 * A batch that is cut off or fails its checksum is the end of the segment, not an error: it was never in the log.
 */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import { createFile, readFully, removeFile, syncData, syncDirectory, writeFully } from '../support/file.ts';

const MAGIC = 0x4f445257;
const END = 0x454e4f44;
const HEADER_BYTES = 32;
const TRAILER_BYTES = 8;
/** Batches are written and checked in pieces of about this size. */
const PIECE_BYTES = 1024 * 1024;

export interface RedoBatch {
  readonly id: number;
  readonly previousId: number;
  readonly sizePages: number;
  readonly pages: readonly number[];
  /** Gives a page's image; valid until the next call. */
  readonly image: (page: number) => Buffer;
}

/** A batch as found in a segment. */
export interface RedoEntry {
  readonly id: number;
  readonly previousId: number;
  readonly sizePages: number;
  readonly pages: readonly number[];
  /** Offset of the first image; the others follow in the order of `pages`. */
  readonly imagesOffset: number;
  readonly endOffset: number;
}

export class RedoSegment implements Disposable {
  readonly path: string;
  readonly pageSize: number;
  /** Offset of the last image of each page in it. */
  readonly offsets = new Map<number, number>();
  sizeBytes = 0;
  /** Of the last batch in it. */
  lastId = 0;
  sizePages = 0;
  readonly #fd: number;
  /** Reused for small batches; grows to one piece. */
  #scratch = Buffer.allocUnsafe(64 * 1024);

  private constructor(path: string, pageSize: number, fd: number) {
    this.path = path;
    this.pageSize = pageSize;
    this.#fd = fd;
  }

  /** An empty segment; what stood in the file is gone. With `durable` its name is on the disk: a batch in a file without a name is lost. */
  static create(path: string, pageSize: number, options: { durable: boolean }): RedoSegment {
    const fd = createFile(path);
    try {
      if (options.durable) syncDirectory(dirname(path));
      return new RedoSegment(path, pageSize, fd);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** An existing segment, to be read with `next`. */
  static open(path: string, pageSize: number): RedoSegment {
    return new RedoSegment(path, pageSize, openSync(path, 'r+'));
  }

  /**
   * Appends a batch; with `durable` it is on the disk when this returns. After a throw nothing was appended, and the same or another batch can
   * be: it is written to the same place again (a failed sync may have dropped what it should have written).
   */
  append(batch: RedoBatch, options: { durable: boolean }): void {
    const { pageSize } = this;
    const headBytes = HEADER_BYTES + batch.pages.length * 4;
    const total = headBytes + batch.pages.length * pageSize + TRAILER_BYTES;
    const start = this.sizeBytes;
    const pieceBytes = Math.max(headBytes, Math.min(total, PIECE_BYTES)) + pageSize + TRAILER_BYTES;
    if (this.#scratch.length < pieceBytes) this.#scratch = Buffer.allocUnsafe(pieceBytes);
    const piece = this.#scratch;
    piece.writeUInt32LE(MAGIC, 0);
    piece.writeUInt32LE(pageSize, 4);
    piece.writeBigUInt64LE(BigInt(batch.id), 8);
    piece.writeBigUInt64LE(BigInt(batch.previousId), 16);
    piece.writeUInt32LE(batch.pages.length, 24);
    piece.writeUInt32LE(batch.sizePages, 28);
    batch.pages.forEach((page, index) => piece.writeUInt32LE(page, HEADER_BYTES + index * 4));
    let filled = headBytes;
    let at = start;
    let sum = 0;
    for (const page of batch.pages) {
      if (filled + pageSize + TRAILER_BYTES > piece.length) {
        sum = crc32(piece.subarray(0, filled), sum);
        writeFully(this.#fd, piece.subarray(0, filled), at);
        at += filled;
        filled = 0;
      }
      batch.image(page).copy(piece, filled, 0, pageSize);
      filled += pageSize;
    }
    sum = crc32(piece.subarray(0, filled), sum);
    piece.writeUInt32LE(sum, filled);
    piece.writeUInt32LE(END, filled + 4);
    writeFully(this.#fd, piece.subarray(0, filled + TRAILER_BYTES), at);
    if (options.durable) syncData(this.#fd);
    this.#take({ ...batch, imagesOffset: start + headBytes, endOffset: start + total });
  }

  readPage(offset: number, into: Buffer): void {
    if (readFully(this.#fd, into, this.pageSize, offset) !== this.pageSize) throw new Error(`${this.path} ends inside a page image`);
  }

  /** Takes the next batch of a segment that was opened again; null at its end (also a torn one). */
  next(): RedoEntry | null {
    return this.#parse(this.sizeBytes);
  }

  /** Accepts what `next` gave: its images count from now on. */
  accept(entry: RedoEntry): void {
    this.#take(entry);
  }

  /** Closes and deletes the file. */
  remove(): void {
    this[Symbol.dispose]();
    removeFile(this.path);
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  #take(entry: Pick<RedoEntry, 'id' | 'sizePages' | 'pages' | 'imagesOffset' | 'endOffset'>): void {
    for (let index = 0; index < entry.pages.length; index += 1) {
      this.offsets.set(entry.pages[index]!, entry.imagesOffset + index * this.pageSize);
    }
    this.sizeBytes = entry.endOffset;
    this.lastId = entry.id;
    this.sizePages = entry.sizePages;
  }

  #parse(start: number): RedoEntry | null {
    const head = Buffer.allocUnsafe(HEADER_BYTES);
    if (readFully(this.#fd, head, HEADER_BYTES, start) !== HEADER_BYTES) return null;
    if (head.readUInt32LE(0) !== MAGIC || head.readUInt32LE(4) !== this.pageSize) return null;
    const count = head.readUInt32LE(24);
    const imagesOffset = start + HEADER_BYTES + count * 4;
    const trailerOffset = imagesOffset + count * this.pageSize;
    if (trailerOffset + TRAILER_BYTES > fstatSync(this.#fd).size) return null;
    const numbers = Buffer.allocUnsafe(count * 4);
    readFully(this.#fd, numbers, numbers.length, start + HEADER_BYTES);
    let sum = crc32(numbers, crc32(head));
    const piece = Buffer.allocUnsafe(Math.min(PIECE_BYTES, Math.max(1, trailerOffset - imagesOffset)));
    for (let at = imagesOffset; at < trailerOffset;) {
      const length = readFully(this.#fd, piece, Math.min(piece.length, trailerOffset - at), at);
      sum = crc32(piece.subarray(0, length), sum);
      at += length;
    }
    const trailer = Buffer.allocUnsafe(TRAILER_BYTES);
    readFully(this.#fd, trailer, TRAILER_BYTES, trailerOffset);
    if (trailer.readUInt32LE(0) !== sum || trailer.readUInt32LE(4) !== END) return null;
    return {
      id: Number(head.readBigUInt64LE(8)),
      previousId: Number(head.readBigUInt64LE(16)),
      sizePages: head.readUInt32LE(28),
      pages: Array.from({ length: count }, (_, index) => numbers.readUInt32LE(index * 4)),
      imagesOffset,
      endOffset: trailerOffset + TRAILER_BYTES,
    };
  }
}
