/**
 * The log's only writer: capture, synchronously, in its own thread.
 *
 * Guarantees: what `append` is given is in the log as a whole or not at all, after a kill at any instant; seq grows
 * by one a change and is never reused; a reader sees transactions in commit order. Durability `os` survives a kill of
 * any process; a power loss can take back the newest appends (the next `open` then renews the term). `fsync` makes each
 * append durable before any reader sees it. Does not guard against a second writer beyond noticing it (STATE_IN_USE).
 */
import { randomUUID } from 'node:crypto';
import { closeSync, fdatasyncSync, openSync } from 'node:fs';
import type Database from 'better-sqlite3';
import { partBytes } from '../change/change-codec.ts';
import type { Position } from '../change/change.ts';
import type { Catalog } from '../change/table.ts';
import { WaggleError } from '../support/errors.ts';
import { type CaptureState, captureStateOf } from './capture-state.ts';
import { CatalogDecoder, encodeCatalog } from './catalog-json.ts';
import type { StateRow } from './log-format.ts';
import { openLogFile } from './log-open.ts';
import { type PruneLimits, type PruneResult, Retention } from './retention.ts';
import { stateError } from './state-errors.ts';
import type { Block, TransactionBatch } from './transaction-batch.ts';

export interface LogWriterOptions {
  /** Path of log.db; its directory exists. */
  readonly path: string;
  readonly durability: 'os' | 'fsync';
  /** The hive that the log belongs to, by its resolved path. */
  readonly hive: { readonly path: string };
}

export interface LogBatch {
  /** Greater than the one before. */
  readonly batchId: number;
  /** Where capture stands behind the batch. */
  readonly position: Position;
  readonly sizePages: number;
  /** Version of the catalog as of `position`. */
  readonly catalogVersion: number;
  /** What capture notes of the position; left out: the note before is cleared. */
  readonly clean?: string | null;
  /** Versions that the log does not have yet. */
  readonly catalogs: readonly Catalog[];
  readonly transactions: TransactionBatch;
}

/** Frames in the log's own WAL after which `append` checkpoints it, and after which it insists on a restart. */
const CHECKPOINT_FRAMES = 4000;
const IDLE_CHECKPOINT_FRAMES = 500;
const RESTART_FRAMES = 16_000;
const RESTART_TIMEOUT_MS = 100;
const BUSY_TIMEOUT_MS = 2000;
/** Bytes of a row that are not data, roughly; for the estimate of frames. */
const ROW_BYTES = 50;

export class LogWriter implements Disposable {
  readonly #database: Database.Database;
  readonly #path: string;
  readonly #retention: Retention;
  readonly #begin: Database.Statement<[]>;
  readonly #commit: Database.Statement<[]>;
  readonly #insertBlock: Database.Statement;
  readonly #insertPart: Database.Statement<[number, Buffer]>;
  readonly #insertCatalog: Database.Statement<[number, string]>;
  readonly #updateState: Database.Statement;
  #row: StateRow;
  /** Estimate of the frames written since the last checkpoint. */
  #frames = 0;

