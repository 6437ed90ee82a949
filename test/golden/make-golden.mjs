// Writes the golden files beside this script: small databases (page size 512) and WALs with one fault each, named by it.
//   node test/golden/make-golden.mjs
import { copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';

const PAGE = 512;
const here = import.meta.dirname;
const rows = (count) => `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${count})`;

/** A database with a table `t`; `damage` changes its bytes. `root` is the offset of t's root page. */
const make = (name, sql, damage) => {
  const path = join(here, `${name}.db`);
  for (const suffix of ['', '-wal', '-shm', '-journal']) rmSync(path + suffix, { force: true });
  const db = new Database(path);
  db.pragma(`page_size = ${PAGE}`);
  db.exec(`CREATE TABLE t (id INTEGER PRIMARY KEY, v); ${sql}`);
  const pages = (type) => db.prepare("SELECT pageno FROM dbstat WHERE name = 't' AND pagetype = ?").pluck().all(type);
  const places = { root: PAGE, leaf: pages('leaf')[0], leaves: pages('leaf'), overflow: pages('overflow') };
  db.close();
  const bytes = readFileSync(path);
  const result = damage(bytes, places);
  // A shorter piece of the file is what is left of it.
  writeFileSync(path, Buffer.isBuffer(result) && result.buffer === bytes.buffer && result.byteOffset === bytes.byteOffset ? result : bytes);
};
/** Bytes of a payload that stand on the leaf (https://sqlite.org/fileformat2.html#b_tree_pages). */
const localBytes = (payload) => {
  const least = Math.floor(((PAGE - 12) * 32) / 255) - 23;
  const surplus = least + ((payload - least) % (PAGE - 4));
  return surplus <= PAGE - 35 ? surplus : least;
};
/** Calls `change` with the offset of a column of the first row of sqlite_schema (columns of less than 128 bytes, one byte a serial type). */
const schemaColumn = (bytes, column, change) => {
  const cell = bytes.readUInt16BE(108);
  const header = cell + 2;
  let at = header + bytes[header];
  for (let index = 0; index < column; index += 1) {
    const type = bytes[header + 1 + index];
    at += type < 12 ? [0, 1, 2, 3, 4, 6, 8, 8, 0, 0][type] : (type - 12 - (type & 1)) / 2;
  }
  change(at);
};
const offset = (page) => (page - 1) * PAGE;
const few = "INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, 'three')";
const many = `INSERT INTO t ${rows(200)} SELECT i, 'row ' || i FROM n`;
const blob = 'INSERT INTO t VALUES (1, zeroblob(3000))';

make('sound', `${few}; ${many.replace('i,', 'i + 10,')}`, () => {});
make('overflow-chain-in-a-circle', blob, (bytes, { overflow }) => bytes.writeUInt32BE(overflow[1], offset(overflow[3])));
make('overflow-chain-ends-early', blob, (bytes, { overflow }) => bytes.writeUInt32BE(0, offset(overflow[1])));
make('overflow-page-behind-the-end', blob, (bytes, { overflow }) => bytes.writeUInt32BE(99999, offset(overflow[1])));
make('payload-of-2-gb', blob, (bytes, { root }) => {
  const cell = root + bytes.readUInt16BE(root + 8);
  Buffer.from([0x87, 0xff, 0xff, 0xff, 0x7f]).copy(bytes, cell);
});
make('child-is-the-root', many, (bytes, { root }) => bytes.writeUInt32BE(2, root + 8));
make('child-is-page-0', many, (bytes, { root }) => bytes.writeUInt32BE(0, root + 8));
make('child-twice', many, (bytes, { root }) => bytes.writeUInt32BE(bytes.readUInt32BE(root + bytes.readUInt16BE(root + 12)), root + 8));
make('cell-behind-the-page', few, (bytes, { root }) => bytes.writeUInt16BE(600, root + 10));
make('cell-in-the-header', few, (bytes, { root }) => bytes.writeUInt16BE(4, root + 10));
make('too-many-cells', few, (bytes, { root }) => bytes.writeUInt16BE(300, root + 3));
make('root-is-an-index-page', few, (bytes, { root }) => bytes.writeUInt8(10, root));
make('record-longer-than-its-cell', few, (bytes, { root }) => {
  // payload size, rowid, header size, NULL for id, then the serial type of v.
  const cell = root + bytes.readUInt16BE(root + 8);
  bytes[cell + 4] = 99;
});
make('leaf-without-a-cell', many, (bytes, { leaf }) => bytes.writeUInt16BE(0, offset(leaf) + 3));
make('interior-page-without-a-cell', many, (bytes, { root }) => bytes.writeUInt16BE(0, root + 3));
make('leaf-is-a-free-page', many, (bytes, { leaf }) => bytes.fill(0, offset(leaf), offset(leaf) + PAGE));
make('child-of-another-table', `CREATE TABLE u (v); INSERT INTO u VALUES (1); ${many}`, (bytes, { root }) => bytes.writeUInt32BE(3, root + 8));
make('two-cells-on-one-overflow-chain', `${blob}; ${blob.replace('(1,', '(2,')}`, (bytes, { leaves, overflow }) => {
  // Each of the two leaves has one cell, whose last four bytes on the page are the first page of its chain.
  for (const page of leaves) {
    const cell = offset(page) + bytes.readUInt16BE(offset(page) + 8);
    const local = localBytes(3004) + 3;
    bytes.writeUInt32BE(overflow[0], cell + local);
  }
});
make('rowids-out-of-order', few, (bytes, { root }) => bytes.subarray(root + 8, root + 12).swap32().swap16());
make('reserved-serial-type', few, (bytes, { root }) => {
  const cell = root + bytes.readUInt16BE(root + 8);
  bytes[cell + 4] = 10;
});
make('record-header-longer-than-its-record', few, (bytes, { root }) => {
  const cell = root + bytes.readUInt16BE(root + 8);
  bytes[cell + 2] = 0x7f;
});
make('cut-off-in-an-overflow-chain', blob, (bytes) => bytes.subarray(0, bytes.length - 100));
make('cut-off-behind-page-1', few, (bytes) => bytes.subarray(0, PAGE));
make('no-page-1', few, (bytes) => bytes.subarray(0, 99));
make('page-count-of-2-billion', few, (bytes) => bytes.writeUInt32BE(2 ** 31, 28));
make('magic', few, (bytes) => bytes.write('SQLite format 4'));
make('page-size-1000', few, (bytes) => bytes.writeUInt16BE(1000, 16));
make('reserved-bytes-200', few, (bytes) => bytes.writeUInt8(200, 20));
make('schema-is-no-table', few, (bytes) => bytes.writeUInt8(10, 100));
make('schema-root-behind-the-end', few, (bytes) => schemaColumn(bytes, 3, (at) => bytes.writeUInt8(99, at)));
make('schema-statement-is-none', few, (bytes) => schemaColumn(bytes, 4, (at) => bytes.write('CREATE TABEL', at)));
make('text-encoding-4', few, (bytes) => bytes.writeUInt32BE(4, 56));

/** A WAL database as a killed application leaves it: file and -wal; `damage` gets the -wal. */
const makeWal = (name, damage) => {
  const path = join(here, `${name}.db`);
  for (const suffix of ['', '-wal', '-shm']) rmSync(path + suffix, { force: true });
  const db = new Database(path);
  db.pragma(`page_size = ${PAGE}`);
  db.pragma('journal_mode = WAL');
  db.pragma('wal_autocheckpoint = 0');
  db.exec(`CREATE TABLE t (id INTEGER PRIMARY KEY, v); PRAGMA wal_checkpoint(TRUNCATE)`);
  for (let id = 1; id <= 5; id += 1) db.prepare('INSERT INTO t VALUES (?, ?)').run(id, 'x'.repeat(id * 30));
  copyFileSync(path, `${path}.copy`);
  const wal = readFileSync(`${path}-wal`);
  db.close();
  copyFileSync(`${path}.copy`, path);
  rmSync(`${path}.copy`);
  writeFileSync(`${path}-wal`, damage(wal));
};
const frame = (number) => 32 + (number - 1) * (PAGE + 24);
const flipped = (bytes, at) => {
  bytes[at] ^= 1;
  return bytes;
};
makeWal('wal-sound', (wal) => wal);
makeWal('wal-flipped-bit-in-a-page', (wal) => flipped(wal, frame(2) + 100));
makeWal('wal-flipped-bit-in-a-page-number', (wal) => flipped(wal, frame(3) + 3));
makeWal('wal-frame-of-another-generation', (wal) => flipped(wal, frame(4) + 8));
makeWal('wal-header-checksum', (wal) => flipped(wal, 9));
makeWal('wal-cut-off-inside-a-frame', (wal) => wal.subarray(0, wal.length - 100));
makeWal('wal-empty', () => Buffer.alloc(0));
makeWal('wal-magic', (wal) => flipped(wal, 2));
makeWal('wal-page-size-1024', (wal) => {
  wal.writeUInt32BE(1024, 8);
  return wal;
});
makeWal('wal-frame-left-out', (wal) => Buffer.concat([wal.subarray(0, frame(3)), wal.subarray(frame(4))]));
makeWal('wal-frame-twice', (wal) => Buffer.concat([wal.subarray(0, frame(4)), wal.subarray(frame(3))]));
makeWal('wal-flipped-bit-in-a-database-size', (wal) => flipped(wal, frame(5) + 7));
makeWal('wal-flipped-bit-in-a-checksum', (wal) => flipped(wal, frame(1) + 20));
makeWal('wal-torn-tail', (wal) => Buffer.concat([wal, wal.subarray(frame(1), frame(2) + 300)]));

/** A wal-index (only its header of 136 bytes) with one fault. */
const makeShm = (name, damage) => {
  const path = join(here, 'shm.tmp');
  const db = new Database(path);
  db.pragma('journal_mode = WAL');
  db.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 1)');
  const shm = Buffer.from(readFileSync(`${path}-shm`).subarray(0, 136));
  db.close();
  rmSync(path);
  writeFileSync(join(here, `${name}.db-shm`), damage(shm) ?? shm);
};
makeShm('shm-sound', () => {});
makeShm('shm-copies-differ', (shm) => flipped(shm, 16));
makeShm('shm-copies-wrong-in-the-same-way', (shm) => flipped(flipped(shm, 16), 64));
makeShm('shm-not-initialised', (shm) => shm.fill(0));
makeShm('shm-cut-off', (shm) => shm.subarray(0, 100));
makeShm('shm-of-another-version', (shm) => flipped(flipped(shm, 2), 50));
