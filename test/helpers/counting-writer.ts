/**
 * An application in a process of its own: each transaction raises one counter, shared by all writers of the file, and
 * changes some rows. Run by `CountingWriter`; the counter tells a reader of the WAL whether it saw every commit once.
 */
import Database from 'better-sqlite3';

export interface WriterOptions {
  readonly hive: string;
  readonly shape: 'insert' | 'update';
  readonly rowsPerTransaction: number;
  /** Between transactions; 0: none. */
  readonly pauseMs: number;
  readonly synchronous?: 'NORMAL' | 'FULL';
}

export type ToWriter =
  | { readonly type: 'stop' }
  | { readonly type: 'mark' }
  | { readonly type: 'checkpoint'; readonly mode: 'FULL' | 'RESTART' | 'TRUNCATE' };
export type FromWriter =
  | { readonly type: 'progress'; readonly transactions: number }
  /** Rows written so far; the longest commit since the last mark. */
  | { readonly type: 'mark'; readonly rows: number; readonly atMs: number; readonly maxCommitMs: number }
  | { readonly type: 'checkpointed'; readonly busy: number; readonly tookMs: number }
  | { readonly type: 'stopped'; readonly transactions: number; readonly rows: number; readonly seconds: number; readonly maxCommitMs: number };

/** Rows that the 'update' shape changes at random. */
const ROWS = 20_000;

const options: WriterOptions = JSON.parse(process.argv[2] ?? '');
const database = new Database(options.hive, { timeout: 5000 });
database.pragma('journal_mode = WAL');
database.pragma(`synchronous = ${options.synchronous ?? 'NORMAL'}`);
database.exec(`
  CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY, text TEXT NOT NULL);
  INSERT OR IGNORE INTO counter VALUES (1, 'COUNT:0000000000');
  CREATE TABLE IF NOT EXISTS items (id INTEGER PRIMARY KEY, a TEXT, b REAL, c INTEGER, d TEXT, e TEXT, f INTEGER);`);
const count = database.prepare(`UPDATE counter SET text = printf('COUNT:%010d', substr(text, 7) + 1) WHERE id = 1`);
const insert = database.prepare('INSERT INTO items (a, b, c, d, e, f) VALUES (?, ?, ?, ?, ?, ?)');
const update = database.prepare('UPDATE items SET a = ?, c = ? WHERE id = ?');
const add = (index: number): void =>
  void insert.run(`name ${index}`, index / 7, index, 'some text that is a little longer', 'x'.repeat(index % 50), index % 3);
if (options.shape === 'update') {
  const { n } = database.prepare<[], { n: number }>('SELECT count(*) AS n FROM items').get() ?? { n: 0 };
  database.transaction(() => {
    if (n < ROWS) count.run();
    for (let index = n; index < ROWS; index++) add(index);
  })();
}

let rows = 0;
const transaction = database.transaction(() => {
  count.run();
  for (let index = 0; index < options.rowsPerTransaction; index++) {
    rows++;
    if (options.shape === 'insert') add(rows);
    else update.run(`name ${rows}`, rows, 1 + Math.floor(Math.random() * ROWS));
  }
}).immediate;

let transactions = 0;
let maxCommitMs = 0;
let isStopped = false;
const start = performance.now();

const send = (message: FromWriter, then?: () => void): void => void process.send?.(message, then ?? (() => {}));

const write = (): void => {
  if (isStopped) return;
  const until = performance.now() + 20;
  do {
    const before = performance.now();
    transaction();
    transactions++;
    maxCommitMs = Math.max(maxCommitMs, performance.now() - before);
  } while (options.pauseMs === 0 && performance.now() < until);
  send({ type: 'progress', transactions });
  if (options.pauseMs === 0) setImmediate(write);
  else setTimeout(write, options.pauseMs);
};

process.on('message', (message: ToWriter) => {
  if (message.type === 'checkpoint') {
    const before = performance.now();
    const result = database.prepare<[], { busy: number }>(`PRAGMA wal_checkpoint(${message.mode})`).get();
    send({ type: 'checkpointed', busy: result?.busy ?? 1, tookMs: performance.now() - before });
    return;
  }
  if (message.type === 'mark') {
    send({ type: 'mark', rows, atMs: performance.now(), maxCommitMs });
    maxCommitMs = 0;
    return;
  }
  isStopped = true;
  const seconds = (performance.now() - start) / 1000;
  database.close();
  send({ type: 'stopped', transactions, rows, seconds, maxCommitMs }, () => process.exit(0));
});
process.on('disconnect', () => process.exit(0));
write();
