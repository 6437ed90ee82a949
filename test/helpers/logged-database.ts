/**
 * A real SQLite database whose transactions go into a real log, and a RowSource over it: the database is the oracle of
 * whatever is made out of the log. Changes are found by comparing touched rows before and after each transaction.
 */
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { ChangeWriter } from '../../src/change/change-codec.ts';
import { Row } from '../../src/change/row.ts';
import type { Catalog, Column, RowPlace, Table, Value } from '../../src/change/table.ts';
import { type LogTransaction, TransactionBatch } from '../../src/log/transaction-batch.ts';
import { LogWriter } from '../../src/log/log-writer.ts';
import type { RowChunk, RowSource } from '../../src/pipeline/row-source.ts';
import { canonicalInteger } from '../../src/sqlite/varint.ts';
import { HeadNotice } from '../../src/stream/head-notice.ts';
import { type Clock, systemClock } from '../../src/support/clock.ts';
import { encodeRecord } from './record-encoder.ts';
import type { Random } from './random.ts';

const column = (name: string, options: Partial<Column> = {}): Column => ({
  name,
  type: '',
  affinity: 'BLOB',
  notNull: false,
  defaultSql: null,
  defaultValue: null,
  keyOrdinal: 0,
  generated: false,
  ...options,
});

export const testTable = (name: string, columns: Column[], options: Partial<Table> = {}): Table => ({
  name,
  columns,
  key: columns.flatMap((each, index) => (each.keyOrdinal > 0 ? [index] : [])),
  rowidAlias: -1,
  strict: false,
  references: [],
  sql: `CREATE TABLE ${name} (…)`,
  generation: 1,
  ...options,
});

export const ITEMS = testTable('items', [column('id', { type: 'INTEGER', affinity: 'INTEGER', keyOrdinal: 1 }), column('name'), column('value')], {
  rowidAlias: 0,
});
export const PAIRS = testTable('pairs', [column('a', { keyOrdinal: 1 }), column('b', { keyOrdinal: 2 }), column('v')]);
export const NOTES = testTable('notes', [column('body'), column('n')]);

const CREATE: Record<string, string> = {
  items: 'CREATE TABLE items (id INTEGER PRIMARY KEY, name, value)',
  pairs: 'CREATE TABLE pairs (a, b, v, PRIMARY KEY (a, b))',
  notes: 'CREATE TABLE notes (body, n)',
};

export const randomValue = (random: Random): Value => {
  switch (random.int(7)) {
    case 0:
      return null;
    case 1:
      return BigInt(random.int(5));
    case 2:
      return BigInt.asIntN(64, BigInt(random.int(2 ** 31)) * 4294967311n * BigInt(random.int(1000) - 500));
    case 3:
      return random.next() * 10 ** (random.int(40) - 20);
    case 4:
      return `text ${random.int(1000)} ☃`;
    case 5:
      return Buffer.alloc(random.int(40), random.int(256));
    default:
      return 'x'.repeat(random.int(random.chance(0.05) ? 20_000 : 60));
  }
};

export class LoggedDatabase implements Disposable {
  readonly db: Database.Database = new Database(':memory:');
  readonly logPath: string;
  readonly head: HeadNotice;
  writer: LogWriter;
  catalog: Catalog = { version: 1, encoding: 'utf8', tables: [ITEMS, PAIRS, NOTES] };
  generation = 1;
  /** Called before each answer of the row source, to commit in between. */
  beforeChunk: ((table: string, after: RowPlace | null) => void) | null = null;
  /** Called behind each reading, before it is answered. */
  afterChunk: (() => void) | null = null;
  readRowsCalls = 0;
  #batchId = 0;
  #frame = 0;

  constructor(directory: string, clock: Clock = systemClock) {
    this.head = new HeadNotice(clock);
    this.logPath = join(directory, 'log.db');
    this.writer = LogWriter.open({ path: this.logPath, durability: 'os', hive: { path: '/hive' } });
    for (const table of this.catalog.tables) this.db.exec(CREATE[table.name]!);
    this.append([], [this.catalog]);
  }

  /** Rows that are there before capture began: in no log. */
  seed(random: Random, count: number): void {
    for (let index = 0; index < count; index += 1) this.#insert(random.pick(this.catalog.tables).name, random);
  }

