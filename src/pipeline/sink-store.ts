/** The state of capture and of all sinks in `<state>/sinks.db`: written by the daemon's main thread, read by `waggle status` at any time. */
import { closeSync, existsSync, openSync } from 'node:fs';
import Database from 'better-sqlite3';
import type { Checkpoint } from '../change/change.ts';
import { stateError } from '../log/state-errors.ts';
import { type ErrorCode, WaggleError } from '../support/errors.ts';
import type { AuditResult, DifferentValue } from './audit.ts';
import type { SinkError, SinkStatus } from './sink-status.ts';

const FORMAT = 1;
const KEEP_VALUES_MS = 60_000;

/**
 * - waiting: not ready yet, or for what is wrong (`error`) to pass.
 * - failed: it ended with `error`.
 * - stopped: orderly end.
 *
 * A daemon that was killed leaves what stood here.
 */
export type CaptureState = 'running' | 'waiting' | 'failed' | 'stopped';

export interface CaptureStatus {
  readonly state: CaptureState;
  readonly error: SinkError | null;
  readonly updatedAtMs: number;
}

/** Something that a sink's runner was asked for. */
export interface SinkTask {
  readonly id: number;
  readonly sink: string;
  readonly kind: 'verify' | 'resync';
  /** Names in the hive; null: all tables of the sink. */
  readonly tables: readonly string[] | null;
  /** In the background, with most of the time left to the stream. */
  readonly slow: boolean;
  /** Whoever asked wants to see values of the first differences. */
  readonly values: boolean;
  readonly state: 'asked' | 'running' | 'done' | 'failed';
  /** As far as it has come. Null: nothing yet, or the tables are filled anew (`fill` of the status tells how far). */
  readonly result: AuditResult | null;
  readonly error: { readonly code: ErrorCode; readonly message: string; readonly hint: string } | null;
  readonly startedAtMs: number | null;
  readonly updatedAtMs: number;
}

type AskedTask = Pick<SinkTask, 'sink' | 'kind' | 'tables' | 'slow'> & { readonly values?: boolean };

type TaskRow = Omit<SinkTask, 'tables' | 'slow' | 'values' | 'result' | 'error'> & {
  readonly tables: string | null;
  readonly slow: number;
  readonly values: number;
  readonly result: string | null;
  readonly error: string | null;
};

export class SinkStore implements Disposable {
  readonly #path: string;
  readonly #database: Database.Database;

  private constructor(path: string, database: Database.Database) {
    this.#path = path;
    this.#database = database;
  }

