/** Checksums and headers of real WAL files and wal-indexes, as SQLite wrote them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { expect, it } from 'vitest';
import { parseWalIndexHeader } from '../../src/sqlite/wal-index.ts';
import { FRAME_HEADER_BYTES, frameChecksum, frameOffset, parseWalHeader, walChecksum } from '../../src/sqlite/wal.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';

it.each([512, 4096, 65536])(
  'every frame of a WAL with page size %i has the checksum that SQLite stored, the last one the wal-index’s',
  (pageSize) => {
    using directory = temporaryDirectory();
    const path = join(directory.path, 'db');
    const db = new Database(path);
    db.pragma(`page_size = ${pageSize}`);
    db.pragma('journal_mode = WAL');
    db.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, v)');
    for (let id = 1; id < 20; id += 1) db.prepare('INSERT INTO t VALUES (?, zeroblob(?))').run(id, id * 100);
    const wal = readFileSync(`${path}-wal`);
    const shm = readFileSync(`${path}-shm`);
    db.close();

    const header = parseWalHeader(wal)!;
    const index = parseWalIndexHeader(shm);
    if (typeof index === 'string') throw new Error(index);
    expect([header.pageSize, index.pageSize]).toEqual([pageSize, pageSize]);
    let running = { checksum1: header.checksum1, checksum2: header.checksum2 };
    let offset = 0;
    for (let frame = 1; frame <= index.mxFrame; frame += 1) {
      offset = frameOffset(frame, pageSize);
      running = frameChecksum(wal, offset, pageSize, header.bigEndianChecksums, running);
      expect(running).toEqual({ checksum1: wal.readUInt32BE(offset + 16), checksum2: wal.readUInt32BE(offset + 20) });
    }
    expect(running).toEqual({ checksum1: index.checksum1, checksum2: index.checksum2 });
    expect([wal.readUInt32BE(offset + 4), header.salt1, header.salt2]).toEqual([index.sizePages, index.salt1, index.salt2]);

    // One bit anywhere in a frame changes its sum.
    for (const at of [0, 5, FRAME_HEADER_BYTES, FRAME_HEADER_BYTES + pageSize - 1]) {
      const damaged = Buffer.from(wal.subarray(frameOffset(1, pageSize), frameOffset(2, pageSize)));
      damaged[at] = damaged[at]! ^ 4;
      expect(frameChecksum(damaged, 0, pageSize, false, header)).not.toEqual({
        checksum1: damaged.readUInt32BE(16),
        checksum2: damaged.readUInt32BE(20),
      });
    }
    // A header torn in any byte that its checksum covers is none.
    for (let at = 0; at < 24; at += 1) {
      const damaged = Buffer.from(wal.subarray(0, 32));
      damaged[at] = damaged[at]! ^ 1;
      expect(parseWalHeader(damaged)).toBeNull();
    }
    for (let at = 0; at < 48; at += 1) {
      const torn = Buffer.from(shm.subarray(0, 136));
      torn[at] = torn[at]! ^ 1;
      expect(parseWalIndexHeader(torn)).toBe('torn');
      // Both copies wrong in the same way.
      torn[at + 48] = torn[at + 48]! ^ 1;
      expect(['torn', 'uninitialised']).toContain(parseWalIndexHeader(torn));
    }
    expect(parseWalIndexHeader(shm.subarray(0, 135))).toBe('uninitialised');
  },
);

it('sums are the same over bytes of either order and at any alignment', () => {
  const bytes = Buffer.from(Array.from({ length: 64 }, (_, index) => (index * 37) & 255));
  const swapped = Buffer.from(bytes).swap32();
  const sum = walChecksum(bytes, 0, 64, false, 3, 5);
  expect(walChecksum(swapped, 0, 64, true, 3, 5)).toEqual(sum);
  const shifted = Buffer.concat([Buffer.alloc(1), bytes]).subarray(1);
  expect(walChecksum(shifted, 0, 64, false, 3, 5)).toEqual(sum);
});

it('offsets beyond 4 GiB are exact', () => {
  expect(frameOffset(2_000_000, 4096)).toBe(32 + 1_999_999 * 4120);
  expect(frameOffset(4_294_967_295, 65536)).toBe(32 + 4_294_967_294 * 65560);
});
