/** The application of `SteeredWriter`: does one thing at a time, when it is told, and says how long that took. */
import Database from 'better-sqlite3';

export type Order =
  /** One transaction that inserts so many rows of so many bytes. */
  | { readonly do: 'insert'; readonly rows: number; readonly bytes: number }
  /** Transactions of so many rows, one after the other with a pause between them, for so long. */
  | { readonly do: 'load'; readonly rows: number; readonly bytes: number; readonly pauseMs: number; readonly forMs: number }
  | { readonly do: 'checkpoint'; readonly mode: 'PASSIVE' | 'FULL' | 'RESTART' | 'TRUNCATE' }
  | { readonly do: 'exec'; readonly sql: string }
  | { readonly do: 'close' };

export interface Answer {
  readonly tookMs: number;
  /** Of `checkpoint`: 1 if it did not get through. */
  readonly busy: number;
  readonly transactions: number;
  /** The longest single transaction, from BEGIN to the end of COMMIT. */
  readonly longestMs: number;
  /** What SQLite said, where it refused. */
  readonly error: string | null;
}

const database = new Database(process.argv[2] ?? '', { timeout: 5000 });
database.pragma('journal_mode = WAL');
database.pragma('synchronous = NORMAL');
database.exec('CREATE TABLE IF NOT EXISTS items (id INTEGER PRIMARY KEY, n INTEGER, text TEXT)');
const insert = database.prepare('INSERT INTO items (n, text) VALUES (?, ?)');
let n = 0;
const transaction = database.transaction((rows: number, bytes: number) => {
  for (let index = 0; index < rows; index += 1) insert.run((n += 1), `${n} `.padEnd(bytes, 'waggle dance '));
}).immediate;

const timed = (work: () => void): number => {
  const start = performance.now();
  work();
  return performance.now() - start;
};

const load = async ({ rows, bytes, pauseMs, forMs }: Order & { do: 'load' }): Promise<Partial<Answer>> => {
  const end = performance.now() + forMs;
  let [transactions, longestMs] = [0, 0];
  while (performance.now() < end) {
    longestMs = Math.max(
      longestMs,
      timed(() => transaction(rows, bytes)),
    );
    transactions += 1;
    await new Promise((resolve) => void setTimeout(resolve, pauseMs));
  }
  return { transactions, longestMs };
};

const carryOut = async (order: Order): Promise<Partial<Answer>> => {
  switch (order.do) {
    case 'insert': {
      const longestMs = timed(() => transaction(order.rows, order.bytes));
      return { transactions: 1, longestMs };
    }
    case 'load':
      return load(order);
    case 'checkpoint':
      return { busy: database.prepare<[], { busy: number }>(`PRAGMA wal_checkpoint(${order.mode})`).get()?.busy ?? 1 };
    case 'exec':
      database.exec(order.sql);
      return {};
    case 'close':
      database.close();
      return {};
  }
};

process.on('message', (order: Order) => {
  const start = performance.now();
  const answer = (result: Partial<Answer>): void =>
    void process.send?.({ busy: 0, transactions: 0, longestMs: 0, error: null, ...result, tookMs: performance.now() - start } satisfies Answer);
  carryOut(order).then(answer, (error: unknown) => answer({ error: error instanceof Error ? error.message : String(error) }));
});
process.on('disconnect', () => process.exit(0));
process.send?.('open');
