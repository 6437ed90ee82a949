/**
 * Sound hives of several shapes, and damage to their bytes: what the disk, a bad cable or a foreign program leaves. SQLite reads
 * each damaged hive as well; its judgement is the oracle.
 */
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { decodeText, type RecordEncoding } from '../../src/sqlite/record.ts';
import type { Random } from './random.ts';

const numbers = (count: number): string => `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${count})`;

export interface HiveShape {
  readonly name: string;
  readonly pageSize: number;
  readonly encoding: RecordEncoding;
  readonly pragmas: readonly string[];
  readonly rows: number;
}

const shapeOf = (pageSize: number, encoding: RecordEncoding, pragma: string, rows: number): HiveShape => ({
  name: [pageSize, encoding, pragma].join(' ').trim(),
  pageSize,
  encoding,
  pragmas: [`page_size = ${pageSize}`, `encoding = '${encoding.replace('utf', 'UTF-')}'`, ...(pragma === '' ? [] : [pragma])],
  rows,
});

export const SHAPES: readonly HiveShape[] = [
  shapeOf(512, 'utf8', '', 120),
  shapeOf(512, 'utf8', 'auto_vacuum = FULL', 90),
  shapeOf(512, 'utf16be', '', 60),
  shapeOf(1024, 'utf16le', 'auto_vacuum = INCREMENTAL', 90),
  shapeOf(4096, 'utf8', '', 200),
  shapeOf(4096, 'utf16be', 'auto_vacuum = INCREMENTAL', 120),
  shapeOf(65536, 'utf8', '', 60),
];

/** Tables with indexes, overflow, short records, a table that is emptied again (freelist). Key columns are the rowid or have an index. */
const SCHEMA = `CREATE TABLE a (id INTEGER PRIMARY KEY, v, w REAL); CREATE INDEX a_v ON a (v, w);
  CREATE TABLE k (id TEXT PRIMARY KEY, v INTEGER NOT NULL); CREATE TABLE blobs (id INTEGER PRIMARY KEY, v BLOB);
  CREATE TABLE plain (a, b, c); CREATE TABLE gone (v);
  CREATE TABLE made (id INTEGER PRIMARY KEY, t TEXT, n INT GENERATED ALWAYS AS (length(t)) STORED) STRICT`;

const filling = ({ pageSize, rows }: HiveShape): string => `
  INSERT INTO a ${numbers(rows)} SELECT i * 3, 'välue ' || i, i * 1.5 FROM n;
  INSERT INTO k ${numbers(rows)} SELECT 'kéy' || i, i FROM n;
  INSERT INTO blobs ${numbers(9)} SELECT i * 5, zeroblob(i * ${Math.min(pageSize, 6000)} / 2) || i FROM n;
  INSERT INTO plain ${numbers(rows)} SELECT i, CASE i % 4 WHEN 0 THEN NULL WHEN 1 THEN -i * 1e300 WHEN 2 THEN i << 40 ELSE 'text' END, x'00ff' FROM n;
  INSERT INTO made (id, t) ${numbers(rows / 2)} SELECT i, 'made ' || i FROM n;
  INSERT INTO gone ${numbers(rows)} SELECT zeroblob(200) FROM n; DELETE FROM gone; ALTER TABLE plain ADD COLUMN d DEFAULT 'none'`;

/** Transactions that follow, in the WAL: updates in place, in overflow pages, splits, deletes of whole pages, a schema change. */
export const TRANSACTIONS: readonly string[] = [
  "UPDATE a SET v = 'other' WHERE id % 4 = 0",
  "UPDATE blobs SET v = CAST(zeroblob(length(v) - 3) || 'xyz' AS BLOB) WHERE id IN (10, 45)",
  'DELETE FROM a WHERE id BETWEEN 50 AND 250; REPLACE INTO k SELECT id, v + 1000 FROM k WHERE v < 20',
  `INSERT INTO a ${numbers(80)} SELECT i * 3 + 1, zeroblob(i), NULL FROM n; DELETE FROM blobs WHERE id > 35`,
  'ALTER TABLE made ADD COLUMN more INT DEFAULT 5; CREATE TABLE z (id INTEGER PRIMARY KEY, v); INSERT INTO z SELECT v, id FROM k',
  "INSERT INTO plain SELECT c, b, a, 'again' FROM plain; UPDATE made SET t = t || '!' WHERE id > 7; DELETE FROM k WHERE v % 3 = 0",
];

/** Bytes of the three files. */
export interface HiveBytes {
  readonly db: Buffer;
  readonly wal: Buffer;
  readonly shm: Buffer;
}

const SUFFIXES = { db: '', wal: '-wal', shm: '-shm' } as const;
export type HivePart = keyof typeof SUFFIXES;
export const HIVE_PARTS = Object.keys(SUFFIXES) as HivePart[];

export const readHiveBytes = (path: string): HiveBytes => ({
  db: readFileSync(path),
  wal: readFileSync(`${path}-wal`),
  shm: readFileSync(`${path}-shm`),
});

export const writeHiveBytes = (path: string, bytes: HiveBytes): void => {
  for (const part of HIVE_PARTS) writeFileSync(path + SUFFIXES[part], bytes[part]);
};

export const openWriter = (path: string): Database.Database => {
  const db = new Database(path, { timeout: 0 });
  db.pragma('synchronous = OFF');
  db.pragma('wal_autocheckpoint = 0');
  return db;
};