  /** One transaction of random operations, in the database and in the log. */
  commit(random: Random, operations = 1 + random.int(4)): void {
    const touched = new Map<string, { table: number; rowid: bigint; before: Value[] | null }>();
    for (let index = 0; index < operations; index += 1) {
      const at = random.int(this.catalog.tables.length);
      const { name } = this.catalog.tables[at]!;
      const existing = this.db.prepare<[], bigint>(`SELECT rowid FROM ${name} ORDER BY rowid`).safeIntegers().pluck().all();
      const rowid = existing.length > 0 && random.chance(0.6) ? random.pick(existing) : null;
      const note = (id: bigint, before: Value[] | null): void => {
        if (!touched.has(`${name} ${id}`)) touched.set(`${name} ${id}`, { table: at, rowid: id, before });
      };
      if (rowid === null) {
        const inserted = this.#insert(name, random);
        if (inserted !== null) note(inserted, null);
        continue;
      }
      note(rowid, this.row(name, rowid));
      const last = this.catalog.tables[at]!.columns.at(-1)!.name;
      if (random.chance(0.3)) this.db.prepare(`DELETE FROM ${name} WHERE rowid = ?`).run(rowid);
      else this.db.prepare(`UPDATE ${name} SET ${last} = ? WHERE rowid = ?`).run(randomValue(random), rowid);
    }
    const writer = new ChangeWriter();
    for (const { table, rowid, before } of touched.values()) this.#write(writer, { table, rowid, before });
    this.append([this.transaction(writer)]);
  }

  /** One transaction that changes every row. */
  touchAll(): void {
    const writer = new ChangeWriter();
    for (const [table, { name, columns }] of this.catalog.tables.entries()) {
      for (const rowid of this.db.prepare<[], bigint>(`SELECT rowid FROM ${name} ORDER BY rowid`).safeIntegers().pluck().all()) {
        const before = this.row(name, rowid);
        this.db.prepare(`UPDATE ${name} SET ${columns.at(-1)!.name} = 'touched' WHERE rowid = ?`).run(rowid);
        this.#write(writer, { table, rowid, before });
      }
    }
    this.append([this.transaction(writer)]);
  }

  /** One transaction with one new row. */
  insertItem(id: number | null = null): void {
    const rowid = this.db.prepare<[number | null], number>("INSERT INTO items VALUES (?, 'new', 1) RETURNING id").pluck().get(id)!;
    const writer = new ChangeWriter();
    this.#write(writer, { table: 0, rowid: BigInt(rowid), before: null });
    this.append([this.transaction(writer)]);
  }

