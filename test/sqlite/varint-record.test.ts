/** Varints and records against SQLite itself: what it wrote is read back. */
import * as fc from 'fast-check';
import Database from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import { checkRecord, decodeRecord, RecordError } from '../../src/sqlite/record.ts';
import { readRowid, readVarint, varintEnd, varintLength, writeVarint } from '../../src/sqlite/varint.ts';
import { leafCells } from '../helpers/leaf-cells.ts';

const reference = (value: bigint): Buffer => {
  const unsigned = BigInt.asUintN(64, value);
  if (unsigned >= 1n << 56n) {
    const bytes = Array.from({ length: 8 }, (_, index) => Number((unsigned >> BigInt(8 + 7 * (7 - index))) & 127n) | 128);
    return Buffer.from([...bytes, Number(unsigned & 255n)]);
  }
  const groups: number[] = [];
  for (let rest = unsigned; groups.length === 0 || rest > 0n; rest >>= 7n) groups.unshift(Number(rest & 127n) | (groups.length === 0 ? 0 : 128));
  return Buffer.from(groups);
};

describe('varints', () => {
  it('rowids of all sizes are what SQLite stored', () => {
    const ids = [
      0n,
      1n,
      127n,
      128n,
      16383n,
      16384n,
      2n ** 31n,
      2n ** 49n - 1n,
      2n ** 49n,
      2n ** 53n - 1n,
      2n ** 53n,
      2n ** 56n - 1n,
      2n ** 56n,
      2n ** 63n - 1n,
      -1n,
      -128n,
      -(2n ** 53n),
      -(2n ** 63n),
    ];
    const db = new Database(':memory:');
    db.exec('CREATE TABLE t (id INTEGER PRIMARY KEY)');
    const insert = db.prepare('INSERT INTO t VALUES (?)');
    for (const id of ids) insert.run(id);
    const stored = leafCells(db, 't').map((cell) => BigInt(cell.rowid));
    expect(stored).toEqual(ids.toSorted((a, b) => (a < b ? -1 : 1)));
  });

  it('round trips, ends where the bytes end, and is canonical', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), fc.nat(3), (value, offset) => {
        const bytes = Buffer.concat([Buffer.alloc(offset, 0xff), reference(value), Buffer.from([0xff])]);
        const rowid = readRowid(bytes, offset);
        expect(BigInt(rowid)).toBe(value);
        expect(typeof rowid).toBe(value >= -(2n ** 53n) + 1n && value < 2n ** 53n ? 'number' : 'bigint');
        expect(varintEnd).toBe(bytes.length - 1);
        if (value < 0n || value >= 2n ** 53n) return;
        expect(readVarint(bytes, offset)).toBe(Number(value));
        expect(varintEnd).toBe(bytes.length - 1);
        expect(varintLength(Number(value))).toBe(bytes.length - 1 - offset);
        const written = Buffer.alloc(10);
        expect(written.subarray(0, writeVarint(written, 0, Number(value)))).toEqual(reference(value));
      }),
      { numRuns: 2000 },
    );
  });

  it('runs off the end without throwing: the end tells', () => {
    for (const bytes of [Buffer.alloc(0), Buffer.from([0x80]), Buffer.alloc(8, 0xff)]) {
      readRowid(bytes, 0);
      expect(varintEnd).toBeGreaterThan(bytes.length);
    }
  });
});

describe('records', () => {
  const value = fc.oneof(
    fc.constant(null),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    fc.constantFrom(0n, 1n, -1n, 127n, 128n, -128n, 32767n, 2n ** 23n, 2n ** 31n, 2n ** 47n, -(2n ** 47n) - 1n),
    fc.double({ noNaN: true }).map((number) => (Object.is(number, -0) ? 0.5 : number)),
    fc.string({ unit: 'grapheme', maxLength: 80 }).filter((text) => text.isWellFormed()),
    // Short ones are read together, unless others stand between them; with a character beyond ASCII anywhere they are not.
    fc.string({ unit: 'binary-ascii', maxLength: 80 }),
    fc.tuple(fc.nat(600), fc.constantFrom('', 'é', '€', '🐝')).map(([length, end]) => 'a'.repeat(length) + end),
    fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
  );

  it.each(['utf8', 'utf16le', 'utf16be'] as const)('hold what SQLite gives back (%s)', (encoding) => {
    const db = new Database(':memory:');
    db.pragma(`encoding = '${encoding === 'utf8' ? 'UTF-8' : encoding.replace('utf16', 'UTF-16')}'`);
    db.pragma('page_size = 65536');
    db.exec('CREATE TABLE t (a, b, c, d)');
    const insert = db.prepare('INSERT INTO t VALUES (?, ?, ?, ?)');
    fc.assert(
      fc.property(fc.tuple(value, value, value, value), (values) => {
        db.exec('DELETE FROM t');
        insert.run(...values);
        const [cell] = leafCells(db, 't');
        checkRecord(cell!.payload);
        const decoded = decodeRecord(cell!.payload, { encoding, integers: 'bigint' });
        const read = db.prepare<[], unknown[]>('SELECT * FROM t').raw().safeIntegers().get()!;
        // A REAL of an integral value may stand in the record as an integer only in REAL columns; here none is.
        expect(decoded.map((entry) => (entry instanceof Uint8Array ? Buffer.from(entry) : entry))).toEqual(read);
      }),
      { numRuns: 300 },
    );
    db.close();
  });

  it.each([
    ['a header longer than the record', [9, 1, 1]],
    ['a value behind the end', [2, 4, 1, 2]],
    ['bytes behind the last value', [2, 1, 5, 5]],
    ['a reserved serial type', [2, 10]],
    ['a serial type that runs over the header', [2, 0x81]],
    ['nothing', []],
    ['a header size that is not all there', [0x80]],
    ['a text of 2^49 bytes', [9, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]],
  ])('%s is a RecordError', (_, bytes) => {
    expect(() => checkRecord(Buffer.from(bytes))).toThrow(RecordError);
  });
});
