/** Small files with one fault each (made by make-golden.mjs): what capture says of them. */
import { copyFileSync, readFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Replica } from '../../src/capture/replica.ts';
import { HiveSnapshot } from '../../src/hive/hive-snapshot.ts';
import { Mirror } from '../../src/mirror/mirror.ts';
import { parseDatabaseHeader } from '../../src/sqlite/database-header.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';

const PAGE_SIZE = 512;

/** Copies the golden file into a directory of the test. */
const open = (directory: string, name: string): string => {
  const path = join(directory, 'db');
  for (const suffix of ['', '-wal']) {
    const golden = join(import.meta.dirname, `${name}.db${suffix}`);
    if (existsSync(golden)) copyFileSync(golden, path + suffix);
  }
  return path;
};

/** Number of rows of t that can be read, or why not. */
const readDatabase = async (name: string): Promise<number | string> => {
  using directory = temporaryDirectory();
  const bytes = readFileSync(open(directory.path, name));
  await using mirror = Mirror.create(
    { directory: join(directory.path, 'mirror'), pageSize: PAGE_SIZE, durability: 'os', makeLogDurable: () => {} },
    { sizePages: bytes.length / PAGE_SIZE, batchId: 1, page: (page) => bytes.subarray((page - 1) * PAGE_SIZE, page * PAGE_SIZE) },
  );
  try {
    return Replica.read(mirror, { captured: () => true, known: null, firstVersion: 1 }).readRows('t', null, Infinity)!.rowids.length;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
};

describe('databases', () => {
  it.each<[string, number | string]>([
    ['sound', 203],
    ['overflow-chain-in-a-circle', 'is referred to twice'],
    ['overflow-chain-ends-early', 'overflow chain ends before its payload'],
    ['overflow-page-behind-the-end', 'page 99999 lies outside the database'],
    ['payload-of-2-gb', 'overflow chain ends before its payload'],
    ['child-is-the-root', 'page 2 is referred to twice'],
    ['child-is-page-0', 'page 0 as a child'],
    ['child-twice', 'is referred to twice'],
    ['cell-behind-the-page', 'cell ends behind the page'],
    ['cell-in-the-header', 'cell lies in the page header'],
    ['too-many-cells', 'cell pointers run past the page'],
    ['root-is-an-index-page', 'page 2 is not a table page (kind 10)'],
    ['record-longer-than-its-cell', 'record values do not fill the record'],
    ['text-encoding-4', 'page 1 is not the first page of a database'],
  ])('%s', async (name, expected) => {
    expect(String(await readDatabase(name))).toContain(String(expected));
  });
});

describe('WALs', () => {
  const snapshotOf = (name: string): string => {
    using directory = temporaryDirectory();
    const path = open(directory.path, name);
    const wal = readFileSync(`${path}-wal`);
    const place = { salt1: wal.readUInt32BE(16), salt2: wal.readUInt32BE(20), mxFrame: 5, complete: false };
    try {
      using snapshot = HiveSnapshot.open(path, place);
      return `${snapshot.sizePages} pages, ${parseDatabaseHeader(snapshot.page(1))!.sizePages}`;
    } catch (error) {
      return error instanceof Error ? `${'code' in error ? String(error.code) : ''} ${error.message}` : String(error);
    }
  };

  it.each([
    ['wal-sound', '2 pages, 2'],
    ['wal-flipped-bit-in-a-page', 'HIVE_CORRUPT the checksum of WAL frame 2 is wrong'],
    ['wal-flipped-bit-in-a-page-number', 'HIVE_CORRUPT the checksum of WAL frame 3 is wrong'],
    ['wal-frame-of-another-generation', 'HIVE_CORRUPT the checksum of WAL frame 4 is wrong'],
    ['wal-header-checksum', 'PIN_LOST'],
    ['wal-cut-off-inside-a-frame', 'PIN_LOST'],
  ])('%s', (name, expected) => {
    expect(snapshotOf(name)).toContain(expected);
  });
});