  private constructor(options: LogWriterOptions, opened: { database: Database.Database; row: StateRow }) {
    const { database, row } = opened;
    this.#database = database;
    this.#path = options.path;
    this.#row = row;
    this.#retention = new Retention(database);
    this.#begin = database.prepare('BEGIN IMMEDIATE');
    this.#commit = database.prepare('COMMIT');
    this.#insertBlock = database.prepare(
      `INSERT INTO blocks (last_seq, change_count, transaction_count, epoch, frame, timestamp_us, origin, recovered, catalog_version,
         previous_catalog_version, part_count, first_part, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    );
    this.#insertPart = database.prepare('INSERT INTO parts (id, data) VALUES (?, ?)');
    this.#insertCatalog = database.prepare('INSERT INTO catalogs (version, json) VALUES (?, ?)');
    this.#updateState = database.prepare(
      `UPDATE state SET head_seq = ?, head_txid = ?, next_part = ?, batch_id = ?, epoch = ?, frame = ?, salt1 = ?, salt2 = ?,
         checksum1 = ?, checksum2 = ?, catalog_version = ?, size_pages = ?, clean = ?
       WHERE id = 1 AND log_id = ? AND head_seq = ? AND batch_id IS ?`,
    );
  }

  /**
   * Opens the log, or makes one. Renews the term where the log's tail cannot be proven: not closed in order and the
   * machine was started since, or the file is not the one that was written last (restored state directory).
   * Throws STATE_FORMAT, STATE_OTHER_HIVE, STATE_CORRUPT, STATE_UNUSABLE, STATE_IN_USE, DISK_FULL.
   */
  static open(options: LogWriterOptions): LogWriter {
    try {
      return new LogWriter(options, openLogFile({ ...options, busyTimeoutMs: BUSY_TIMEOUT_MS }));
    } catch (error) {
      throw stateError(error, options.path);
    }
  }

  /** Random id of this log; another one after `reset`. */
  get logId(): string {
    return this.#row.log_id;
  }

  get term(): string {
    return this.#row.term;
  }

  /** Seq of the last change; 0: none yet. */
  get headSeq(): number {
    return this.#row.head_seq;
  }

  /** Txid of the last transaction with changes; '' if there is none in this log. */
  get headTxid(): string {
    return this.#row.head_txid;
  }

  /** First seq that is still stored, or would be the next one. */
  get firstSeq(): number {
    return this.#row.base_seq + 1;
  }

  /** Where capture stands; null in a new log. */
  state(): CaptureState | null {
    return captureStateOf(this.#row);
  }

  /** The stored catalog of this version, or null. */
  catalog(version: number): Catalog | null {
    const row = this.#database.prepare<[number], { json: string }>('SELECT json FROM catalogs WHERE version = ?').get(version);
    return row === undefined ? null : new CatalogDecoder().decode(row.json);
  }

  /**
   * Appends in one SQLite transaction: catalogs, transactions with changes, position. Returns the new head's seq.
   * After a throw nothing of the batch is in the log and the same batch can be appended again (DISK_FULL).
   */
  append(batch: LogBatch): number {
    const before = this.#row;
    if (before.batch_id !== null && batch.batchId <= before.batch_id) {
      throw new RangeError(`batch ${batch.batchId} after batch ${before.batch_id}`);
    }
    try {
      this.#begin.run();
      const after = this.#write(batch, before);
      this.#commit.run();
      this.#row = after;
    } catch (error) {
      this.#rollback();
      throw stateError(error, this.#path);
    }
    if (this.#frames >= CHECKPOINT_FRAMES) this.#checkpoint();
    return this.#row.head_seq;
  }

  /** Replaces the note that belongs to the state (`LogBatch.clean`). */
  note(clean: string): void {
    try {
      this.#database.prepare('UPDATE state SET clean = ? WHERE id = 1').run(clean);
      this.#row = { ...this.#row, clean };
    } catch (error) {
      throw stateError(error, this.#path);
    }
  }

  /** Makes everything appended so far survive a power loss. Blocks for an fdatasync. */
  sync(): void {
    try {
      // Only -wal is opened here: closing a descriptor of log.db or -shm would drop the process's locks on them.
      const descriptor = openSync(`${this.#path}-wal`, 'r+');
      try {
        fdatasyncSync(descriptor);
      } finally {
        closeSync(descriptor);
      }
    } catch (error) {
      throw stateError(error, this.#path);
    }
  }

  /** For pauses: moves what stands in the log's WAL into its file, so that `append` need not. Cheap if there is little. */
  idle(): void {
    if (this.#frames >= IDLE_CHECKPOINT_FRAMES) this.#checkpoint();
  }

  /**
   * Removes the oldest transactions that the limits allow to remove, at most some thousand at a call (`more`: call
   * again, when it suits). Never removes the head's transaction.
   */
  prune(limits: PruneLimits): PruneResult {
    try {
      this.#begin.run();
      const result = this.#retention.prune(limits, this.#row);
      this.#commit.run();
      this.#row = { ...this.#row, ...result.base };
      this.#frames += result.frames;
      this.#retention.shrink();
      return { transactions: result.transactions, more: result.more };
    } catch (error) {
      this.#rollback();
      throw stateError(error, this.#path);
    }
  }

  /**
   * Begins a new log in the same file: new log id and term, nothing stored, no capture state. seq goes on behind the
   * head, so that no number ever means two changes; every checkpoint of before becomes unknown.
   */
  reset(): void {
    const { head_seq, next_part } = this.#row;
    const id = { log_id: randomUUID(), term: randomUUID() };
    try {
      this.#begin.run();
      this.#database.exec('DELETE FROM blocks; DELETE FROM parts; DELETE FROM catalogs; DELETE FROM terms; DELETE FROM state;');
      this.#database
        .prepare("INSERT INTO state (id, log_id, term, head_seq, head_txid, base_seq, base_txid, next_part) VALUES (1, ?, ?, ?, '', ?, '', ?)")
        .run(id.log_id, id.term, head_seq, head_seq, next_part);
      this.#database.prepare('INSERT INTO terms (term, start_seq) VALUES (?, ?)').run(id.term, head_seq);
      this.#row = this.#database.prepare<[], StateRow>('SELECT * FROM state').get()!;
      this.#commit.run();
    } catch (error) {
      this.#rollback();
      throw stateError(error, this.#path);
    }
    this.sync();
    this.#checkpoint();
  }

  /** Orderly end: everything is durable and noted as such. */
  close(): void {
    if (!this.#database.open) return;
    try {
      this.sync();
      this.#database.pragma('synchronous = FULL');
      this.#database.prepare("INSERT OR REPLACE INTO meta (key, value) VALUES ('closed', 1)").run();
      this.#database.pragma('wal_checkpoint(PASSIVE)');
    } catch (error) {
      throw stateError(error, this.#path);
    } finally {
      this.#database.close();
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #write(batch: LogBatch, before: StateRow): StateRow {
    for (const catalog of batch.catalogs) this.#insertCatalog.run(catalog.version, encodeCatalog(catalog));
    let { head_seq, head_txid, next_part } = before;
    let bytes = 0;
    for (const block of batch.transactions.blocks()) {
      head_seq += block.changeCount;
      head_txid = `${block.last.epoch}:${block.last.frame}`;
      this.#insert(block, head_seq, next_part);
      bytes += ROW_BYTES + (block.data?.length ?? 0);
      for (const part of block.parts) {
        this.#insertPart.run(next_part++, partBytes(part));
        bytes += ROW_BYTES + part.length;
      }
    }
    const after: StateRow = {
      ...before,
      ...batch.position,
      head_seq,
      head_txid,
      next_part,
      batch_id: batch.batchId,
      catalog_version: batch.catalogVersion,
      size_pages: batch.sizePages,
      clean: batch.clean ?? null,
    };
    this.#writeState(after, before);
    this.#frames += 3 + Math.ceil(bytes / 4000);
    return after;
  }

  #insert({ changeCount, transactionCount, last, data, parts }: Block, lastSeq: number, firstPart: number): void {
    const { catalogVersion, previousCatalogVersion } = last;
    this.#insertBlock.run(
      lastSeq,
      changeCount,
      transactionCount,
      last.epoch,
      last.frame,
      last.timestampUs,
      last.origin,
      last.recovered ? 1 : 0,
      catalogVersion,
      previousCatalogVersion === catalogVersion ? null : previousCatalogVersion,
      parts.length,
      data === null ? firstPart : null,
      data,
    );
  }

  #writeState(after: StateRow, before: StateRow): void {
    const { changes } = this.#updateState.run(
      after.head_seq,
      after.head_txid,
      after.next_part,
      after.batch_id,
      after.epoch,
      after.frame,
      after.salt1,
      after.salt2,
      after.checksum1,
      after.checksum2,
      after.catalog_version,
      after.size_pages,
      after.clean,
      before.log_id,
      before.head_seq,
      before.batch_id,
    );
    if (changes !== 1) throw new WaggleError('STATE_IN_USE', `${this.#path}: another process appended to the log`);
  }

  #rollback(): void {
    // A failed COMMIT or a full disk may have rolled back already.
    if (this.#database.open && this.#database.inTransaction) this.#database.exec('ROLLBACK');
  }

  /**
   * PASSIVE never waits for anybody. A reader that is in the middle of its (short) read can keep the WAL from being
   * started over; only when that went on until the WAL is large do we wait for readers, and not for long.
   */
  #checkpoint(): void {
    this.#frames = 0;
    try {
      const [passive] = this.#database.pragma('wal_checkpoint(PASSIVE)') as { log: number; checkpointed: number }[];
      if (passive === undefined || passive.log < RESTART_FRAMES) return;
      this.#database.pragma(`busy_timeout = ${RESTART_TIMEOUT_MS}`);
      this.#database.pragma('wal_checkpoint(RESTART)');
    } catch {
      // Nothing is lost: the frames stay in the WAL, and the next append that finds no space says so.
    } finally {
      this.#database.pragma(`busy_timeout = ${BUSY_TIMEOUT_MS}`);
    }
  }
}
