/**
 * An application in a process of its own that inserts single rows as fast as it can, for as long as it is told, and then
 * answers how many. `fork(writer-probe.ts, [HIVE])`; message: milliseconds; answer: transactions and seconds.
 */
import Database from 'better-sqlite3';

export interface WriterAnswer {
  readonly transactions: number;
  readonly seconds: number;
}

const database = new Database(process.argv[2] ?? '', { timeout: 5000 });
database.pragma('journal_mode = WAL');
database.pragma('synchronous = NORMAL');
database.exec('CREATE TABLE IF NOT EXISTS writer_probe (id INTEGER PRIMARY KEY, name TEXT, email TEXT, age INTEGER, score REAL, note TEXT, at TEXT)');
const insert = database.prepare('INSERT INTO writer_probe (name, email, age, score, note, at) VALUES (?, ?, ?, ?, ?, ?)');
let n = 0;

process.on('message', (forMs: number) => {
  const start = performance.now();
  let transactions = 0;
  while (performance.now() - start < forMs) {
    n += 1;
    transactions += 1;
    insert.run(`name ${n}`, `user${n}@example.com`, n % 90, n / 7, 'a note of some length', '2026-01-01T00:00:00.000Z');
  }
  process.send?.({ transactions, seconds: (performance.now() - start) / 1000 } satisfies WriterAnswer);
});
process.on('disconnect', () => {
  database.close();
  process.exit(0);
});
