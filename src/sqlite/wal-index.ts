/**
 * The wal-index header, the first 136 bytes of the -shm file (https://sqlite.org/walformat.html#the_wal_index_header),
 * in the machine's own byte order; salts are stored as the big-endian bytes of the WAL:
 *
 *     0 version 3007000   8 iChange   12 isInit u8   13 bigEndCksum u8   14 page size u16 (1 = 65536)
 *     16 mxFrame          20 nPage (database size in pages)              24 checksum of frame mxFrame, 2 × u32
 *     32 salts, 2 × u32   40 checksum of bytes 0..39, 2 × u32
 *     48 a second copy of 0..47
 *     96 nBackfill        100 five read marks, 5 × u32                   120 locks   128 nBackfillAttempted
 *
 * A writer changes the second copy first and the first copy last; copies that differ are a write in progress (or a
 * writer that was killed inside it: only a new read transaction of SQLite repairs that).
 */
import { endianness } from 'node:os';
import { walChecksum } from './wal.ts';

export const WAL_INDEX_HEADER_BYTES = 136;
const COPY_BYTES = 48;
const LITTLE = endianness() === 'LE';

export interface WalIndexHeader {
  readonly pageSize: number;
  /** Number of the last committed frame; 0: the WAL holds none. */
  readonly mxFrame: number;
  /** Database size in pages as of mxFrame. */
  readonly sizePages: number;
  /** Running checksum as stored in frame mxFrame. */
  readonly checksum1: number;
  readonly checksum2: number;
  readonly salt1: number;
  readonly salt2: number;
  /** Frames up to here stand in the database file. Not covered by the header's checksum. */
  readonly backfill: number;
}

/** `torn`: copies differ or the checksum fails: read again. `uninitialised`: no connection has set it up yet. */
export type WalIndexState = WalIndexHeader | 'torn' | 'uninitialised';

/** Judges bytes read in one go from the start of -shm; shorter input is `uninitialised`. */
export const parseWalIndexHeader = (bytes: Buffer): WalIndexState => {
  if (bytes.length < WAL_INDEX_HEADER_BYTES) return 'uninitialised';
  if (bytes.compare(bytes, COPY_BYTES, COPY_BYTES * 2, 0, COPY_BYTES) !== 0) return 'torn';
  if (bytes[12] === 0) return 'uninitialised';
  const u32 = LITTLE ? (at: number) => bytes.readUInt32LE(at) : (at: number) => bytes.readUInt32BE(at);
  const sum = walChecksum(bytes, 0, 40, !LITTLE, 0, 0);
  if (sum.checksum1 !== u32(40) || sum.checksum2 !== u32(44)) return 'torn';
  const raw = LITTLE ? bytes.readUInt16LE(14) : bytes.readUInt16BE(14);
  return {
    pageSize: (raw & 0xfe00) + ((raw & 1) << 16),
    mxFrame: u32(16),
    sizePages: u32(20),
    checksum1: u32(24),
    checksum2: u32(28),
    salt1: bytes.readUInt32BE(32),
    salt2: bytes.readUInt32BE(36),
    backfill: u32(96),
  };
};