  /** The row changed from `before` to what the database holds now. A key that came back with the row is an update. */
  #write(writer: ChangeWriter, change: { table: number; rowid: bigint; before: Value[] | null }): void {
    const { table, before } = change;
    const rowid = canonicalInteger(change.rowid);
    const { name } = this.catalog.tables[table]!;
    const after = this.row(name, change.rowid);
    const sameKey = (a: Value[], b: Value[]): boolean =>
      this.catalog.tables[table]!.key.every((index) => encodeRecord([a[index]!]).equals(encodeRecord([b[index]!])));
    if (before !== null && after !== null && sameKey(before, after)) {
      const records = { before: this.record(name, before), after: this.record(name, after) };
      if (!records.before.equals(records.after)) writer.update(table, { rowid, oldRowid: rowid, ...records });
      return;
    }
    if (before !== null) writer.delete(table, rowid, this.record(name, before), false);
    if (after !== null) writer.create(table, rowid, this.record(name, after));
  }

  transaction(writer: ChangeWriter, options: Partial<LogTransaction> = {}): LogTransaction {
    this.#frame += 3;
    return {
      epoch: 1,
      frame: this.#frame,
      timestampUs: Date.now() * 1000,
      origin: null,
      recovered: false,
      changeCount: writer.count,
      parts: writer.parts(),
      catalogVersion: this.catalog.version,
      previousCatalogVersion: this.catalog.version,
      ...options,
    };
  }

  append(transactions: LogTransaction[], catalogs: Catalog[] = []): void {
    this.#batchId += 1;
    const position = { epoch: 1, frame: this.#frame, salt1: 4294967295, salt2: 1, checksum1: 2, checksum2: 3 };
    const batch = TransactionBatch.of(...transactions);
    this.writer.append({ batchId: this.#batchId, position, sizePages: 7, catalogVersion: this.catalog.version, catalogs, transactions: batch });
    this.head.notify(this.writer.headSeq);
  }

  /** Drops the table and creates it anew, empty, in one transaction. */
  recreate(name: string): void {
    const table = this.catalog.tables.findIndex((each) => each.name === name);
    this.db.exec(`DROP TABLE ${name}; ${CREATE[name]!}`);
    this.generation += 1;
    const previousCatalogVersion = this.catalog.version;
    const tables = this.catalog.tables.map((each, index) => (index === table ? { ...each, generation: this.generation } : each));
    this.catalog = { ...this.catalog, version: previousCatalogVersion + 1, tables };
    const writer = new ChangeWriter();
    writer.truncate(table);
    writer.schema(table, true);
    writer.schema(table, false);
    this.append([this.transaction(writer, { previousCatalogVersion })], [this.catalog]);
  }

  /** As VACUUM does: rows of keyed tables change their rowid, and no change tells. Here the last come to be the first. */
  renumber(): void {
    this.generation += 1;
    // All of them below the lowest, in reverse: no new rowid meets an old one.
    this.db.exec('UPDATE pairs SET rowid = 2 * (SELECT min(rowid) FROM pairs) - 1 - rowid');
  }

  rows(): RowSource {
    return {
      readRows: (name, after, maxBytes) => {
        this.readRowsCalls += 1;
        this.beforeChunk?.(name, after);
        const chunk = this.#chunk(name, after, maxBytes);
        this.afterChunk?.();
        return Promise.resolve(chunk);
      },
    };
  }

  /** All rows of a table as the sink shall have them: values in column order, with the rowid where there is no key. */
  expected(name: string): Value[][] {
    const keyless = name === 'notes' ? 'rowid, ' : '';
    return this.db.prepare<[], Value[]>(`SELECT ${keyless}* FROM ${name} ORDER BY 1, 2`).raw().safeIntegers().all();
  }

  row(name: string, rowid: bigint): Value[] | null {
    return this.db.prepare<[bigint], Value[]>(`SELECT * FROM ${name} WHERE rowid = ?`).raw().safeIntegers().get(rowid) ?? null;
  }

  record(name: string, values: Value[]): Buffer {
    return encodeRecord(name === 'items' ? [null, ...values.slice(1)] : values);
  }

  [Symbol.dispose](): void {
    this.writer.close();
    this.db.close();
  }

  #chunk(name: string, after: RowPlace | null, maxBytes: number): RowChunk | null {
    const table = this.catalog.tables.find((each) => each.name === name);
    if (table === undefined) return null;
    // Small chunks, so that a fill has many.
    const limit = Math.max(1, Math.min(7, maxBytes));
    const found = this.db
      .prepare<[RowPlace, number], Value[]>(`SELECT rowid, * FROM ${name} WHERE rowid > ? ORDER BY rowid LIMIT ?`)
      .raw()
      .safeIntegers()
      .all(after ?? -(2n ** 63n), limit);
    const rows = found.map(([rowid, ...values]) => new Row(table, canonicalInteger(rowid as bigint), this.record(name, values), 'utf8'));
    const asOf = { seq: this.writer.headSeq, txid: this.writer.headTxid };
    return { table, rows, asOf, generation: String(this.generation), done: rows.length < limit, share: 0.1 };
  }

  #insert(name: string, random: Random): bigint | null {
    const values =
      name === 'items'
        ? [null, randomValue(random), randomValue(random)]
        : name === 'pairs'
          ? [`k${random.int(40)}`, BigInt(random.int(10)), randomValue(random)]
          : [randomValue(random), randomValue(random)];
    const sql = `INSERT OR IGNORE INTO ${name} VALUES (${values.map(() => '?').join()}) RETURNING rowid`;
    return (
      this.db
        .prepare<unknown[], bigint>(sql)
        .safeIntegers()
        .pluck()
        .get(...values) ?? null
    );
  }
}