  /** Opens or makes the file. Throws STATE_FORMAT, STATE_CORRUPT, STATE_UNUSABLE, DISK_FULL. */
  static open(path: string): SinkStore {
    return SinkStore.#open(path, (): Database.Database => {
      if (!existsSync(path)) closeSync(openSync(path, 'a', 0o600));
      const database = new Database(path, { timeout: 2000 });
      database.pragma('journal_mode = WAL');
      database.pragma('synchronous = NORMAL');
      database.exec('CREATE TABLE IF NOT EXISTS sinks (name TEXT PRIMARY KEY, status TEXT NOT NULL) WITHOUT ROWID');
      database.exec('CREATE TABLE IF NOT EXISTS capture (id INTEGER PRIMARY KEY CHECK (id = 1), status TEXT NOT NULL)');
      database.exec(
        `CREATE TABLE IF NOT EXISTS tasks (id INTEGER PRIMARY KEY AUTOINCREMENT, sink TEXT NOT NULL, kind TEXT NOT NULL, tables TEXT, slow INTEGER NOT NULL,
           "values" INTEGER NOT NULL, state TEXT NOT NULL, result TEXT, error TEXT, started_at_ms INTEGER, updated_at_ms INTEGER NOT NULL);
         CREATE TABLE IF NOT EXISTS task_values (task INTEGER PRIMARY KEY, "values" TEXT NOT NULL, saved_at_ms INTEGER NOT NULL);
         CREATE TABLE IF NOT EXISTS mappings (sink TEXT PRIMARY KEY, spec TEXT NOT NULL) WITHOUT ROWID;
         CREATE TABLE IF NOT EXISTS beginnings (sink TEXT PRIMARY KEY, checkpoint TEXT NOT NULL) WITHOUT ROWID`,
      );
      if (database.pragma('user_version', { simple: true }) === 0) database.pragma(`user_version = ${FORMAT}`);
      return database;
    });
  }

  /** For reading alone, beside a running daemon or without one. Throws STATE_MISSING where there is none yet. */
  static openForReading(path: string): SinkStore {
    if (!existsSync(path)) throw new WaggleError('STATE_MISSING', `there is no ${path}`);
    return SinkStore.#open(path, () => new Database(path, { readonly: true, fileMustExist: true, timeout: 2000 }));
  }

  save(status: SinkStatus): void {
    this.#try(() => {
      this.#database.prepare('INSERT OR REPLACE INTO sinks (name, status) VALUES (?, ?)').run(status.name, JSON.stringify(status));
    });
  }

  /** All sinks that ever wrote here, by name. */
  list(): SinkStatus[] {
    return this.#try(() => {
      const rows = this.#database.prepare<[], { status: string }>('SELECT status FROM sinks ORDER BY name').all();
      return rows.map((row) => JSON.parse(row.status) as SinkStatus);
    });
  }

  get(name: string): SinkStatus | null {
    return this.list().find((status) => status.name === name) ?? null;
  }

  /** Forgets a sink that is no longer configured. */
  remove(name: string): void {
    this.#try(() => {
      this.#database.prepare('DELETE FROM sinks WHERE name = ?').run(name);
      this.forgetBeginning(name);
    });
  }

  saveCapture(status: CaptureStatus): void {
    this.#try(() => {
      this.#database.prepare('INSERT OR REPLACE INTO capture (id, status) VALUES (1, ?)').run(JSON.stringify(status));
    });
  }

  /** Null: nothing was told yet. A file of an earlier version, open for reading, has no such table. */
  capture(): CaptureStatus | null {
    return this.#try(() => {
      const table = this.#database.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'capture'").get();
      if (table === undefined) return null;
      const row = this.#database.prepare<[], { status: string }>('SELECT status FROM capture').get();
      return row === undefined ? null : (JSON.parse(row.status) as CaptureStatus);
    });
  }

  /** Asks the runner of a sink for something. The task's id. */
  ask(task: AskedTask, atMs: number): number {
    return this.#try(() =>
      Number(
        this.#database
          .prepare(`INSERT INTO tasks (sink, kind, tables, slow, "values", state, updated_at_ms) VALUES (?, ?, ?, ?, ?, 'asked', ?)`)
          .run(task.sink, task.kind, task.tables === null ? null : JSON.stringify(task.tables), task.slow ? 1 : 0, task.values === true ? 1 : 0, atMs)
          .lastInsertRowid,
      ),
    );
  }

  /** The oldest that is not done: a killed daemon leaves one that runs. */
  nextTask(sink: string): SinkTask | null {
    return this.#task("WHERE sink = ? AND state IN ('asked', 'running') ORDER BY id", sink);
  }

  task(id: number): SinkTask | null {
    return this.#task('WHERE id = ?', id);
  }

  /** The last verification of a sink, whether it runs or has ended. */
  lastVerification(sink: string): SinkTask | null {
    return this.#task("WHERE sink = ? AND kind = 'verify' ORDER BY id DESC", sink);
  }

  saveTask({ id, state, result, error, startedAtMs, updatedAtMs }: SinkTask): void {
    this.#try(() => {
      this.#database
        .prepare('UPDATE tasks SET state = ?, result = ?, error = ?, started_at_ms = ?, updated_at_ms = ? WHERE id = ?')
        .run(state, result === null ? null : JSON.stringify(result), error === null ? null : JSON.stringify(error), startedAtMs, updatedAtMs, id);
    });
  }

  /** Row values, apart from what `status` and logs tell. What nobody has taken goes with the next that are saved. */
  saveValues(id: number, values: readonly DifferentValue[], atMs: number): void {
    this.#try(() => {
      this.#database.prepare('DELETE FROM task_values WHERE saved_at_ms < ?').run(atMs - KEEP_VALUES_MS);
      this.#database
        .prepare('INSERT OR REPLACE INTO task_values (task, "values", saved_at_ms) VALUES (?, ?, ?)')
        .run(id, JSON.stringify(values), atMs);
    });
  }

  /** They are gone then. Null: there are none. */
  takeValues(id: number): DifferentValue[] | null {
    return this.#try(() => {
      const text = this.#database.prepare<[number], string>('DELETE FROM task_values WHERE task = ? RETURNING "values"').pluck().get(id);
      return text === undefined ? null : (JSON.parse(text) as DifferentValue[]);
    });
  }

  mapping(sink: string): string | null {
    return this.#try(() => this.#database.prepare<[string], string>('SELECT spec FROM mappings WHERE sink = ?').pluck().get(sink) ?? null);
  }

  saveMapping(sink: string, spec: string): void {
    this.#try(() => {
      this.#database.prepare('INSERT OR REPLACE INTO mappings (sink, spec) VALUES (?, ?)').run(sink, spec);
    });
  }

  /** Where a sink begins that is not filled; null: nothing is kept. */
  beginning(sink: string): Checkpoint | null {
    return this.#try(() => {
      const text = this.#database.prepare<[string], string>('SELECT checkpoint FROM beginnings WHERE sink = ?').pluck().get(sink);
      return text === undefined ? null : (JSON.parse(text) as Checkpoint);
    });
  }

  saveBeginning(sink: string, checkpoint: Checkpoint): void {
    this.#try(() => {
      this.#database.prepare('INSERT OR REPLACE INTO beginnings (sink, checkpoint) VALUES (?, ?)').run(sink, JSON.stringify(checkpoint));
    });
  }

  forgetBeginning(sink: string): void {
    this.#try(() => {
      this.#database.prepare('DELETE FROM beginnings WHERE sink = ?').run(sink);
    });
  }

  /** Tasks that ended, but for the last verification of each sink. */
  forgetTasks(beforeMs: number): void {
    this.#try(() => {
      this.#database
        .prepare(
          `DELETE FROM tasks WHERE state IN ('done', 'failed') AND updated_at_ms < ? AND id NOT IN (SELECT max(id) FROM tasks WHERE kind = 'verify' GROUP BY sink)`,
        )
        .run(beforeMs);
    });
  }

  #task(where: string, parameter: string | number): SinkTask | null {
    return this.#try(() => {
      const row = this.#database
        .prepare<unknown[], TaskRow>(
          `SELECT id, sink, kind, tables, slow, "values", state, result, error, started_at_ms AS startedAtMs, updated_at_ms AS updatedAtMs FROM tasks ${where} LIMIT 1`,
        )
        .get(parameter);
      if (row === undefined) return null;
      return {
        ...row,
        slow: row.slow === 1,
        values: row.values === 1,
        tables: row.tables === null ? null : (JSON.parse(row.tables) as string[]),
        result: row.result === null ? null : (JSON.parse(row.result) as AuditResult),
        error: row.error === null ? null : (JSON.parse(row.error) as SinkTask['error']),
      };
    });
  }

  close(): void {
    this.#database.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #try<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw stateError(error, this.#path);
    }
  }

  static #open(path: string, open: () => Database.Database): SinkStore {
    let database: Database.Database | null = null;
    try {
      database = open();
      const format: unknown = database.pragma('user_version', { simple: true });
      if (format !== FORMAT) throw new WaggleError('STATE_FORMAT', `${path} has format ${String(format)}; this waggle reads format ${FORMAT}`);
      return new SinkStore(path, database);
    } catch (error) {
      database?.close();
      throw stateError(error, path);
    }
  }
}
