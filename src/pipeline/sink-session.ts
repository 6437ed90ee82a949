/**
 * A sink from its `open` to its first error or to the end: finds out where it stands, fills it, streams into it.
 *
 * Guarantees: what was applied and the checkpoint move together, in log order, whole transactions; a chunk of the first fill is
 * applied exactly when the sink stands at the position at which the chunk was read. Keeps nothing that the checkpoint
 * does not hold: after an error the next session goes on from the target's own checkpoint.
 */
import type { Logger } from 'pino';
import type { Checkpoint } from '../change/change.ts';
import type { Catalog } from '../change/table.ts';
import type { LoggedTransaction } from '../log/logged-transaction.ts';
import type { LogReader } from '../log/log-reader.ts';
import type { HeadNotice } from '../stream/head-notice.ts';
import type { Clock } from '../support/clock.ts';
import { WaggleError } from '../support/errors.ts';
import { BatchApplier, type Delivery } from './batch-applier.ts';
import { chunkParts } from './batch-parts.ts';
import type { DeadLetters } from './dead-letters.ts';
import { beginFill, decodeCursor, emptyTable, encodeCursor, fillAgain, type FillCursor, nextTable, placeOfRow, restartTable } from './fill-cursor.ts';
import type { TableMapping } from './mapping.ts';
import { mappingChanges, type MappingSpec } from './mapping-changes.ts';
import type { RowChunk, RowSource } from './row-source.ts';
import type { Sink, SinkContext } from './sink.ts';
import type { SinkTasks } from './sink-tasks.ts';
import type { TargetPlaces } from './target-places.ts';
import { TaskRunner } from './task-runner.ts';

export interface BatchOptions {
  /** Changes after which a batch is sent. A transaction is never divided, so a batch can be larger. */
  readonly rows: number;
  /** Least time between two batches that are not full: the first change after a pause is sent at once. */
  readonly delayMs: number;
}

export interface SessionOptions {
  readonly sink: Sink;
  readonly context: SinkContext;
  /** A reader of its own, opened for this session. */
  readonly reader: LogReader;
  readonly mapping: TableMapping;
  readonly head: HeadNotice;
  /** Null: there is nothing to fill from. */
  readonly rows: RowSource | null;
  readonly fill: boolean;
  readonly batch: BatchOptions;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly observer: SessionObserver;
  /** Where refused rows go; null: the first of them is the session's error. */
  readonly letters: DeadLetters | null;
  readonly tasks: SinkTasks;
  /** What the mapping was made of: tables whose part of it changed are read anew. */
  readonly mappingSpec: MappingSpec;
  /** What the sinks of one daemon write; null: there is no other. */
  readonly places: TargetPlaces | null;
}

/** Told what happens, for the status. Must not throw. */
export interface SessionObserver {
  opened(checkpoint: Checkpoint, fill: FillCursor | null): void;
  applied(progress: { checkpoint: Checkpoint; fill: FillCursor | null; changes: number; transactions: number }): void;
}

export interface StopSignals {
  /** Finish what is in the log now, then return. */
  readonly finish: AbortSignal;
  /** Return after the call that is running. */
  readonly abandon: AbortSignal;
}

const BATCH_BYTES = 8 * 1024 * 1024;
const PAGE = { maxTransactions: 1000, maxBytes: 1024 * 1024 };
/** A notice tells of new changes. This is how often a daemon with nothing to do looks for what it was asked; each look of a core that was idle costs 0.6 ms. */
const POLL_MS = 1000;
/**
 * Of rows of a first fill: they are committed together, and the target is idle from then until the next ones are on their way. Capture reads them between
 * two batches of its own, so others wait for it.
 */
const CHUNK_BYTES = 2 * 1024 * 1024;
/** A sink that wants smaller batches gets smaller chunks, too: its rows counted as one of so many bytes. */
const CHUNK_ROW_BYTES = 200;
/** How long a checkpoint that moved over nothing for this sink may stay unsaved. */
const UNSAVED_MS = 5000;
const CAPTURE_POLL_MS = 50;

