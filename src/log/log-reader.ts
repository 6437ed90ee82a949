/**
 * Reads the log: from any thread or process, beside the writer, on a read-only connection of its own.
 *
 * Guarantees: sees whole transactions only, in commit order. Keeps no read transaction between calls, so that it never
 * keeps the log's WAL from being started over, however slow its user is. Not guaranteed: that what was read a moment
 * ago is still stored (retention); a reader that fell behind is told by SINK_CHECKPOINT_UNKNOWN.
 */
import { existsSync } from 'node:fs';
import Database from 'better-sqlite3';
import type { Checkpoint, TransactionInfo } from '../change/change.ts';
import type { Catalog } from '../change/table.ts';
import { WaggleError } from '../support/errors.ts';
import { type CaptureState, captureStateOf } from './capture-state.ts';
import { CatalogDecoder } from './catalog-json.ts';
import { BlockCursor } from './block.ts';
import { LoggedTransaction } from './logged-transaction.ts';
import type { StateRow } from './log-format.ts';
import { readMeta } from './log-open.ts';
import { stateError } from './state-errors.ts';

export interface LogHead {
  readonly seq: number;
  /** '' if no transaction of this log changed anything yet. */
  readonly txid: string;
}

export interface LogInfo {
  readonly logId: string;
  readonly term: string;
  readonly head: LogHead;
  readonly firstSeq: number;
  /** Path of the hive that the log belongs to. */
  readonly hive: string;
  /** Null: capture has appended nothing yet. */
  readonly state: CaptureState | null;
  /** Catalog as of the head; null with `state`. */
  readonly catalog: Catalog | null;
}

export interface ReadLimits {
  readonly maxTransactions?: number;
  /** Of inline changes; at least one transaction is read whatever its size (a large one comes without its parts). */
  readonly maxBytes?: number;
}

/** `exact`: the log goes on right behind the checkpoint. `pruned`: it did once. `unknown`: another log or another tail. */
export type CheckpointMatch = 'exact' | 'unknown' | 'pruned';

type BlockRow = [
  lastSeq: number,
  changeCount: number,
  epoch: number,
  frame: number,
  timestampUs: number,
  origin: string | null,
  recovered: number,
  catalogVersion: number,
  previousCatalogVersion: number | null,
  partCount: number,
  firstPart: number | null,
  data: Buffer | null,
];

export class LogReader implements Disposable {
  readonly #database: Database.Database;
  readonly #path: string;
  readonly #hive: string;
  readonly #state: Database.Statement<[], StateRow>;
  readonly #after: Database.Statement<[number, number], BlockRow>;
  readonly #part: Database.Statement<[number], Buffer>;
  readonly #atomic: <T>(read: () => T) => T;
  readonly #catalogs = new Map<number, Catalog>();
  #decoder = new CatalogDecoder();
  /** The log that this reader reads; `reset` begins another one. */
  #logId: string;

  private constructor(path: string, database: Database.Database) {
    this.#path = path;
    this.#database = database;
    this.#hive = String(readMeta(database, path).get('hive'));
    this.#state = database.prepare<[], StateRow>('SELECT * FROM state');
    this.#after = database
      .prepare<[number, number], BlockRow>(
        `SELECT last_seq, change_count, epoch, frame, timestamp_us, origin, recovered, catalog_version, previous_catalog_version,
           part_count, first_part, data
         FROM blocks WHERE last_seq > ? ORDER BY last_seq LIMIT ?`,
      )
      .raw(true);
    this.#part = database.prepare<[number], Buffer>('SELECT data FROM parts WHERE id = ?').pluck(true);
    const transaction = database.transaction((read: () => unknown) => read());
    this.#atomic = (read) => transaction(read) as never;
    this.#logId = this.#readState().log_id;
  }

  /** Throws STATE_MISSING where there is no log yet, STATE_FORMAT, STATE_CORRUPT, STATE_UNUSABLE. */
  static open(path: string): LogReader {
    if (!existsSync(path)) throw new WaggleError('STATE_MISSING', `there is no log at ${path}`);
    let database: Database.Database | null = null;
    try {
      database = new Database(path, { readonly: true, fileMustExist: true, timeout: 5000 });
      // A reader goes on from seq to seq and never back: each of the many readers would only fill SQLite's 16 MB.
      database.pragma('cache_size = -1000');
      return new LogReader(path, database);
    } catch (error) {
      database?.close();
      throw stateError(error, path);
    }
  }

  get logId(): string {
    return this.#logId;
  }

  /** Last seq of the log and its txid. */
  head(): LogHead {
    const row = this.#read(() => this.#readState());
    return { seq: row.head_seq, txid: row.head_txid };
  }

  /** The log's term of now. */
  term(): string {
    return this.#read(() => this.#readState()).term;
  }

  /** First seq that is still stored, or would be the next one. */
  firstSeq(): number {
    return this.#read(() => this.#readState()).base_seq + 1;
  }

