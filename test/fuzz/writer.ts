/**
 * One application: seeded transactions on the hive, and for each its account, written before COMMIT. Forked by `round.ts`;
 * argv: the options as JSON. Messages: in `setup`, `run`, `finish`; out each when it is done.
 */
import { openSync, writeSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { Random } from '../helpers/random.ts';
import type { Account, TableAccount } from './account.ts';
import { type Connection, connect, isSqliteError } from './connection.ts';
import type { RoundPlan } from './plan.ts';
import { Workload } from './workload.ts';
import { WriterSchema } from './writer-schema.ts';

export interface WriterOptions {
  readonly plan: RoundPlan;
  readonly writer: number;
  readonly file: string;
  /** Path of the file of accounts. */
  readonly accounts: string;
  /** Attempts; those that end in a rollback count. */
  readonly transactions: number;
}

export type WriterOrder = 'setup' | 'run' | 'finish';
export type WriterAnswer = { readonly done: WriterOrder; readonly order: number } | { readonly failed: string };

const BUSY_MS = 30_000;
const CHECKPOINTS = ['PASSIVE', 'FULL', 'RESTART', 'TRUNCATE'] as const;

class Writer {
  readonly #options: WriterOptions;
  readonly #random: Random;
  readonly #accounts: number;
  readonly #db: Connection;
  readonly #schema: WriterSchema;
  readonly #workload: Workload;
  /** A read transaction that stands still beside the writing. */
  #reader: Connection | null = null;
  #lastOrder = 0;
  #toldVersion = -1n;

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#random = new Random(options.plan.seed * 31 + options.writer + 1);
    this.#accounts = openSync(options.accounts, 'a');
    this.#db = this.#connect();
    this.#schema = new WriterSchema(this.#db);
    const { plan, writer } = options;
    this.#workload = new Workload({ db: this.#db, schema: this.#schema, plan, writer, random: this.#random });
  }

  /** Schema and first rows, before capture begins. */
  setup(): void {
    this.#db.exec('CREATE TABLE fuzz_order (id INTEGER PRIMARY KEY, n INTEGER NOT NULL, writer INTEGER); INSERT INTO fuzz_order VALUES (1, 0, 0)');
    this.#workload.createSchema();
    this.#complete();
  }

  async run(): Promise<void> {
    const { pauses } = this.#options.plan.writers[this.#options.writer]!;
    for (let index = 0; index < this.#options.transactions; index += 1) {
      if (this.#random.chance(0.06)) this.#maintain();
      this.#transaction();
      if (this.#random.chance(pauses)) await new Promise((resolve) => setTimeout(resolve, this.#random.int(12)));
    }
    this.#reader?.close();
    this.#reader = null;
  }

  finish(): void {
    this.#complete();
  }

  get lastOrder(): number {
    return this.#lastOrder;
  }

  /** One transaction that does nothing but tell of every table. */
  #complete(): void {
    this.#db.exec('BEGIN IMMEDIATE');
    const order = this.#count();
    this.#tell({ order, names: new Set(this.#schema.tables.keys()), isComplete: true });
    this.#db.exec('COMMIT');
    this.#lastOrder = order;
  }

  #transaction(): void {
    const { random } = this.#workload;
    const workload = this.#workload;
    workload.touched.clear();
    workload.statements.length = 0;
    try {
      this.#db.exec(random.chance(0.8) ? 'BEGIN IMMEDIATE' : 'BEGIN');
      if (random.chance(0.3)) this.#db.rows('SELECT n FROM fuzz_order');
      const countAt = random.int(2);
      let order = countAt === 0 ? this.#count() : -1;
      const before = order !== -1 && random.chance(0.15) ? this.#before() : undefined;
      const version = this.#schema.version();
      const count = random.chance(0.15) ? 1 + random.int(10) : 1 + random.int(2);
      for (let index = 0; index < count && this.#db.inTransaction; index += 1) {
        if (random.chance(0.07)) this.#savepoint();
        else workload.operation();
      }
      if (!this.#db.inTransaction) return this.#schema.forget();
      if (random.chance(0.07)) return this.#rollback();
      if (order === -1) order = this.#count();
      const isAltered = this.#schema.version() !== version;
      const names = isAltered ? new Set(this.#schema.tables.keys()) : this.#schema.affectedBy(workload.touched);
      names.add('fuzz_order');
      this.#tell({ order, names, isComplete: false, ...(before === undefined ? {} : { before }) });
      this.#commit(order);
    } catch (error) {
      if (!isSqliteError(error)) throw error;
      this.#rollback();
    }
  }

  #commit(order: number): void {
    try {
      this.#db.exec('COMMIT');
      this.#lastOrder = order;
    } catch (error) {
      this.#write({ void: order });
      throw error;
    }
  }

  #rollback(): void {
    if (this.#db.inTransaction) this.#db.exec('ROLLBACK');
    this.#schema.forget();
    this.#toldVersion = -1n;
  }

  #savepoint(): void {
    const { random } = this.#workload;
    this.#db.exec('SAVEPOINT s');
    this.#workload.operation();
    if (this.#db.inTransaction && random.chance(0.2)) this.#savepoint();
    if (this.#db.inTransaction) this.#workload.operation();
    if (!this.#db.inTransaction) return;
    this.#db.exec(random.chance(0.6) ? 'ROLLBACK TO s; RELEASE s' : 'RELEASE s');
    this.#schema.forget();
  }

  #count(): number {
    const [row] = this.#db.rows('UPDATE fuzz_order SET n = n + 1, writer = ? WHERE id = 1 RETURNING n', this.#options.writer);
    return Number(row![0]);
  }

  #before(): { name: string; sum: number }[] {
    const table = this.#random.pick([...this.#schema.tables.values()].filter((each) => each.name !== 'fuzz_order'));
    return table === undefined ? [] : [{ name: table.name, sum: this.#schema.sum(table) }];
  }

  #tell(what: { order: number; names: ReadonlySet<string>; isComplete: boolean; before?: { name: string; sum: number }[] }): void {
    const { order, names, isComplete, before } = what;
    const known = this.#schema.tables;
    const tables: TableAccount[] = [];
    for (const name of names) {
      const table = known.get(name);
      if (table !== undefined) tables.push(this.#schema.account(table, isComplete));
    }
    const version = this.#schema.version();
    const account: Account = {
      order,
      writer: this.#options.writer,
      tables,
      ...(version === this.#toldVersion && !isComplete ? {} : { names: [...known.keys()] }),
      ...(before === undefined ? {} : { before }),
      statements: this.#workload.statements,
    };
    this.#toldVersion = version;
    this.#write(account);
  }

  #write(line: object): void {
    writeSync(this.#accounts, `${JSON.stringify(line)}\n`);
  }

  /** What an application does to its file between transactions. Refused (somebody else is at it) is fine. */
  #maintain(): void {
    const random = this.#random;
    const workload = this.#workload;
    switch (random.int(12)) {
      case 0:
        // Takes effect with VACUUM where pointer-map pages come or go.
        if (random.chance(0.3)) workload.try(`PRAGMA auto_vacuum = ${random.pick(['NONE', 'FULL', 'INCREMENTAL'])}`);
        workload.try('VACUUM');
        break;
      case 1:
        workload.try(`PRAGMA incremental_vacuum(${random.int(20)})`);
        break;
      case 2:
        this.#reopen();
        break;
      case 3:
        this.#read();
        break;
      case 4:
        workload.try(`PRAGMA cache_size = ${random.pick([5, 10, 100, -2000])}`);
        break;
      case 5:
        workload.try('PRAGMA optimize');
        break;
      default:
        workload.try(`PRAGMA busy_timeout = ${random.pick([0, 20, 200])}`);
        workload.try(`PRAGMA wal_checkpoint(${random.pick(CHECKPOINTS)})`);
        workload.try(`PRAGMA busy_timeout = ${BUSY_MS}`);
    }
  }

  #read(): void {
    if (this.#reader === null) {
      this.#reader = this.#connect();
      this.#reader.exec('BEGIN');
      this.#reader.rows('SELECT n FROM fuzz_order');
    } else {
      this.#reader.close();
      this.#reader = null;
    }
  }

  #reopen(): void {
    this.#db.reopen();
    this.#configure(this.#db);
    this.#schema.forget();
  }

  #connect(): Connection {
    const { plan, writer, file } = this.#options;
    const { driver, powersafeOverwrite } = plan.writers[writer]!;
    // The only one of the two that takes a URI.
    const url = driver === 'node:sqlite' && !powersafeOverwrite ? `${pathToFileURL(file).href}?psow=0` : file;
    const db = connect(driver, url, BUSY_MS);
    this.#configure(db);
    return db;
  }

  #configure(db: Connection): void {
    const plan = this.#options.plan.writers[this.#options.writer]!;
    db.exec(
      `PRAGMA synchronous = ${plan.synchronous}; PRAGMA cache_size = ${plan.cachePages}; PRAGMA wal_autocheckpoint = ${plan.autoCheckpoint};
       PRAGMA foreign_keys = ${plan.foreignKeys ? 'ON' : 'OFF'}; PRAGMA recursive_triggers = ${plan.recursiveTriggers ? 'ON' : 'OFF'};
       PRAGMA secure_delete = ${plan.secureDelete}`,
    );
  }
}

const writer = new Writer(JSON.parse(process.argv[2]!) as WriterOptions);
const answer = (message: WriterAnswer): void => void process.send?.(message);
const carryOut = async (order: WriterOrder): Promise<void> => {
  await writer[order]();
  answer({ done: order, order: writer.lastOrder });
};
process.on('message', (order: WriterOrder) => {
  carryOut(order).catch((error: unknown) => answer({ failed: error instanceof Error ? (error.stack ?? error.message) : String(error) }));
});
process.on('disconnect', () => process.exit(0));
