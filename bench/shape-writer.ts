/**
 * The application of the benchmarks, a process of its own: one shape at full speed for some seconds, then its figures.
 * `argv[2]`: JSON of ShapeWriterOptions. Says {ready} when the tables stand, starts at the message 'start'.
 */
import Database from 'better-sqlite3';
import { openShape, prepareShape, type Shape } from './shapes.ts';

export interface ShapeWriterOptions {
  readonly hive: string;
  readonly shape: Shape;
  readonly seconds: number;
  /** Triggers into a log table in the same file, as trigger-based capture installs them. */
  readonly triggers: boolean;
  /** Milliseconds between two transactions; 0: none. */
  readonly pauseMs: number;
}

export interface ShapeWriterResult {
  readonly rows: number;
  readonly seconds: number;
  readonly cpuSeconds: number;
  /** Of single transactions, milliseconds. */
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
  readonly busyErrors: number;
}

const COLUMNS = ['id', 'name', 'email', 'age', 'score', 'note', 'at'];

const installTriggers = (db: Database.Database): void => {
  db.exec('CREATE TABLE change_log (seq INTEGER PRIMARY KEY AUTOINCREMENT, tbl TEXT, op TEXT, old TEXT, new TEXT)');
  const row = (name: 'OLD' | 'NEW'): string => `json_object(${COLUMNS.map((column) => `'${column}', ${name}.${column}`).join(', ')})`;
  db.exec(`CREATE TRIGGER t_i AFTER INSERT ON t BEGIN INSERT INTO change_log (tbl, op, new) VALUES ('t', 'c', ${row('NEW')}); END`);
  db.exec(
    `CREATE TRIGGER t_u AFTER UPDATE ON t BEGIN INSERT INTO change_log (tbl, op, old, new) VALUES ('t', 'u', ${row('OLD')}, ${row('NEW')}); END`,
  );
  db.exec(`CREATE TRIGGER t_d AFTER DELETE ON t BEGIN INSERT INTO change_log (tbl, op, old) VALUES ('t', 'd', ${row('OLD')}); END`);
};

const run = async (db: Database.Database, options: ShapeWriterOptions): Promise<ShapeWriterResult> => {
  const step = openShape(db, options.shape);
  const times: number[] = [];
  let rows = 0;
  let busyErrors = 0;
  const cpu = process.cpuUsage();
  const started = performance.now();
  const end = started + options.seconds * 1000;
  for (let now = started; now < end;) {
    try {
      rows += step();
    } catch (error) {
      if (!(error instanceof Database.SqliteError) || !error.code.startsWith('SQLITE_BUSY')) throw error;
      busyErrors += 1;
    }
    const after = performance.now();
    times.push(after - now);
    now = after;
    if (options.pauseMs > 0) {
      await new Promise((resolve) => setTimeout(resolve, options.pauseMs));
      now = performance.now();
    }
  }
  const seconds = (performance.now() - started) / 1000;
  const used = process.cpuUsage(cpu);
  times.sort((a, b) => a - b);
  const at = (part: number): number => times[Math.min(times.length - 1, Math.floor(times.length * part))] ?? 0;
  return { rows, seconds, cpuSeconds: (used.user + used.system) / 1e6, p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1), busyErrors };
};

const options = JSON.parse(process.argv[2] ?? '') as ShapeWriterOptions;
const db = new Database(options.hive, { timeout: 5000 });
db.pragma('journal_mode = WAL');
db.pragma('synchronous = NORMAL');
prepareShape(db, options.shape);
if (options.triggers) installTriggers(db);
db.pragma('wal_checkpoint(TRUNCATE)');
process.once('message', () => {
  void run(db, options).then((result) => {
    process.send!(result, () => {
      db.close();
      process.disconnect();
    });
  });
});
process.send!({ ready: true });