  /** Everything about the log as of one moment. */
  info(): LogInfo {
    return this.#read(() => {
      const row = this.#readState();
      const state = captureStateOf(row);
      return {
        logId: row.log_id,
        term: row.term,
        head: { seq: row.head_seq, txid: row.head_txid },
        firstSeq: row.base_seq + 1,
        hive: this.#hive,
        state,
        catalog: state === null ? null : this.#catalog(state.catalogVersion),
      };
    });
  }

  /**
   * The next transactions whose last seq is greater than `seq`, oldest first; empty at the head. Throws
   * SINK_CHECKPOINT_UNKNOWN where the log no longer has what follows `seq`, or was begun anew since this reader opened.
   */
  transactionsAfter(seq: number, limits: ReadLimits = {}): LoggedTransaction[] {
    const { maxTransactions = 1000, maxBytes = 1024 * 1024 } = limits;
    return this.#read(() => {
      const state = this.#readState();
      if (state.log_id !== this.#logId) throw new WaggleError('SINK_CHECKPOINT_UNKNOWN', `the log ${this.#path} was begun anew`);
      if (seq < state.base_seq) throw prunedError(seq);
      if (seq >= state.head_seq) return [];
      const transactions: LoggedTransaction[] = [];
      let bytes = 0;
      for (const row of this.#after.iterate(seq, maxTransactions)) {
        for (const transaction of this.#transactions(row)) {
          if (transaction.info.lastSeq <= seq) continue;
          transactions.push(transaction);
          bytes += transaction.inlineBytes;
          if (bytes >= maxBytes || transactions.length === maxTransactions) return transactions;
        }
      }
      return transactions;
    });
  }

  /**
   * Whether the log goes on exactly behind the checkpoint. A checkpoint of an older term counts up to the head at which
   * the next term began.
   */
  check(checkpoint: Checkpoint): CheckpointMatch {
    return this.#read(() => {
      const row = this.#readState();
      const { logId, term, seq, txid } = checkpoint;
      if (logId !== row.log_id || seq > row.head_seq) return 'unknown';
      if (term !== row.term && !this.#termCovers(term, seq)) return 'unknown';
      if (seq < row.base_seq) return 'pruned';
      if (seq === row.base_seq) return txid === row.base_txid ? 'exact' : 'unknown';
      const block = this.#after.get(seq - 1, 1);
      for (const { info } of block === undefined ? [] : this.#transactions(block)) {
        if (info.lastSeq === seq) return info.txid === txid ? 'exact' : 'unknown';
      }
      return 'unknown';
    });
  }

  /** The catalog of this version, one object a version. Throws STATE_CORRUPT where it is not stored. */
  catalog(version: number): Catalog {
    return this.#read(() => this.#catalog(version));
  }

  close(): void {
    this.#database.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** A block's transactions, in order. The changes of those that stand in the block itself are views of it. */
  *#transactions(row: BlockRow): Generator<LoggedTransaction, void, undefined> {
    const [lastSeq, changeCount, epoch, frame, timestampUs, origin, recovered, version, previousVersion, partCount, firstPart, data] = row;
    const catalog = this.#catalog(version);
    const shared = { origin, recovered: recovered === 1 };
    const schema = { catalog, previousCatalog: previousVersion === null ? catalog : this.#catalog(previousVersion) };
    let firstSeq = lastSeq - changeCount + 1;
    if (data === null) {
      const info: TransactionInfo = { txid: `${epoch}:${frame}`, epoch, frame, firstSeq, lastSeq, timestampUs, ...shared };
      yield new LoggedTransaction({
        info,
        ...schema,
        partCount,
        inlineBytes: 0,
        readPart: (index) => this.#readPart((firstPart ?? 0) + index, info),
      });
      return;
    }
    for (const entry = new BlockCursor(data); entry.next(); firstSeq += entry.changeCount) {
      const changes = entry.changes();
      const info: TransactionInfo = {
        txid: `${entry.epoch}:${entry.frame}`,
        epoch: entry.epoch,
        frame: entry.frame,
        firstSeq,
        lastSeq: firstSeq + entry.changeCount - 1,
        timestampUs: entry.timestampUs,
        ...shared,
      };
      yield new LoggedTransaction({ info, ...schema, partCount: 1, inlineBytes: changes.length, readPart: () => changes });
    }
    if (firstSeq !== lastSeq + 1)
      throw new WaggleError('STATE_CORRUPT', `a block of the log does not hold the ${changeCount} changes up to seq ${lastSeq}`);
  }

  #readPart(id: number, info: TransactionInfo): Buffer {
    const data = this.#read(() => this.#part.get(id));
    if (data === undefined) throw prunedError(info.firstSeq - 1);
    return data;
  }

  #termCovers(term: string, seq: number): boolean {
    const next = this.#database
      .prepare<[string], { seq: number | null }>(
        `SELECT min(later.start_seq) AS seq FROM terms AS own LEFT JOIN terms AS later ON later.ordinal > own.ordinal WHERE own.term = ?`,
      )
      .get(term)?.seq;
    return typeof next === 'number' && seq <= next;
  }

  #catalog(version: number): Catalog {
    const known = this.#catalogs.get(version);
    if (known !== undefined) return known;
    const row = this.#database.prepare<[number], { json: string }>('SELECT json FROM catalogs WHERE version = ?').get(version);
    if (row === undefined) throw new WaggleError('STATE_CORRUPT', `${this.#path} lacks version ${version} of the catalog`);
    const catalog = this.#decoder.decode(row.json);
    // A few versions are in use at a time; a log with thousands of migrations must not keep them all in memory.
    if (this.#catalogs.size >= 16) this.#catalogs.delete(this.#catalogs.keys().next().value!);
    this.#catalogs.set(version, catalog);
    return catalog;
  }

  #readState(): StateRow {
    const row = this.#state.get();
    if (row === undefined) throw new WaggleError('STATE_CORRUPT', `${this.#path} has no state row`);
    return row;
  }

  #read<T>(read: () => T): T {
    try {
      return this.#atomic(read);
    } catch (error) {
      throw stateError(error, this.#path);
    }
  }
}

const prunedError = (seq: number): WaggleError =>
  new WaggleError('SINK_CHECKPOINT_UNKNOWN', `the log no longer has what follows seq ${seq}`, {
    hint: 'Keep more with `retention`; sinks are filled again from the mirror.',
  });