export interface SoundHive {
  readonly shape: HiveShape;
  /** `states[n]`: after n of TRANSACTIONS; all of them in the WAL. */
  readonly states: readonly HiveBytes[];
  readonly rows: readonly HiveRows[];
}

export const makeHive = (shape: HiveShape, directory: string): SoundHive => {
  const path = join(directory, `${shape.name.replaceAll(/\W+/g, '-')}.sqlite`);
  const db = openWriter(path);
  try {
    for (const pragma of shape.pragmas) db.pragma(pragma);
    db.pragma('journal_mode = WAL');
    db.exec(`${SCHEMA}; ${filling(shape)}`);
    db.pragma('wal_checkpoint(TRUNCATE)');
    // Begins the WAL without a row.
    db.pragma('user_version = 7');
    const states = [readHiveBytes(path)];
    const rows = [readRows(db, shape.encoding)];
    for (const sql of TRANSACTIONS) {
      db.exec(sql.includes(';') ? `BEGIN; ${sql}; COMMIT` : sql);
      states.push(readHiveBytes(path));
      rows.push(readRows(db, shape.encoding));
    }
    if (statSync(`${path}-wal`).size < 5 * shape.pageSize) throw new Error('the WAL holds nothing');
    return { shape, states, rows };
  } finally {
    db.close();
  }
};

/** The rows of each table as text, in rowid order; an Error where SQLite could not read the table. */
export type HiveRows = ReadonlyMap<string, readonly string[] | Error>;

/** What a full scan of each table gives. Throws what SQLite says where not even the schema can be read. */
export const readRows = (db: Database.Database, encoding: RecordEncoding): HiveRows => {
  const names = db
    .prepare<[], string>("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")
    .pluck()
    .all();
  return new Map(
    names.map((name): [string, string[] | Error] => {
      try {
        return [name, scan(db, name, encoding)];
      } catch (error) {
        if (!(error instanceof Database.SqliteError)) throw error;
        return [name, error];
      }
    }),
  );
};

const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;

const scan = (db: Database.Database, table: string, encoding: RecordEncoding): string[] => {
  const columns = (db.pragma(`table_xinfo(${quoted(table)})`) as { name: string; hidden: number }[]).filter((column) => column.hidden !== 2);
  // Text as the bytes that it is: invalid ones are then replaced in the same way on both sides.
  const values = columns.map(
    ({ name }) => `typeof(${quoted(name)}), CASE typeof(${quoted(name)}) WHEN 'text' THEN CAST(${quoted(name)} AS BLOB) ELSE ${quoted(name)} END`,
  );
  const rows: string[] = [];
  for (const row of db
    .prepare<[], unknown[]>(`SELECT ${values.join(', ')} FROM ${quoted(table)} NOT INDEXED`)
    .raw()
    .safeIntegers()
    .iterate()) {
    const texts: string[] = [];
    for (let at = 0; at < row.length; at += 2)
      texts.push(row[at] === 'text' ? textOf(decodeText(row[at + 1] as Buffer, 0, (row[at + 1] as Buffer).length, encoding)) : textOf(row[at + 1]));
    rows.push(texts.join('|'));
  }
  return rows;
};

/** A value as text that tells its type. */
export const textOf = (value: unknown): string => {
  if (value === null) return 'null';
  if (typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'bigint') return `int ${value}`;
  if (typeof value === 'number') return `real ${Object.is(value, -0) ? 0 : value}`;
  return `blob ${Buffer.from(value as Uint8Array).toString('hex')}`;
};

/** What SQLite's own check says: 'ok', or what is wrong. */
export const integrityOf = (db: Database.Database): string => {
  try {
    return (db.pragma('integrity_check(3)') as { integrity_check: string }[]).map((row) => row.integrity_check).join('; ');
  } catch (error) {
    if (!(error instanceof Database.SqliteError)) throw error;
    return error.message;
  }
};

/** Changes some bytes between `from` and `to`; gives the file, which may be shorter then. Where: any place, headers of pages (or frames) more often. */
export const damage = (random: Random, file: Buffer, { unit, from = 0, to = file.length }: { unit: number; from?: number; to?: number }): Buffer => {
  const bytes = Buffer.from(file);
  if (to <= from) return bytes;
  if (random.chance(0.05)) return bytes.subarray(0, from + random.int(to - from));
  for (let count = random.pick([1, 1, 1, 1, 2, 5]); count > 0; count -= 1) {
    const start = from + Math.floor(random.int(to - from) / unit) * unit;
    const at = Math.min(to - 1, random.chance(0.6) ? start + random.int(Math.min(unit, 60)) : start + random.int(unit));
    switch (random.int(6)) {
      case 0:
      case 1:
        bytes[at] = bytes[at]! ^ (1 << random.int(8));
        break;
      case 2:
        bytes[at] = random.pick([0, 1, 2, 5, 10, 13, 0x7f, 0x80, 0xff]);
        break;
      case 3:
        bytes.fill(random.pick([0, 0xff]), at, Math.min(to, at + 1 + random.int(random.pick([4, 40, unit]))));
        break;
      case 4:
        bytes.writeUInt32BE(random.int(random.pick([60, 400, 2 ** 32 - 1])), Math.max(0, Math.min(at, bytes.length - 4)));
        break;
      default: {
        // A piece of another place, as a misdirected write leaves it.
        const other = from + random.int(to - from);
        bytes.copy(bytes, at, other, Math.min(to, other + random.pick([2, 8, unit])));
      }
    }
  }
  return bytes;
};