export class SinkSession {
  readonly #options: SessionOptions;
  readonly #applier: BatchApplier;
  #stopSeq: number | null = null;
  #tasks: TaskRunner | null = null;
  /** The chunk behind the one that is being applied. */
  #ahead: { readonly cursor: FillCursor; readonly chunk: Promise<RowChunk | null> } | null = null;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#applier = new BatchApplier({
      ...options,
      onApplied: ({ checkpoint, cursor, counts }) => options.observer.applied({ checkpoint, fill: cursor, ...counts }),
    });
  }

  /** Returns when stopped, with everything that was in the log then applied. Rejects with the first error. */
  async run(stop: StopSignals): Promise<void> {
    const { sink, context, observer } = this.#options;
    // Before the target is reached: what commits while it is down belongs to the sink, too.
    const beginning = this.#beginning();
    const known = await sink.open(context);
    const catalog = await this.#captureStarted(stop);
    if (catalog === null) return;
    await this.#begin(known ?? beginning, catalog);
    if (beginning !== null) {
      // At once: a row that is refused in the first batch must not meet a target without a checkpoint.
      if (known === null) await this.#applier.save();
      this.#options.tasks.forgetBeginning();
    }
    observer.opened(this.#applier.checkpoint, this.#applier.cursor);
    const tasks = this.#taskRunner(stop);
    this.#tasks = tasks;
    while (!stop.abandon.aborted) {
      if (this.#applier.cursor !== null && !stop.finish.aborted) {
        await this.#fillStep(this.#applier.cursor, stop);
      } else if (!stop.finish.aborted && (await tasks.step())) {
        // The stream came along with it.
      } else if (!(await this.#streamStep(stop))) {
        break;
      }
      await this.#applier.retryLetters();
    }
    if (this.#applier.isUnsaved && !stop.abandon.aborted) await this.#applier.save();
  }

  /** Null when stopped before capture had appended anything. */
  async #captureStarted(stop: StopSignals): Promise<Catalog | null> {
    const { reader, clock } = this.#options;
    for (;;) {
      const { catalog } = reader.info();
      if (catalog !== null) return catalog;
      if (stop.finish.aborted) return null;
      await clock.sleep(CAPTURE_POLL_MS, stop.finish);
    }
  }

  /** Of a sink that is not filled: where it begins while its target has no checkpoint. */
  #beginning(): Checkpoint | null {
    const { fill, tasks, reader } = this.#options;
    if (fill) return null;
    const { logId, term, head } = reader.info();
    return tasks.beginning({ logId, term, seq: head.seq, txid: head.txid, fill: null });
  }

  async #begin(known: Checkpoint | null, catalog: Catalog): Promise<void> {
    const { reader, mapping, logger, fill } = this.#options;
    mapping.check(catalog);
    this.#takePlace(catalog);
    const match = known === null ? null : reader.check(known);
    if (known !== null && match === 'exact') {
      this.#applier.begin(known, fill ? decodeCursor(known.fill) : null);
      if (fill) await this.#followMapping(catalog);
      return;
    }
    if (known !== null) {
      const code = 'SINK_CHECKPOINT_UNKNOWN';
      const next = fill ? 'the sink is filled again' : 'the sink goes on from now and misses what lies between (fill: false)';
      logger.warn({ code, checkpoint: known, match, next }, 'the checkpoint of the sink is not in the log');
    }
    await this.#beginAnew(known !== null);
  }

  /** Before anything is written. */
  #takePlace({ tables }: Catalog): void {
    const { sink, context, mapping, places } = this.#options;
    if (places === null || sink.place == null) return;
    const names = tables.map((table) => mapping.table(table)?.name).filter((name) => name !== undefined);
    places.take(context.name, sink.place, names);
  }

  async #beginAnew(reconcile: boolean): Promise<void> {
    const { reader, mapping, fill } = this.#options;
    const { logId, term, head, catalog } = reader.info();
    const names = (catalog?.tables ?? []).filter((table) => mapping.table(table) !== null).map((table) => table.name);
    const cursor = fill ? beginFill(names, reconcile) : null;
    this.#applier.begin({ logId, term, seq: head.seq, txid: head.txid, fill: encodeCursor(cursor) }, cursor);
    this.#options.tasks.saveMapping(JSON.stringify(this.#options.mappingSpec));
    // Saved at once: a row that is refused in the first batch must not meet the old checkpoint; and where a kill leaves a part of the first chunk in a target
    // without transactions, the next life must stream from here on, or a row of it that is deleted meanwhile would stay there for ever.
    if (cursor !== null || reconcile) await this.#applier.save();
  }

  /** Tables that the sink did not get before are filled; those that it gets in another form now are compared and mended, or filled where that cannot be. */
  async #followMapping(catalog: Catalog): Promise<void> {
    const { tasks, mappingSpec, sink, logger } = this.#options;
    const spec = JSON.stringify(mappingSpec);
    const before = tasks.mapping();
    if (before === spec) return;
    if (before !== null) {
      const { added, changed } = mappingChanges(before, mappingSpec, catalog);
      const refilled = sink.audit === undefined ? [...added, ...changed] : added;
      if (refilled.length > 0) await this.#fillAgain(refilled);
      if (sink.audit !== undefined && changed.length > 0) tasks.askResync(changed);
      if (added.length + changed.length > 0) logger.info({ added, changed }, 'the configuration of these tables changed: they are read anew');
    }
    tasks.saveMapping(spec);
  }

  async #fillAgain(tables: readonly string[]): Promise<void> {
    this.#applier.moveCursor(fillAgain(this.#applier.cursor, tables));
    await this.#applier.save();
  }

  #taskRunner(stop: StopSignals): TaskRunner {
    const { tasks, reader, clock } = this.#options;
    return new TaskRunner(this.#options, tasks, {
      applier: this.#applier,
      reach: async (asOf) => {
        if (asOf.seq < this.#applier.checkpoint.seq) {
          await clock.sleep(CAPTURE_POLL_MS, stop.finish);
          return false;
        }
        await this.#applyUpTo(asOf.seq, stop);
        if (stop.abandon.aborted) return false;
        this.#checkReached(asOf);
        return true;
      },
      catchUp: () => this.#applyUpTo(reader.head().seq, stop),
      fillAgain: (tables) => this.#fillAgain(tables),
    });
  }

  async #fillStep(cursor: FillCursor, stop: StopSignals): Promise<void> {
    const { mapping, clock } = this.#options;
    const chunk = await this.#chunk(cursor);
    const fits = chunk !== null && mapping.table(chunk.table) !== null;
    if (!fits || (cursor.after !== null && cursor.generation !== chunk.generation)) {
      this.#applier.moveCursor(fits ? restartTable(cursor) : nextTable(cursor));
      return;
    }
    // An older state than the sink has would undo changes that it has: ask again.
    if (chunk.asOf.seq < this.#applier.checkpoint.seq) {
      await clock.sleep(CAPTURE_POLL_MS, stop.finish);
      return;
    }
    await this.#applyUpTo(chunk.asOf.seq, stop);
    if (stop.abandon.aborted) return;
    this.#checkReached(chunk.asOf);
    const keepsRows = this.#keepsRows(cursor, chunk);
    const next = keepsRows ? placedBehind(cursor, chunk) : cursorBehind(cursor, chunk);
    const last = keepsRows && chunk.done;
    if (next !== null && !last && !stop.finish.aborted) this.#readAhead(next);
    const first = cursor.after === null;
    const empty = first && cursor.reconcile && !keepsRows;
    if (first) this.#options.letters?.forgetTable(chunk.table.name);
    const batch: Delivery = {
      parts: () => chunkParts(chunk, { ...this.#applier.partOptions(), begin: first, empty, timestampUs: clock.now() * 1000 }),
      checkpoint: { ...this.#applier.checkpoint, fill: encodeCursor(next) },
      cursor: next,
      counts: { changes: 0, transactions: 0 },
    };
    if (!keepsRows) await this.#applier.deliver(batch);
    else if (!(await this.#applier.deliverWhole(batch))) this.#applier.moveCursor(emptyTable(cursor));
    else if (last) await this.#removeSurplus(this.#applier.cursor!, stop);
  }

  /** Old rows of the target stay until the new ones are there. What was marked, or is a history, nothing could tell from surplus rows. */
  #keepsRows(cursor: FillCursor, { table }: RowChunk): boolean {
    const { sink, mapping } = this.#options;
    if (!cursor.reconcile || cursor.empties === true || sink.audit === undefined || this.#tasks === null) return false;
    const mapped = mapping.table(table)!;
    return mapped.history !== true && mapped.deletedAt === undefined;
  }

  /** A kill on the way begins with the last chunk again. */
  async #removeSurplus(cursor: FillCursor, stop: StopSignals): Promise<void> {
    const finish = AbortSignal.any([stop.finish, stop.abandon]);
    const mended = await this.#tasks!.mend(cursor.tables[0]!, finish);
    if (finish.aborted) return;
    this.#applier.moveCursor(mended ? nextTable(cursor) : emptyTable(cursor));
  }

  #checkReached({ seq, txid }: RowChunk['asOf']): void {
    if (this.#applier.checkpoint.seq !== seq || this.#applier.checkpoint.txid !== txid)
      throw new WaggleError('SINK_CHECKPOINT_UNKNOWN', `the mirror was read at ${seq}, which is not in the log`);
  }

  #chunk(cursor: FillCursor): Promise<RowChunk | null> {
    const ahead = this.#ahead;
    this.#ahead = null;
    if (ahead !== null && ahead.cursor === cursor) return ahead.chunk;
    const { rows, batch } = this.#options;
    if (rows === null) throw new WaggleError('CONFIG_INVALID', 'the sink is to be filled, but there is nothing to fill it from');
    return rows.readRows(cursor.tables[0]!, cursor.after, Math.min(CHUNK_BYTES, batch.rows * CHUNK_ROW_BYTES));
  }

  /** Read while the chunk before is applied: its position cannot be before that one's. */
  #readAhead(cursor: FillCursor): void {
    const chunk = this.#chunk(cursor);
    chunk.catch(() => {}); // Seen when it is awaited, if it ever is.
    this.#ahead = { cursor, chunk };
  }

  async #applyUpTo(seq: number, stop: StopSignals): Promise<void> {
    while (this.#applier.checkpoint.seq < seq && !stop.abandon.aborted) {
      const transactions = this.#next([], seq);
      if (transactions.length === 0) return;
      await this.#applier.apply(transactions);
    }
  }

  /** One batch. False: stopped, and nothing is left to do. */
  async #streamStep(stop: StopSignals): Promise<boolean> {
    const transactions = await this.#collect(stop);
    if (transactions.length > 0) await this.#applier.apply(transactions);
    else if (this.#stopSeq !== null) return false;
    if (this.#applier.isUnsaved && this.#options.clock.now() - this.#applier.sentAtMs >= UNSAVED_MS) await this.#applier.save();
    return this.#stopSeq === null || this.#applier.checkpoint.seq < this.#stopSeq;
  }

  /** Waits for a batch. Empty: stopped, or time to look after something else. */
  async #collect(stop: StopSignals): Promise<LoggedTransaction[]> {
    const { batch, clock, head, reader } = this.#options;
    const batchEndMs = (): number => this.#applier.sentAtMs + batch.delayMs;
    let transactions: LoggedTransaction[] = [];
    for (;;) {
      if (stop.finish.aborted) this.#stopSeq ??= reader.head().seq;
      if (this.#stopSeq !== null) return this.#next(transactions, this.#stopSeq);
      const before = transactions.length;
      transactions = this.#next(transactions, Number.POSITIVE_INFINITY);
      const seq = transactions.at(-1)?.info.lastSeq ?? this.#applier.checkpoint.seq;
      if (this.#isFull(seq, inlineBytes(transactions))) return transactions;
      if (transactions.length > before) continue;
      const waitMs = transactions.length === 0 ? POLL_MS : batchEndMs() - clock.now();
      if (waitMs <= 0) return transactions;
      await head.waitBehind(seq, { timeoutMs: waitMs, signal: stop.finish });
      if (transactions.length === 0) return transactions;
    }
  }

  /** The transactions and those that follow them in the log, up to `maxSeq` and as many as a batch takes. */
  #next(transactions: readonly LoggedTransaction[], maxSeq: number): LoggedTransaction[] {
    const result = [...transactions];
    let seq = result.at(-1)?.info.lastSeq ?? this.#applier.checkpoint.seq;
    if (seq >= maxSeq) return result;
    let bytes = inlineBytes(result);
    for (const transaction of this.#options.reader.transactionsAfter(seq, PAGE)) {
      if (this.#isFull(seq, bytes) || transaction.info.lastSeq > maxSeq) break;
      result.push(transaction);
      seq = transaction.info.lastSeq;
      bytes += transaction.inlineBytes;
    }
    return result;
  }

  #isFull(seq: number, bytes: number): boolean {
    return seq - this.#applier.checkpoint.seq >= this.#options.batch.rows || bytes >= BATCH_BYTES;
  }
}

const cursorBehind = (cursor: FillCursor, chunk: RowChunk): FillCursor | null =>
  chunk.done ? nextTable(cursor, chunk.rows.length) : placedBehind(cursor, chunk);

const placedBehind = (cursor: FillCursor, chunk: RowChunk): FillCursor => {
  const last = chunk.rows.at(-1);
  const after = last === undefined ? cursor.after : placeOfRow(last);
  return { ...cursor, after, generation: chunk.generation, rows: cursor.rows + chunk.rows.length, share: cursor.share + chunk.share };
};

const inlineBytes = (transactions: readonly LoggedTransaction[]): number =>
  transactions.reduce((bytes, transaction) => bytes + transaction.inlineBytes, 0);
