/**
 * Spool segments: committed frames copied out of the WAL, byte for byte. All numbers are big-endian u32:
 *
 *     0  magic 'wagglesp' (8 bytes)    8 format version 1      12 page size
 *     16 flags: 1 = WAL checksums are over big-endian words; 2 = the previous generation is known
 *     20 salt-1      24 salt-2         28 checksum-1, 32 checksum-2: running checksum before the first frame
 *     36 number of the first frame     40 count of frames      44 serial number of the segment
 *     48 salt-1, 52 salt-2, 56 last frame of the previous generation (flag 2)
 *     60 crc32 of the frames           64 crc32 of bytes 0..63  68 zero
 *     72 frames as in the WAL (24-byte header + page), count times
 *
 * A segment gets its name by rename after its last byte was written, so a killed keeper leaves a `.tmp` behind, never
 * half a segment. With `durable` it is on the disk before its frames may leave the WAL; without, a power loss may tear it, and its crc tells.
 */
import { closeSync, fstatSync, openSync, readdirSync, readSync, renameSync, unlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { syncData, syncDirectory } from '../support/file.ts';
import { FRAME_HEADER_BYTES, WAL_HEADER_BYTES, frameOffset, parseWalHeader, type Checksum } from '../sqlite/wal.ts';

export const SPOOL_HEADER_BYTES = 72;
const MAGIC = Buffer.from('wagglesp', 'latin1');
const VERSION = 1;
const BIG_ENDIAN = 1;
const HAS_PREVIOUS = 2;
const COPY_BYTES = 1 << 20;

export interface Salts {
  readonly salt1: number;
  readonly salt2: number;
}

/** A generation that has ended: its salts and the number of its last frame. */
export interface EndedGeneration extends Salts {
  readonly lastFrame: number;
}

/** What a segment holds. */
export interface SpoolSegment extends Salts {
  readonly path: string;
  /** Grows from segment to segment in one spool directory, also over restarts. */
  readonly serial: number;
  readonly pageSize: number;
  readonly bigEndianChecksums: boolean;
  readonly firstFrame: number;
  readonly lastFrame: number;
  /** Running checksum before the first frame. */
  readonly before: Checksum;
  /** The generation before this segment's, where the keeper saw it end. */
  readonly previous: EndedGeneration | null;
}

export interface SpoolRequest extends Salts {
  readonly dir: string;
  readonly serial: number;
  readonly walFd: number;
  readonly pageSize: number;
  readonly firstFrame: number;
  readonly lastFrame: number;
  readonly previous: EndedGeneration | null;
  /** A power loss does not take it. Default: it may. */
  readonly durable?: boolean;
}

/** The WAL does not hold the frames that were asked for: it was reset, or it is shorter. */
export class FramesGone extends Error {
  override readonly name = 'FramesGone';
}

let copyBuffer: Buffer | null = null;

/**
 * Copies frames of the live WAL into a new segment. Every frame's salts are checked; the checksums are not (its reader
 * does that). The caller holds a pin, or verifies afterwards that the salts of the wal-index have not changed.
 * Throws `FramesGone`, or the system's error; then no file is left.
 */
export const writeSpoolSegment = (request: SpoolRequest): SpoolSegment => {
  const { dir, serial, walFd, pageSize, firstFrame, lastFrame, previous } = request;
  const { bigEndianChecksums, before } = readChecksumBefore(request);
  const name = `${String(serial).padStart(10, '0')}-${firstFrame}-${lastFrame}.frames`;
  const path = join(dir, name);
  const temporary = `${path}.tmp`;
  const frameBytes = FRAME_HEADER_BYTES + pageSize;
  const framesACopy = Math.max(1, Math.floor(COPY_BYTES / frameBytes));
  if (copyBuffer === null || copyBuffer.length < framesACopy * frameBytes) copyBuffer = Buffer.alloc(framesACopy * frameBytes);
  const fd = openSync(temporary, 'w', 0o600);
  try {
    let crc = 0;
    let at = SPOOL_HEADER_BYTES;
    for (let frame = firstFrame; frame <= lastFrame;) {
      const count = Math.min(framesACopy, lastFrame - frame + 1);
      const bytes = copyBuffer.subarray(0, count * frameBytes);
      if (readFully(walFd, bytes, frameOffset(frame, pageSize)) < bytes.length) throw new FramesGone(`the WAL ends before frame ${lastFrame}`);
      for (let offset = 0; offset < bytes.length; offset += frameBytes) {
        if (bytes.readUInt32BE(offset + 8) !== request.salt1 || bytes.readUInt32BE(offset + 12) !== request.salt2)
          throw new FramesGone('the WAL holds frames of another generation');
      }
      crc = crc32(bytes, crc);
      writeFully(fd, bytes, at);
      at += bytes.length;
      frame += count;
    }
    const head = Buffer.alloc(SPOOL_HEADER_BYTES);
    MAGIC.copy(head, 0);
    const flags = (bigEndianChecksums ? BIG_ENDIAN : 0) | (previous === null ? 0 : HAS_PREVIOUS);
    const words = [VERSION, pageSize, flags, request.salt1, request.salt2, before.checksum1, before.checksum2, firstFrame];
    words.push(lastFrame - firstFrame + 1, serial, previous?.salt1 ?? 0, previous?.salt2 ?? 0, previous?.lastFrame ?? 0, crc);
    words.forEach((word, index) => head.writeUInt32BE(word, 8 + index * 4));
    head.writeUInt32BE(crc32(head.subarray(0, 64)), 64);
    writeFully(fd, head, 0);
    if (request.durable === true) syncData(fd);
    closeSync(fd);
  } catch (error) {
    closeSyncQuietly(fd);
    unlinkSync(temporary);
    throw error;
  }
  renameSync(temporary, path);
  if (request.durable === true) syncDirectory(dir);
  return { path, serial, pageSize, bigEndianChecksums, firstFrame, lastFrame, before, previous, salt1: request.salt1, salt2: request.salt2 };
};

/** The checksum that runs into `firstFrame`: stored in the frame before it, or in the WAL's header. */
const readChecksumBefore = (request: SpoolRequest): { bigEndianChecksums: boolean; before: Checksum } => {
  const head = Buffer.alloc(WAL_HEADER_BYTES);
  readFully(request.walFd, head, 0);
  const header = parseWalHeader(head);
  if (header === null || header.salt1 !== request.salt1 || header.salt2 !== request.salt2) throw new FramesGone('the WAL has another header');
  const { bigEndianChecksums, checksum1, checksum2 } = header;
  if (request.firstFrame === 1) return { bigEndianChecksums, before: { checksum1, checksum2 } };
  const frame = Buffer.alloc(FRAME_HEADER_BYTES);
  const read = readFully(request.walFd, frame, frameOffset(request.firstFrame - 1, request.pageSize));
  if (read < FRAME_HEADER_BYTES || frame.readUInt32BE(8) !== request.salt1 || frame.readUInt32BE(12) !== request.salt2)
    throw new FramesGone('the WAL holds frames of another generation');
  return { bigEndianChecksums, before: { checksum1: frame.readUInt32BE(16), checksum2: frame.readUInt32BE(20) } };
};

/** An open segment. Reading goes on working after the keeper has unlinked the file. */
export class SpoolReader implements Disposable {
  readonly segment: SpoolSegment;
  readonly #fd: number;

  constructor(fd: number, segment: SpoolSegment) {
    this.#fd = fd;
    this.segment = segment;
  }

  /** Raw frames from `firstFrame` on into `into`; gives the bytes read: `count` whole frames. All must lie in the segment. */
  readFrames(firstFrame: number, count: number, into: Buffer): number {
    const { segment } = this;
    if (firstFrame < segment.firstFrame || firstFrame + count - 1 > segment.lastFrame)
      throw new RangeError(`frames ${firstFrame}..${firstFrame + count - 1} are not in segment ${segment.firstFrame}..${segment.lastFrame}`);
    const frameBytes = FRAME_HEADER_BYTES + segment.pageSize;
    const offset = SPOOL_HEADER_BYTES + (firstFrame - segment.firstFrame) * frameBytes;
    return readFully(this.#fd, into.subarray(0, count * frameBytes), offset);
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

/**
 * Opens a segment; null if it is torn or no segment. `verify` also reads it through and checks the crc of the frames,
 * which is worth it for segments that a killed process or a power loss left behind.
 */
export const openSpoolSegment = (path: string, options: { readonly verify: boolean }): SpoolReader | null => {
  const fd = openSync(path, 'r');
  const segment = readSegment(fd, path, options.verify);
  if (segment !== null) return new SpoolReader(fd, segment);
  closeSync(fd);
  return null;
};

const readSegment = (fd: number, path: string, verify: boolean): SpoolSegment | null => {
  const head = Buffer.alloc(SPOOL_HEADER_BYTES);
  if (readFully(fd, head, 0) < SPOOL_HEADER_BYTES || !head.subarray(0, 8).equals(MAGIC)) return null;
  const word = (at: number): number => head.readUInt32BE(at);
  if (word(8) !== VERSION || word(64) !== crc32(head.subarray(0, 64))) return null;
  const pageSize = word(12);
  const frameBytes = FRAME_HEADER_BYTES + pageSize;
  const count = word(40);
  if (count === 0 || fstatSync(fd).size < SPOOL_HEADER_BYTES + count * frameBytes) return null;
  if (verify) {
    const bytes = Buffer.alloc(Math.max(1, Math.floor(COPY_BYTES / frameBytes)) * frameBytes);
    let crc = 0;
    for (let at = 0; at < count * frameBytes;) {
      const part = bytes.subarray(0, Math.min(bytes.length, count * frameBytes - at));
      if (readFully(fd, part, SPOOL_HEADER_BYTES + at) < part.length) return null;
      crc = crc32(part, crc);
      at += part.length;
    }
    if (crc !== word(60)) return null;
  }
  return {
    path,
    serial: word(44),
    pageSize,
    bigEndianChecksums: (word(16) & BIG_ENDIAN) !== 0,
    salt1: word(20),
    salt2: word(24),
    firstFrame: word(36),
    lastFrame: word(36) + count - 1,
    before: { checksum1: word(28), checksum2: word(32) },
    previous: (word(16) & HAS_PREVIOUS) === 0 ? null : { salt1: word(48), salt2: word(52), lastFrame: word(56) },
  };
};

export interface SpoolListing {
  /** Sound segments in the order in which they were written. */
  readonly segments: SpoolSegment[];
  /** Paths of torn segments and of segments that were never finished. */
  readonly damaged: string[];
}

/** Reads every segment of the directory through. */
export const listSpoolSegments = (dir: string): SpoolListing => {
  const segments: SpoolSegment[] = [];
  const damaged: string[] = [];
  for (const name of readdirSync(dir)) {
    const path = join(dir, name);
    if (name.endsWith('.frames.tmp')) damaged.push(path);
    if (!name.endsWith('.frames')) continue;
    using reader = openSpoolSegment(path, { verify: true });
    if (reader === null) damaged.push(path);
    else segments.push(reader.segment);
  }
  segments.sort((a, b) => a.serial - b.serial);
  return { segments, damaged };
};

const readFully = (fd: number, into: Buffer, position: number): number => {
  let done = 0;
  while (done < into.length) {
    const read = readSync(fd, into, done, into.length - done, position + done);
    if (read === 0) break;
    done += read;
  }
  return done;
};

const writeFully = (fd: number, bytes: Buffer, position: number): void => {
  let done = 0;
  while (done < bytes.length) done += writeSync(fd, bytes, done, bytes.length - done, position + done);
};

const closeSyncQuietly = (fd: number): void => {
  try {
    closeSync(fd);
  } catch {
    // A second fault while giving up on the segment tells nothing new.
  }
};
