/**
 * The application of the disk tests: a process that writes one hive, transaction by transaction, and tells what SQLite says of
 * each. Transaction n depends on the seed, on n and on what stands in the hive. argv: seed.
 */
import Database from 'better-sqlite3';
import { Random } from '../helpers/random.ts';
import { readPages, readState, type Moment } from './oracle.ts';

export const PAGE_SIZE = 1024;

export type ToApplication =
  | { readonly do: 'open'; readonly hive: string }
  /** Transactions 1 … count more. */
  | { readonly do: 'write'; readonly count: number }
  | { readonly do: 'checkpoint' }
  | { readonly do: 'close' };

export type FromApplication = { readonly moments: readonly Moment[] } | { readonly error: string };

const seed = Number(process.argv[2]);
let database: Database.Database | null = null;

const open = (hive: string): Moment => {
  database = new Database(hive, { timeout: 10_000 });
  database.pragma(`page_size = ${PAGE_SIZE}`);
  database.pragma('journal_mode = WAL');
  database.pragma('synchronous = NORMAL');
  database.pragma('wal_autocheckpoint = 300');
  // Small, so that large transactions spill.
  database.pragma('cache_size = 24');
  database.exec(`CREATE TABLE IF NOT EXISTS n (id INTEGER PRIMARY KEY, n INTEGER);
    CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, v, w);
    CREATE TABLE IF NOT EXISTS k (a TEXT PRIMARY KEY, b);
    INSERT OR IGNORE INTO n VALUES (1, 0)`);
  return moment(database);
};

const moment = (db: Database.Database): Moment => ({
  n: db.prepare<[], number>('SELECT n FROM n').pluck().get() ?? 0,
  state: readState(db),
  pages: readPages(db, PAGE_SIZE),
});

const write = (db: Database.Database): Moment => {
  const n = db.prepare<[], number>('SELECT n FROM n').pluck().get()! + 1;
  const random = new Random(seed * 100_003 + n);
  // What is rolled back must be seen nowhere; the larger ones reach the WAL.
  if (random.chance(0.15)) {
    db.exec('BEGIN');
    for (let index = random.int(60); index >= 0; index -= 1) operate(db, random, 'rolled back');
    db.exec('ROLLBACK');
  }
  db.exec('BEGIN IMMEDIATE');
  db.prepare('UPDATE n SET n = ?').run(n);
  if (n % 37 === 0) db.exec(`ALTER TABLE t ADD COLUMN c${n}`);
  if (n % 41 === 0) db.exec('DROP TABLE IF EXISTS x; CREATE TABLE x (id INTEGER PRIMARY KEY, v); INSERT INTO x VALUES (1, 2), (3, 4)');
  for (let index = random.chance(0.05) ? 40 : random.int(6); index > 0; index -= 1) operate(db, random, `of ${n}`);
  db.exec('COMMIT');
  return moment(db);
};

const operate = (db: Database.Database, random: Random, by: string): void => {
  const id = random.int(90);
  const value = random.chance(0.1) ? by.repeat(random.int(600)) : `${by} ${random.int(1000)}`;
  switch (random.int(5)) {
    case 0:
      db.prepare('INSERT OR REPLACE INTO t (id, v, w) VALUES (?, ?, ?)').run(id, value, random.next());
      return;
    case 1:
      db.prepare('UPDATE t SET v = ? WHERE id = ?').run(value, id);
      return;
    case 2:
      db.prepare('DELETE FROM t WHERE id = ?').run(id);
      return;
    case 3:
      db.prepare('INSERT INTO k VALUES (?, ?) ON CONFLICT DO UPDATE SET b = excluded.b').run(`key ${id}`, value);
      return;
    default:
      db.prepare('DELETE FROM k WHERE a = ?').run(`key ${id}`);
  }
};

const carryOut = (order: ToApplication): Moment[] => {
  if (order.do === 'open') return [open(order.hive)];
  if (database === null) throw new Error('no hive is open');
  if (order.do === 'write') return Array.from({ length: order.count }, () => write(database!));
  if (order.do === 'checkpoint') database.pragma('wal_checkpoint(PASSIVE)');
  else {
    database.close();
    database = null;
  }
  return [];
};

process.on('message', (order: ToApplication) => {
  let answer: FromApplication;
  try {
    answer = { moments: carryOut(order) };
  } catch (error) {
    answer = { error: error instanceof Error ? error.message : String(error) };
  }
  process.send?.(answer);
});
process.on('disconnect', () => process.exit(0));
