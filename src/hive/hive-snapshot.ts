/**
 * The hive as of one committed frame, page by page, while the keeper holds its pin there: the newest frame ≤ mxFrame of a
 * page, else the database file. A checkpoint that runs beside it backfills only pages that have such a frame, and those
 * are not read from the file; where everything is backfilled the pin freezes the file itself (slot 0).
 */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { FRAME_HEADER_BYTES, frameChecksum } from '../sqlite/wal.ts';
import { type DatabaseHeader, DATABASE_HEADER_BYTES, parseDatabaseHeader } from '../sqlite/database-header.ts';
import { WaggleError } from '../support/errors.ts';
import { readFully } from '../support/file.ts';
import { WalFile } from './wal-file.ts';

export interface SnapshotPlace {
  readonly salt1: number;
  readonly salt2: number;
  readonly mxFrame: number;
  /** Everything stands in the database file, and the pin freezes it. */
  readonly complete: boolean;
}

const SCAN_BYTES = 2 * 1024 * 1024;

export class HiveSnapshot implements Disposable {
  readonly header: DatabaseHeader;
  readonly sizePages: number;
  /** Running checksum of frame mxFrame (0 where the WAL holds no frame). */
  readonly checksum1: number;
  readonly checksum2: number;
  readonly #fd: number;
  /** Pages that the database file holds whole. */
  readonly #filePages: number;
  readonly #wal: WalFile | null;
  readonly #frames: ReadonlyMap<number, number>;
  readonly #page: Buffer;
  readonly #frame: Buffer;

  private constructor(parts: { fd: number; wal: WalFile | null; header: DatabaseHeader; scan: WalScan }) {
    this.#fd = parts.fd;
    this.#filePages = Math.floor(fstatSync(parts.fd).size / parts.header.pageSize);
    this.#wal = parts.wal;
    this.header = parts.header;
    this.#frames = parts.scan.frames;
    this.sizePages = parts.scan.sizePages;
    this.checksum1 = parts.scan.checksum1;
    this.checksum2 = parts.scan.checksum2;
    this.#page = Buffer.alloc(parts.header.pageSize);
    this.#frame = Buffer.alloc(parts.header.pageSize + FRAME_HEADER_BYTES);
  }

  /** Throws HIVE_NOT_A_DATABASE, HIVE_CORRUPT (a WAL whose checksums fail below mxFrame), PIN_LOST (its frames have gone). */
  static open(hive: string, place: SnapshotPlace): HiveSnapshot {
    const fd = openSync(hive, 'r');
    let wal: WalFile | null = null;
    try {
      const bytes = Buffer.alloc(DATABASE_HEADER_BYTES);
      let header = parseDatabaseHeader(bytes.subarray(0, readFully(fd, bytes, DATABASE_HEADER_BYTES, 0)));
      // Before the first checkpoint the file can be empty or stand at another size: page 1 of the WAL knows better.
      const pageSize = header?.pageSize ?? pageSizeOfWal(hive);
      if (pageSize === null) throw new WaggleError('HIVE_NOT_A_DATABASE', `${hive} is not a SQLite database`);
      let scan: WalScan = { frames: new Map(), sizePages: 0, checksum1: 0, checksum2: 0 };
      if (place.mxFrame > 0) {
        wal = WalFile.open(hive, pageSize);
        scan = place.complete ? lastFrame(wal, place, scan) : scanWal({ hive, wal, place, pageSize });
      }
      const first = scan.frames.get(1);
      if (first !== undefined) {
        const frame = Buffer.alloc(FRAME_HEADER_BYTES + pageSize);
        wal!.readFrames(first, 1, frame);
        header = parseDatabaseHeader(frame.subarray(FRAME_HEADER_BYTES));
      }
      if (header === null) throw new WaggleError('HIVE_NOT_A_DATABASE', `${hive} is not a SQLite database`);
      // Without a frame that tells the size, the header does.
      if (scan.sizePages === 0) scan = { ...scan, sizePages: countPages(bytes, header, fstatSync(fd).size) };
      return new HiveSnapshot({ fd, wal, header, scan });
    } catch (error) {
      closeSync(fd);
      wal?.[Symbol.dispose]();
      throw error;
    }
  }

