/** What a writer needs of a SQLite connection, for each of the two libraries that applications use. */
import { DatabaseSync, type SQLInputValue } from 'node:sqlite';
import Database from 'better-sqlite3';
import type { Value } from '../../src/change/table.ts';

export type Driver = 'better-sqlite3' | 'node:sqlite';
export type Parameter = null | number | bigint | string | Buffer;

/** Integers come as bigint. */
export interface Connection {
  readonly inTransaction: boolean;
  exec(sql: string): void;
  run(sql: string, ...values: readonly Parameter[]): void;
  rows(sql: string, ...values: readonly Parameter[]): Value[][];
  /** Only for statements that give rows. */
  prepare(sql: string): () => Value[][];
  /** Lets `PRAGMA writable_schema` work. */
  allowSchemaEdits(allowed: boolean): void;
  /** Closes, and opens again. Prepared statements and settings are gone. */
  reopen(): void;
  close(): void;
}

/** In one process all connections must be of the same driver: two copies of SQLite drop each other's POSIX locks. */
export const connect = (driver: Driver, file: string, timeoutMs: number): Connection =>
  driver === 'better-sqlite3' ? new BetterSqlite(file, timeoutMs) : new NodeSqlite(file, timeoutMs);

/** A statement was refused by SQLite (a constraint, a lock, a syntax that this version does not know). */
export const isSqliteError = (error: unknown): error is Error =>
  error instanceof Error && (error.name === 'SqliteError' || ('code' in error && error.code === 'ERR_SQLITE_ERROR'));

class BetterSqlite implements Connection {
  #db: Database.Database;
  readonly #open: () => Database.Database;

  constructor(file: string, timeoutMs: number) {
    this.#open = () => new Database(file, { timeout: timeoutMs }).defaultSafeIntegers(true);
    this.#db = this.#open();
  }

  get inTransaction(): boolean {
    return this.#db.inTransaction;
  }

  exec(sql: string): void {
    this.#db.exec(sql);
  }

  run(sql: string, ...values: readonly Parameter[]): void {
    const statement = this.#db.prepare(sql);
    if (statement.reader) statement.all(...values);
    else statement.run(...values);
  }

  rows(sql: string, ...values: readonly Parameter[]): Value[][] {
    return this.#db
      .prepare(sql)
      .raw()
      .all(...values) as Value[][];
  }

  prepare(sql: string): () => Value[][] {
    const statement = this.#db.prepare(sql).raw();
    return () => statement.all() as Value[][];
  }

  allowSchemaEdits(allowed: boolean): void {
    this.#db.unsafeMode(allowed);
  }

  reopen(): void {
    this.#db.close();
    this.#db = this.#open();
  }

  close(): void {
    this.#db.close();
  }
}

class NodeSqlite implements Connection {
  #db: DatabaseSync;
  readonly #open: () => DatabaseSync;

  constructor(file: string, timeoutMs: number) {
    this.#open = () => new DatabaseSync(file, { timeout: timeoutMs, readBigInts: true, returnArrays: true, enableDoubleQuotedStringLiterals: true });
    this.#db = this.#open();
  }

  get inTransaction(): boolean {
    return this.#db.isTransaction;
  }

  exec(sql: string): void {
    this.#db.exec(sql);
  }

  run(sql: string, ...values: readonly Parameter[]): void {
    this.#db.prepare(sql).all(...(values as SQLInputValue[]));
  }

  rows(sql: string, ...values: readonly Parameter[]): Value[][] {
    return this.#db.prepare(sql).all(...(values as SQLInputValue[])) as unknown as Value[][];
  }

  prepare(sql: string): () => Value[][] {
    const statement = this.#db.prepare(sql);
    return () => statement.all() as unknown as Value[][];
  }

  allowSchemaEdits(allowed: boolean): void {
    this.#db.enableDefensive(!allowed);
  }

  reopen(): void {
    this.#db.close();
    this.#db = this.#open();
  }

  close(): void {
    this.#db.close();
  }
}
