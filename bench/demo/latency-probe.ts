/**
 * An application in a process of its own that inserts rows at a steady pace, each a transaction, with the wall-clock time at
 * which it was committed in it. `node latency-probe.ts HIVE COUNT INTERVAL_MS`
 */
import { setTimeout as delay } from 'node:timers/promises';
import Database from 'better-sqlite3';

const [hive = '', count = '0', intervalMs = '20'] = process.argv.slice(2);
const database = new Database(hive, { timeout: 5000 });
database.pragma('journal_mode = WAL');
database.pragma('synchronous = NORMAL');
database.exec('CREATE TABLE IF NOT EXISTS latency_probe (id INTEGER PRIMARY KEY, committed_at REAL NOT NULL)');
const insert = database.prepare('INSERT INTO latency_probe (committed_at) VALUES (?)');
const start = performance.now();
for (let n = 1; n <= Number(count); n += 1) {
  // Taken just before the commit: the commit's own time counts, too.
  insert.run(performance.timeOrigin + performance.now());
  await delay(Math.max(0, start + n * Number(intervalMs) - performance.now()));
}
database.close();