  /** A page's image; zeros where the file ends early. Valid until the next call. */
  page(page: number): Buffer {
    const { pageSize } = this.header;
    const frame = this.#frames.get(page);
    if (frame !== undefined) {
      if (this.#wal!.readFrames(frame, 1, this.#frame) && this.#frame.readUInt32BE(0) === page) return this.#frame.subarray(FRAME_HEADER_BYTES);
      throw new WaggleError('PIN_LOST', `WAL frame ${frame} has gone while the hive was being copied`);
    }
    const length = readFully(this.#fd, this.#page, pageSize, (page - 1) * pageSize);
    if (length < pageSize) this.#page.fill(0, length);
    return this.#page;
  }

  /**
   * Pages that stand in no frame, and behind the end of the database file: SQLite leaves free pages there that it never wrote, and a
   * file that was cut off lacks others.
   */
  *missingPages(): Generator<number> {
    for (let page = this.#filePages + 1; page <= this.sizePages; page += 1) if (!this.#frames.has(page)) yield page;
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
    this.#wal?.[Symbol.dispose]();
  }
}

/**
 * Size of the database in pages, as SQLite takes it: the header's count where the header is of the last writer's (its change counter equals
 * the number at 92), else what the file holds. A count beyond the file is damage, and would be a mirror of that size.
 */
const countPages = (bytes: Buffer, header: DatabaseHeader, fileBytes: number): number => {
  const filePages = Math.ceil(fileBytes / header.pageSize);
  if (header.sizePages === 0 || bytes.readUInt32BE(24) !== bytes.readUInt32BE(92)) return filePages;
  if (header.sizePages > filePages) throw new WaggleError('HIVE_CORRUPT', `page 1 counts ${header.sizePages} pages, the file holds ${filePages}`);
  return header.sizePages;
};

interface WalScan {
  readonly frames: ReadonlyMap<number, number>;
  readonly sizePages: number;
  readonly checksum1: number;
  readonly checksum2: number;
}

/**
 * The WAL may be reset at any moment and is not needed but for what its last frame says; if that has gone, the
 * generation has ended and nobody will go on from its checksum.
 */
const lastFrame = (wal: WalFile | null, place: SnapshotPlace, fallback: WalScan): WalScan => {
  const head = Buffer.alloc(FRAME_HEADER_BYTES);
  const there = wal?.readFrameHeader(place.mxFrame, head) === true;
  if (!there || head.readUInt32BE(8) !== place.salt1 || head.readUInt32BE(12) !== place.salt2) return fallback;
  return { frames: new Map(), sizePages: head.readUInt32BE(4), checksum1: head.readUInt32BE(16), checksum2: head.readUInt32BE(20) };
};

const pageSizeOfWal = (hive: string): number | null => {
  using wal = WalFile.open(hive, 512);
  return wal?.readHeader()?.pageSize ?? null;
};

/** Follows the checksums from the WAL's header to mxFrame and notes the newest frame of each page. */
const scanWal = ({ hive, wal, place, pageSize }: { hive: string; wal: WalFile | null; place: SnapshotPlace; pageSize: number }): WalScan => {
  const header = wal?.readHeader() ?? null;
  if (wal === null || header === null || header.salt1 !== place.salt1 || header.salt2 !== place.salt2) {
    throw new WaggleError('PIN_LOST', `the WAL of ${hive} is not the one that the keeper holds`);
  }
  const frameBytes = FRAME_HEADER_BYTES + pageSize;
  const step = Math.max(1, Math.floor(SCAN_BYTES / frameBytes));
  const buffer = Buffer.alloc(step * frameBytes);
  const frames = new Map<number, number>();
  let running = { checksum1: header.checksum1, checksum2: header.checksum2 };
  let sizePages = 0;
  for (let frame = 1; frame <= place.mxFrame; frame += step) {
    const count = Math.min(step, place.mxFrame - frame + 1);
    if (!wal.readFrames(frame, count, buffer)) throw new WaggleError('PIN_LOST', `the WAL of ${hive} ends before frame ${place.mxFrame}`);
    for (let index = 0; index < count; index += 1) {
      const offset = index * frameBytes;
      running = frameChecksum(buffer, offset, pageSize, header.bigEndianChecksums, running);
      if (
        running.checksum1 !== buffer.readUInt32BE(offset + 16) ||
        running.checksum2 !== buffer.readUInt32BE(offset + 20) ||
        buffer.readUInt32BE(offset + 8) !== place.salt1
      ) {
        throw new WaggleError('HIVE_CORRUPT', `the checksum of WAL frame ${frame + index} is wrong`);
      }
      frames.set(buffer.readUInt32BE(offset), frame + index);
      sizePages = buffer.readUInt32BE(offset + 4);
    }
  }
  // A page behind the end belongs to a state that was cut off by a later commit.
  for (const page of frames.keys()) if (page > sizePages) frames.delete(page);
  return { frames, sizePages, ...running };
};
