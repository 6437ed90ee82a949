/**
 * An application that waits for nobody: two connections in one process, busy_timeout 0, deferred transactions that read and then write,
 * one at a time, with pauses. By itself it can never meet SQLITE_BUSY, so whatever it meets comes from outside.
 * argv: hive, seed, transactions, longest pause in ms. Prints an ImpatientReport as JSON.
 */
import { setTimeout as delay } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { Random } from './random.ts';

export interface ImpatientReport {
  readonly transactions: number;
  /** By SQLite's code. */
  readonly refused: Readonly<Record<string, number>>;
}

const [hive = '', seed = '0', count = '0', longestPauseMs = '0'] = process.argv.slice(2);
const random = new Random(Number(seed));
const open = (): Database.Database => {
  const database = new Database(hive, { timeout: 0 });
  database.pragma('journal_mode = WAL');
  database.pragma('synchronous = NORMAL');
  return database;
};
const first = open();
first.exec('CREATE TABLE IF NOT EXISTS items (id INTEGER PRIMARY KEY, n INTEGER, text TEXT)');
const connections = [first, open()];
const refused: Record<string, number> = {};

const transaction = (database: Database.Database): void => {
  database.exec('BEGIN');
  const n = database.prepare<[], number>('SELECT count(*) FROM items').pluck().get()!;
  const insert = database.prepare('INSERT INTO items (n, text) VALUES (?, ?)');
  // Some are large enough for a hand-over by themselves.
  const rows = random.chance(0.1) ? 3000 : 1 + random.int(50);
  for (let row = 0; row < rows; row += 1) insert.run(n + row, 'x'.repeat(random.int(900)));
  if (random.chance(0.1)) database.exec('DELETE FROM items WHERE id % 3 = 0');
  database.exec('COMMIT');
};

const transactions = Number(count);
for (let done = 0; done < transactions; done += 1) {
  const database = random.pick(connections);
  try {
    transaction(database);
  } catch (error) {
    if (!(error instanceof Database.SqliteError)) throw error;
    refused[error.code] = (refused[error.code] ?? 0) + 1;
    if (database.inTransaction) database.exec('ROLLBACK');
  }
  // From 3 ms on it is a pause to the keeper; behind a second and a half it empties the WAL.
  await delay(random.chance(0.01) ? 1400 + random.int(300) : 3 + random.int(Number(longestPauseMs)));
}
for (const database of connections) database.close();
console.log(JSON.stringify({ transactions, refused } satisfies ImpatientReport));
