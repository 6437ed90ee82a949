/** One hive in a directory, a connection that writes it, and what capture makes of each transaction. */
import { join } from 'node:path';
import Database from 'better-sqlite3';
import type { Change } from '../../src/change/change.ts';
import { ReplicaProbe } from './replica-probe.ts';
import { TableModel } from './table-model.ts';
import { temporaryDirectory } from './temporary.ts';

export class CaptureScene implements AsyncDisposable {
  readonly db: Database.Database;
  readonly probe: ReplicaProbe;
  readonly #model: TableModel;
  readonly #directory: ReturnType<typeof temporaryDirectory>;

  /** `setup` runs before capture begins, `prepare` before the file is opened. */
  constructor(setup: string, options: { pragmas?: readonly string[]; prepare?: (file: string) => void; deleteAll?: 'rows' | 'event' } = {}) {
    this.#directory = temporaryDirectory();
    const file = join(this.#directory.path, 'db.sqlite');
    options.prepare?.(file);
    this.db = new Database(file);
    for (const pragma of options.pragmas ?? []) this.db.pragma(pragma);
    for (const pragma of ['journal_mode = WAL', 'synchronous = OFF', 'wal_autocheckpoint = 0']) this.db.pragma(pragma);
    this.db.pragma('user_version = 1');
    this.db.exec(setup);
    this.probe = new ReplicaProbe(file, this.#directory.path, options.deleteAll);
    this.#model = TableModel.read(this.db, this.probe.replica.schema.catalog.tables);
  }

  /** Runs statements; gives the changes of each transaction, after they were held against SQLite's state and a walk of the mirror. */
  async run(sql: string): Promise<Change[][]> {
    this.db.exec(sql);
    return this.take();
  }

  async take(): Promise<Change[][]> {
    const transactions = await this.probe.take();
    for (const changes of transactions) this.#model.apply(changes);
    this.probe.assertMap();
    TableModel.read(this.db, this.probe.replica.schema.catalog.tables).assertEquals(this.#model);
    return transactions;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.probe[Symbol.asyncDispose]();
    this.db.close();
    this.#directory[Symbol.dispose]();
  }
}

/** `op table key` of each change, in order. */
export const briefly = (changes: readonly Change[]): string[] =>
  changes.map((change) => {
    if (change.op === 's') return `s ${change.name}`;
    if (change.op === 't') return `t ${change.table.name}`;
    const row = (change.after ?? change.before)!;
    const values = row.values();
    const { key } = row.table;
    return `${change.op} ${change.table.name} ${key.length === 0 ? String(row.rowid) : key.map((column) => String(values[column])).join()}`;
  });

/** Values of the rows of a change. */
export const images = (change: Change | undefined): { before: unknown; after: unknown } =>
  change === undefined || change.op === 's' || change.op === 't'
    ? { before: null, after: null }
    : { before: change.before?.values() ?? null, after: change.after?.values() ?? null };
