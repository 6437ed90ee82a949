/** Cells, overflow chains and trees against `dbstat` and SQL, in every page size and with reserved bytes. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import { forEachRow, leavesOf } from '../../src/diff/tree-scan.ts';
import { PageMap } from '../../src/mirror/page-map.ts';
import { PageCorruption, TABLE_TREE, TableCell } from '../../src/sqlite/btree-page.ts';
import { parseDatabaseHeader } from '../../src/sqlite/database-header.ts';
import { readPayload } from '../../src/sqlite/payload.ts';
import { decodeRecord } from '../../src/sqlite/record.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';

const build = (path: string, pageSize: number, reserved: number): Database.Database => {
  let db = new Database(path);
  db.pragma(`page_size = ${pageSize}`);
  db.pragma('user_version = 1');
  db.close();
  const bytes = readFileSync(path);
  bytes[20] = reserved;
  bytes.writeUInt16BE((pageSize - reserved) % 65536, 105);
  writeFileSync(path, bytes);
  db = new Database(path);
  db.exec(`CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)`);
  const usable = pageSize - reserved;
  const maxLocal = usable - 35;
  // Around every limit: local, one, two and three overflow pages, and the record's own header.
  const sizes = [
    0,
    1,
    100,
    ...[maxLocal, maxLocal + usable - 4, maxLocal + 2 * (usable - 4), 3 * usable].flatMap((size) =>
      Array.from({ length: 14 }, (_, index) => size - 9 + index),
    ),
  ];
  const insert = db.prepare('INSERT INTO t VALUES (?, ?)');
  sizes.forEach((size, index) => insert.run(index * 3, Buffer.alloc(Math.max(0, size), index)));
  return db;
};

describe.each([
  [512, 0],
  [512, 32],
  [1024, 12],
  [4096, 0],
  [4096, 12],
  [65536, 0],
  [65536, 255],
])('page size %i, %i reserved bytes', (pageSize, reserved) => {
  it('gives every row, and attributes exactly the pages that dbstat tells', () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, 'db');
    const db = build(path, pageSize, reserved);
    const file = readFileSync(path);
    const header = parseDatabaseHeader(file)!;
    expect(header).toMatchObject({ pageSize, usableSize: pageSize - reserved, sizePages: file.length / pageSize, encoding: 'utf8' });
    const readPage = (page: number): Buffer => file.subarray((page - 1) * pageSize, page * pageSize);
    const root = db.prepare<[], number>("SELECT rootpage FROM sqlite_schema WHERE name = 't'").pluck().get()!;
    const { usableSize, sizePages } = header;

    const rows: unknown[] = [];
    forEachRow({ root, usableSize, sizePages, readPage, after: 30 }, (rowid, record) => {
      rows.push([rowid, Buffer.from(decodeRecord(record, { encoding: 'utf8', integers: 'number' })[1] as Uint8Array)]);
      return true;
    });
    expect(rows).toEqual(db.prepare('SELECT id, v FROM t WHERE id > 30').raw().all());

    const map = new PageMap(sizePages);
    map.addTree({ tree: 2, root, kinds: TABLE_TREE }, usableSize, sizePages, readPage);
    const stat = db.prepare<[], { pageno: number; pagetype: string }>("SELECT pageno, pagetype FROM dbstat WHERE name = 't'").all();
    for (const { pageno, pagetype } of stat) expect([map.tree[pageno], map.chain[pageno] !== 0]).toEqual([2, pagetype === 'overflow']);
    expect(map.tree.filter((tree) => tree !== 0).length).toBe(stat.length);
    expect(leavesOf(root, sizePages, readPage).toSorted((a, b) => a - b)).toEqual(
      stat
        .filter((entry) => entry.pagetype === 'leaf')
        .map((entry) => entry.pageno)
        .toSorted((a, b) => a - b),
    );
    db.close();
  });
});

describe('damaged pages', () => {
  const cellOf = (payload: number[]): { page: Buffer; cell: TableCell } => {
    const page = Buffer.alloc(512);
    Buffer.from(payload).copy(page, 400);
    const cell = new TableCell(512);
    cell.parse(page, 400);
    return { page, cell };
  };
  it('an overflow chain in a circle, with a length of 2 GB: found at once, no memory taken', () => {
    const { page, cell } = cellOf([0x87, 0xff, 0xff, 0xff, 0x7f, 1]);
    expect(cell.payloadBytes).toBe(2147483647);
    page.writeUInt32BE(5, cell.end - 4);
    const next = new Map([
      [5, 6],
      [6, 7],
      [7, 8],
      [8, 6],
    ]);
    const overflow = Buffer.alloc(512);
    let reads = 0;
    const before = process.memoryUsage().arrayBuffers;
    expect(() =>
      readPayload(page, cell, 512, (number) => {
        reads += 1;
        overflow.writeUInt32BE(next.get(number)!, 0);
        return overflow;
      }),
    ).toThrow(PageCorruption);
    expect(reads).toBeLessThan(20);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1 << 20);
  });

  it('a cell at the end of the page, a cell in the header', () => {
    const cell = new TableCell(512);
    for (const offset of [505, 511, 512, 65535]) expect(() => cell.parse(Buffer.alloc(512, 0xff), offset)).toThrow(PageCorruption);
    const page = Buffer.alloc(512);
    page[0] = 13;
    page.writeUInt16BE(1, 3);
    page.writeUInt16BE(8, 8);
    expect(() => cell.parseAt(page, 2, 0)).toThrow(PageCorruption);
  });

  it('interior pages in a circle', () => {
    const page = Buffer.alloc(512);
    page[0] = 5;
    page.writeUInt32BE(3, 8);
    expect(() => leavesOf(3, 10, () => page)).toThrow(PageCorruption);
    expect(() => forEachRow({ root: 3, usableSize: 512, sizePages: 10, readPage: () => page, after: null }, () => true)).toThrow(PageCorruption);
    page.writeUInt32BE(0, 8);
    expect(() => leavesOf(3, 10, () => page)).toThrow('page 0');
  });
});
