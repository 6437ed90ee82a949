import Database from 'better-sqlite3';
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Ledger } from '../../src/keeper/ledger.ts';
import { FramesGone, listSpoolSegments, openSpoolSegment, writeSpoolSegment, type SpoolRequest } from '../../src/keeper/spool.ts';
import { Spooler } from '../../src/keeper/spooler.ts';
import { FRAME_HEADER_BYTES, frameChecksum, frameOffset, parseWalHeader } from '../../src/sqlite/wal.ts';

const PAGE = 4096;
const FRAME = PAGE + FRAME_HEADER_BYTES;

let dir: string;
let wal: Buffer;
let request: SpoolRequest;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'waggle-spool-'));
  const path = join(dir, 'hive.db');
  const database = new Database(path);
  database.pragma('journal_mode = WAL');
  database.exec('CREATE TABLE t (a)');
  const insert = database.prepare('INSERT INTO t VALUES (randomblob(3000))');
  for (let row = 0; row < 300; row++) insert.run();
  // A copy, so that no descriptor of the database is closed in this process while it is open.
  copyFileSync(`${path}-wal`, join(dir, 'wal'));
  database.close();
  mkdirSync(join(dir, 'spool'));
  wal = readFileSync(join(dir, 'wal'));
  const header = parseWalHeader(wal);
  if (header === null) throw new Error('no WAL');
  const { salt1, salt2 } = header;
  request = {
    dir: join(dir, 'spool'),
    serial: 1,
    walFd: openSync(join(dir, 'wal'), 'r'),
    pageSize: PAGE,
    firstFrame: 1,
    lastFrame: 100,
    previous: null,
    salt1,
    salt2,
  };
});

afterEach(() => {
  closeSync(request.walFd);
  rmSync(dir, { recursive: true });
});

test('a segment gives back the frames byte for byte, and the checksum that runs into them', () => {
  writeSpoolSegment(request);
  const previous = { salt1: 7, salt2: 8, lastFrame: 9 };
  const { path } = writeSpoolSegment({ ...request, serial: 2, firstFrame: 101, lastFrame: 400, previous });
  using reader = openSpoolSegment(path, { verify: true });
  expect(reader?.segment).toMatchObject({ firstFrame: 101, lastFrame: 400, serial: 2, previous });
  const frames = Buffer.alloc(300 * FRAME);
  expect(reader?.readFrames(101, 300, frames)).toBe(frames.length);
  expect(frames.equals(wal.subarray(frameOffset(101, PAGE), frameOffset(401, PAGE)))).toBe(true);
  const part = Buffer.alloc(2 * FRAME);
  reader?.readFrames(150, 2, part);
  expect(part.equals(wal.subarray(frameOffset(150, PAGE), frameOffset(152, PAGE)))).toBe(true);
  const { before, bigEndianChecksums } = reader!.segment;
  expect(frameChecksum(frames, 0, PAGE, bigEndianChecksums, before).checksum1).toBe(frames.readUInt32BE(16));
  expect(() => reader?.readFrames(100, 1, part)).toThrow(RangeError);
});

test('frames of another generation or beyond the end are refused, and leave no file', () => {
  expect(() => writeSpoolSegment({ ...request, salt2: 1 })).toThrow(FramesGone);
  expect(() => writeSpoolSegment({ ...request, lastFrame: 100_000 })).toThrow(FramesGone);
  expect(listSpoolSegments(request.dir)).toEqual({ segments: [], damaged: [] });
});

test('torn, shortened and unfinished segments are recognised; the order is that of writing', () => {
  const serials = [3, 1, 2, 4, 5].map((serial) => writeSpoolSegment({ ...request, serial, firstFrame: serial, lastFrame: serial + 20 }));
  const shortened = serials[3]!.path;
  truncateSync(shortened, statSync(shortened).size - 1);
  const flipped = serials[4]!.path;
  const fd = openSync(flipped, 'r+');
  writeSync(fd, Buffer.from([1, 2, 3]), 0, 3, 5000);
  closeSync(fd);
  const unfinished = join(request.dir, '0000000009-1-2.frames.tmp');
  writeFileSync(unfinished, 'half');
  writeFileSync(join(request.dir, 'ledger.json'), '{}');
  const { segments, damaged } = listSpoolSegments(request.dir);
  expect(segments.map((segment) => segment.serial)).toEqual([1, 2, 3]);
  expect(damaged.toSorted()).toEqual([shortened, flipped, unfinished].toSorted());
});

test('what is left over of earlier generations goes as a daemon takes it, one after the other', () => {
  const ledger = { generation: 1, salts: { salt1: request.salt1, salt2: request.salt2 }, previous: null } as Ledger;
  // As a later listing has them: two segments of one generation, one of the next, one of the current.
  const leftover = [1, 2, 3, 4].map((serial) => ({
    ...writeSpoolSegment({ ...request, serial, firstFrame: serial, lastFrame: serial }),
    ...[{ salt1: 1, salt2: 1 }, { salt1: 1, salt2: 1 }, { salt1: 2, salt2: 2 }, {}][serial - 1],
  }));
  const left = (): number[] => listSpoolSegments(request.dir).segments.map((segment) => segment.serial);
  const spooler = new Spooler({
    dir: request.dir,
    walFd: request.walFd,
    pageSize: PAGE,
    ledger,
    leftover,
    drained: 0,
    limitBytes: () => 6 * FRAME,
    isDurable: () => false,
    spooled: () => {},
    stuck: (error) => {
      throw error;
    },
  });
  expect(spooler.heldBytes).toBe(4 * FRAME);
  spooler.drained(-1, 1);
  expect(left()).toEqual([2, 3, 4]);
  spooler.drained(0, 0);
  expect(left()).toEqual([3, 4]);
  spooler.drained(0, 3);
  expect(left()).toEqual([4]);
  expect(spooler.heldBytes).toBe(FRAME);
  spooler.drained(1, 4);
  expect([left(), spooler.heldBytes]).toEqual([[], 0]);
  // Within the limit, and not beyond it.
  expect(spooler.spoolTo(10, 0)).toBe(true);
  expect(spooler.spoolTo(11, 0)).toBe(false);
  expect(spooler.isFull).toBe(true);
  expect(spooler.safe).toBe(10);
});
