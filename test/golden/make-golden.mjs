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
  const places = { root: PAGE, leaf: pages('leaf')[0], overflow: pages('overflow') };
  db.close();
  const bytes = readFileSync(path);
  damage(bytes, places);
  writeFileSync(path, bytes);
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
