/**
 * The connector `sqlite`: an exact copy in another SQLite file. Every value keeps its storage class; a batch and its
 * checkpoint are one transaction. Readers of the copy see whole batches.
 */
import { randomUUID } from 'node:crypto';
import { mkdirSync, rmSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import Database from 'better-sqlite3';
import type { Checkpoint } from '../../src/change/change.ts';
import type { Batch, Sink, SinkAudit, SinkChange, SinkContext, SinkTable } from '../../src/pipeline/sink.ts';
import { systemErrorCode, WaggleError } from '../../src/support/errors.ts';
import { CheckpointTable } from './checkpoint-table.ts';
import { toSinkError } from './errors.ts';
import type { SqliteOptions } from './options.ts';
import { columnDifferences, compareRows, countRows, keysBehind } from './table-audit.ts';
import { applySchemaChange, type Target, TargetTable } from './target-table.ts';

// Short, because waiting blocks the thread; the runner tries again.
const BUSY_TIMEOUT_MS = 500;

export const createSink = (options: SqliteOptions): Sink => new SqliteSink(options.file);

interface Live extends Target {
  readonly checkpoints: CheckpointTable;
  readonly tables: Map<string, TargetTable>;
  /** Which file the database is; see `fileIdentity`. */
  readonly identity: string | null;
  readonly walIdentity: string | null;
  filling: boolean;
}

class SqliteSink implements Sink {
  readonly wants = 'states';
  readonly integers = 'bigint';
  /** Each commit writes most pages of the tables once (see `open`), however few rows it has: with it and a larger cache a change took 31 µs instead of 43. */
  readonly batchRows = 100_000;
  readonly #file: string;
  readonly #token = randomUUID();
  #held = false;
  #live: Live | null = null;

  constructor(file: string) {
    this.#file = file;
  }

  async open(context: SinkContext): Promise<Checkpoint | null> {
    await this.close();
    let database: Database.Database | null = null;
    try {
      makeDirectory(this.#file);
      database = new Database(this.#file, { timeout: BUSY_TIMEOUT_MS });
      // Cache and WAL of 32 MB: rows of random keys touch most pages of a table in each batch, which are then read, written and checkpointed less often.
      // FULL: `apply` resolves when the commit is on the disk. Foreign keys: the order of the hive's rows is not theirs.
      database.exec(
        'PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF; PRAGMA mmap_size = 0; PRAGMA cache_size = -32768; PRAGMA wal_autocheckpoint = 8000',
      );
      const checkpoints = new CheckpointTable(database, context.name, this.#token);
      const checkpoint = checkpoints.take(this.#held);
      this.#held = true;
      this.#live = {
        database,
        file: this.#file,
        logger: context.logger,
        checkpoints,
        tables: new Map(),
        identity: fileIdentity(this.#file),
        walIdentity: fileIdentity(`${this.#file}-wal`),
        filling: checkpoint === null || checkpoint.fill !== null,
      };
      return checkpoint;
    } catch (error) {
      database?.close();
      throw this.#failed(error);
    }
  }

  apply(batch: Batch): Promise<void> {
    return this.#write(batch, (live) => {
      live.checkpoints.commit(batch.checkpoint);
      live.filling = batch.checkpoint.fill !== null;
    });
  }

  rehearse(batch: Batch): Promise<void> {
    return this.#write(batch, (live) => {
      live.checkpoints.rollback();
      // They know of tables and columns that are gone again.
      live.tables.clear();
    });
  }

  readonly audit: SinkAudit = {
    compare: async (table, rows) => this.#read(table, (live) => compareRows(live, table, rows)),
    differences: async (table, rows) => this.#read(table, (live) => columnDifferences(live, table, rows)),
    count: async (table) => this.#read(table, (live) => countRows(live, table)),
    keys: async (table, after, limit) => this.#read(table, (live) => keysBehind(live, table, { after, limit })),
  };

  #read<T>(table: SinkTable, work: (live: Live) => T): T {
    const live = this.#open();
    try {
      this.#checkIdentity(live);
      return work(live);
    } catch (error) {
      throw this.#failed(error, table.name);
    }
  }

  #open(): Live {
    if (this.#live === null) throw new WaggleError('SINK_UNREACHABLE', `sqlite ${this.#file}: not open`);
    return this.#live;
  }

  async #write(batch: Batch, finish: (live: Live) => void): Promise<void> {
    const live = this.#open();
    let table: string | undefined;
    try {
      this.#checkIdentity(live);
      live.filling ||= batch.checkpoint.fill !== null;
      live.checkpoints.begin();
      for await (const part of batch.parts()) {
        for (const change of part) {
          table = change.table?.name;
          take(live, change);
        }
        for (const target of live.tables.values()) {
          table = target.table.name;
          target.flush();
        }
      }
      for (const target of live.tables.values()) target.finish();
      table = undefined;
      finish(live);
    } catch (error) {
      throw this.#failed(error, table);
    }
  }

  async close(): Promise<void> {
    const live = this.#live;
    this.#live = null;
    try {
      if (live?.database.inTransaction === true) live.database.exec('ROLLBACK');
    } catch {
      // SQLite has rolled back by itself; closing does it in any case.
    }
    live?.database.close();
    if (live !== null) this.#removeStaleWal(live);
  }

  // SQLite leaves the WAL of a file that was replaced, and whoever opens the new one would get these pages written over it.
  #removeStaleWal({ identity, walIdentity }: Live): void {
    const wal = `${this.#file}-wal`;
    if (walIdentity === null || fileIdentity(this.#file) === identity || fileIdentity(wal) !== walIdentity) return;
    rmSync(wal, { force: true });
    rmSync(`${this.#file}-shm`, { force: true });
  }

  // SQLite itself would go on writing into the removed file, which nobody can read.
  #checkIdentity({ identity }: Live): void {
    if (fileIdentity(this.#file) === identity) return;
    // Another file, so another taking: the tokens in it are of a time before.
    this.#held = false;
    throw new WaggleError('SINK_CHECKPOINT_UNKNOWN', `sqlite ${this.#file}: the file was removed or replaced while it was open`, {
      hint: 'Nothing to do: the file under its name is opened, and filled unless it holds a checkpoint that the log knows.',
    });
  }

  #failed(error: unknown, table?: string): WaggleError {
    const failure = toSinkError(error, this.#file, table);
    if (failure.code === 'SINK_FENCED') this.#held = false;
    return failure;
  }
}

const take = (live: Live, change: SinkChange): void => {
  if (change.op === 's') {
    for (const target of live.tables.values()) target.finish();
    live.tables.clear();
    const changed = applySchemaChange(live, change, live.filling);
    if (changed !== null) live.tables.set(changed.table.name, changed);
    return;
  }
  let target = live.tables.get(change.table.name);
  if (target?.table !== change.table) {
    target?.finish();
    target = TargetTable.open(live, change.table, live.filling);
    live.tables.set(change.table.name, target);
  }
  if (change.op === 't' && change.mark === undefined) target.deleteAll();
  else if (change.op === 't') target.markAll(change.mark!);
  else target.apply(change);
};

/** Two files with the same name differ in it. Null: there is none. */
const fileIdentity = (file: string): string | null => {
  const found = statSync(file, { bigint: true, throwIfNoEntry: false });
  return found === undefined ? null : `${found.dev}:${found.ino}`;
};

const makeDirectory = (file: string): void => {
  try {
    mkdirSync(dirname(file), { recursive: true });
  } catch (error) {
    throw new WaggleError('SINK_DENIED', `sqlite ${file}: its directory cannot be created (${systemErrorCode(error) ?? 'unknown'})`, {
      hint: 'Check the rights of the directory above it.',
    });
  }
};
