/** The state of capture and of all sinks in `<state>/sinks.db`: written by the daemon's main thread, read by `waggle status` at any time. */
import { closeSync, existsSync, openSync } from 'node:fs';
import Database from 'better-sqlite3';
import { stateError } from '../log/state-errors.ts';
import { WaggleError } from '../support/errors.ts';
import type { SinkStatus } from './sink-status.ts';

const FORMAT = 1;

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
  readonly error: SinkStatus['error'];
  readonly updatedAtMs: number;
}

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
