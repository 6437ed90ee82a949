/** Small files with one fault each (made by make-golden.mjs): what capture says of them. */
import { copyFileSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { mirrorSnapshot, requirePages } from '../../src/capture/recovery.ts';
import { Replica } from '../../src/capture/replica.ts';
import { HiveSnapshot } from '../../src/hive/hive-snapshot.ts';
import { PageCorruption } from '../../src/sqlite/btree-page.ts';
import { parseDatabaseHeader } from '../../src/sqlite/database-header.ts';
import { RecordError } from '../../src/sqlite/record.ts';
import { parseWalIndexHeader } from '../../src/sqlite/wal-index.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { replicaRows } from '../helpers/replica-rows.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';

/** Copies the golden file into a directory of the test. */
const open = (directory: string, name: string): string => {
  const path = join(directory, 'db');
  for (const suffix of ['', '-wal']) {
    const golden = join(import.meta.dirname, `${name}.db${suffix}`);
    if (existsSync(golden)) copyFileSync(golden, path + suffix);
  }
  return path;
};

/** Number of rows of t that capture reads, or why not: what a thread of it would say. */
const readDatabase = async (name: string): Promise<number | string> => {
  using directory = temporaryDirectory();
  try {
    using snapshot = HiveSnapshot.open(open(directory.path, name), { salt1: 0, salt2: 0, mxFrame: 0, complete: true });
    const { pageSize } = snapshot.header;
    await using mirror = mirrorSnapshot(snapshot, { directory: join(directory.path, 'mirror'), pageSize, durability: 'os', makeLogDurable: () => {} }, 1);
    const replica = Replica.read(mirror, { captured: () => true, known: null, firstVersion: 1 });
    requirePages(replica.map, snapshot);
    return replicaRows(replica, 't').rows.length;
  } catch (error) {
    if (error instanceof WaggleError) return `${error.code} ${error.message}`;
    // What reading rows throws, and capture turns into HIVE_CORRUPT.
    if (error instanceof PageCorruption || error instanceof RecordError) return `HIVE_CORRUPT ${error.message}`;
    throw error;
  }
};

describe('databases', () => {
  it.each<[string, number | string | RegExp]>([
    ['sound', 203],
    ['overflow-chain-in-a-circle', 'HIVE_CORRUPT table "t": page 4 is referred to twice'],
    ['overflow-chain-ends-early', 'HIVE_CORRUPT table "t": page 2: an overflow chain ends before its payload'],
    ['overflow-page-behind-the-end', 'HIVE_CORRUPT table "t": page 99999 lies outside the database'],
    ['two-cells-on-one-overflow-chain', 'is referred to twice'],
    ['payload-of-2-gb', 'HIVE_CORRUPT table "t": page 2: an overflow chain ends before its payload'],
    ['child-is-the-root', 'HIVE_CORRUPT table "t": page 2 is referred to twice'],
    ['child-is-page-0', 'HIVE_CORRUPT table "t": page 2: an interior page has page 0 as a child'],
    ['child-twice', 'is referred to twice'],
    ['child-of-another-table', 'HIVE_CORRUPT table "u": page 3 is referred to twice'],
    ['leaf-without-a-cell', ': a leaf without a cell'],
    ['leaf-is-a-free-page', 'is of another kind of tree (kind 0)'],
    ['interior-page-without-a-cell', 'HIVE_CORRUPT table "t": page 2: an interior page without a cell'],
    ['cell-behind-the-page', 'HIVE_CORRUPT table "t": page 2: a cell ends behind the page'],
    ['cell-in-the-header', 'HIVE_CORRUPT table "t": page 2: a cell lies in the page header'],
    ['too-many-cells', 'HIVE_CORRUPT table "t": page 2: cell pointers run past the page'],
    ['root-is-an-index-page', 'HIVE_CORRUPT table "t": page 2 is of another kind of tree (kind 10)'],
    ['rowids-out-of-order', 'HIVE_CORRUPT page 2: rowids are out of order'],
    ['record-longer-than-its-cell', 'HIVE_CORRUPT page 2: record values do not fill the record'],
    ['record-header-longer-than-its-record', 'HIVE_CORRUPT page 2: record header is longer than the record'],
    ['reserved-serial-type', 'HIVE_CORRUPT page 2: reserved serial type 10'],
    ['cut-off-in-an-overflow-chain', /HIVE_CORRUPT page \d of a table lies behind the end of the file/],
    ['cut-off-behind-page-1', 'HIVE_CORRUPT page 1 counts 2 pages, the file holds 1'],
    ['page-count-of-2-billion', 'HIVE_CORRUPT page 1 counts 2147483648 pages, the file holds 2'],
    ['no-page-1', 'HIVE_NOT_A_DATABASE'],
    ['magic', 'HIVE_NOT_A_DATABASE'],
    ['page-size-1000', 'HIVE_NOT_A_DATABASE'],
    ['reserved-bytes-200', 'HIVE_NOT_A_DATABASE'],
    ['text-encoding-4', 'HIVE_NOT_A_DATABASE'],
    ['schema-is-no-table', 'HIVE_CORRUPT table "sqlite_schema": page 1 is of another kind of tree (kind 10)'],
    ['schema-root-behind-the-end', 'HIVE_CORRUPT table "t": page 99 lies outside the database'],
    ['schema-statement-is-none', 'CATALOG_UNREADABLE'],
  ])('%s', async (name, expected) => {
    expect(String(await readDatabase(name))).toMatch(expected instanceof RegExp ? expected : new RegExp(RegExp.escape(String(expected))));
  });
});

describe('WALs', () => {
  const snapshotOf = (name: string): string => {
    using directory = temporaryDirectory();
    const path = open(directory.path, name);
    const wal = readFileSync(`${path}-wal`);
    const place = { salt1: wal.length === 0 ? 1 : wal.readUInt32BE(16), salt2: wal.length === 0 ? 1 : wal.readUInt32BE(20), mxFrame: 5, complete: false };
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
    ['wal-empty', 'PIN_LOST'],
    ['wal-magic', 'PIN_LOST'],
    ['wal-page-size-1024', 'PIN_LOST'],
    ['wal-frame-left-out', 'PIN_LOST'],
    ['wal-frame-twice', 'HIVE_CORRUPT the checksum of WAL frame 4 is wrong'],
    ['wal-flipped-bit-in-a-database-size', 'HIVE_CORRUPT the checksum of WAL frame 5 is wrong'],
    ['wal-flipped-bit-in-a-checksum', 'HIVE_CORRUPT the checksum of WAL frame 1 is wrong'],
    // Behind the last commit: the normal end of data.
    ['wal-torn-tail', '2 pages, 2'],
  ])('%s', (name, expected) => {
    expect(snapshotOf(name)).toContain(expected);
  });
});

describe('wal-indexes', () => {
  it.each([
    ['shm-sound', 'object'],
    ['shm-copies-differ', 'torn'],
    ['shm-copies-wrong-in-the-same-way', 'torn'],
    ['shm-not-initialised', 'uninitialised'],
    ['shm-cut-off', 'uninitialised'],
    ['shm-of-another-version', 'torn'],
  ])('%s', (name, expected) => {
    const state = parseWalIndexHeader(readFileSync(join(import.meta.dirname, `${name}.db-shm`)));
    expect(typeof state === 'object' ? 'object' : state).toBe(expected);
  });
});

it('every golden file has its test', () => {
  const names = readdirSync(import.meta.dirname).flatMap((name) => /^(.*)\.db(-wal|-shm)?$/.exec(name)?.[1] ?? []);
  const text = readFileSync(import.meta.filename, 'utf8');
  expect([...new Set(names)].filter((name) => !text.includes(`'${name}'`))).toEqual([]);
});
