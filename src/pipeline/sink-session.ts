/**
 * A sink from its `open` to its first error or to the end: finds out where it stands, fills it, streams into it.
 *
 * Guarantees: what was applied and the checkpoint move together, in log order, whole transactions; a chunk of the first fill is
 * applied exactly when the sink stands at the position at which the chunk was read. Keeps nothing that the checkpoint
 * does not hold: after an error the next session goes on from the target's own checkpoint.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Checkpoint, RowChange } from '../change/change.ts';
import type { Catalog } from '../change/table.ts';
import type { LoggedTransaction } from '../log/logged-transaction.ts';
import type { LogReader } from '../log/log-reader.ts';
import type { HeadNotice } from '../stream/head-notice.ts';
import type { Clock } from '../support/clock.ts';
import { WaggleError } from '../support/errors.ts';
import { nearestName } from '../support/nearest-name.ts';
import { Audit, type AuditHost, differencesOf } from './audit.ts';
import { chunkParts, type PartOptions, transactionParts } from './batch-parts.ts';
import type { DeadLetters } from './dead-letters.ts';
import { beginFill, decodeCursor, encodeCursor, fillAgain, type FillCursor, nextTable, placeOfRow, restartTable } from './fill-cursor.ts';
import { findRefused, isRefusal } from './isolation.ts';
import type { TableMapping } from './mapping.ts';
import { mappingChanges, type MappingSpec } from './mapping-changes.ts';
import type { RowChunk, RowSource } from './row-source.ts';
import { RowRefusedError, type Sink, type SinkAudit, type SinkChange, type SinkContext } from './sink.ts';
import type { SinkTask } from './sink-store.ts';
import type { SinkTasks } from './sink-tasks.ts';

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
  /** Null: nothing is asked of the sink but to follow. */
  readonly tasks: SinkTasks | null;
  /** What the mapping was made of: tables whose part of it changed are read anew. */
  readonly mappingSpec: MappingSpec;
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
const POLL_MS = 500;
const CHUNK_BYTES = 1024 * 1024;
/** How long a checkpoint that moved over nothing for this sink may stay unsaved. */
const UNSAVED_MS = 5000;
const CAPTURE_POLL_MS = 50;
/** A slow task rests so many times as long as it worked. */
const SLOW_PAUSE = 9;

export class SinkSession {
  readonly #options: SessionOptions;
  #checkpoint: Checkpoint = { logId: '', term: '', seq: 0, txid: '', fill: null };
  #cursor: FillCursor | null = null;
  /** The checkpoint in memory is ahead of the target's, by changes that are none for this sink. */
  #unsaved = false;
  #sentAtMs = Number.NEGATIVE_INFINITY;
  #stopSeq: number | null = null;
  /** The chunk behind the one that is being applied. */
  #ahead: { readonly cursor: FillCursor; readonly chunk: Promise<RowChunk | null> } | null = null;

  #running: { readonly task: SinkTask; readonly audit: Audit; pausedUntilMs: number } | null = null;

  constructor(options: SessionOptions) {
    this.#options = options;
  }

  /** Returns when stopped, with everything that was in the log then applied. Rejects with the first error. */
  async run(stop: StopSignals): Promise<void> {
    const { sink, context, observer } = this.#options;
    const known = await sink.open(context);
    const catalog = await this.#captureStarted(stop);
    if (catalog === null) return;
    await this.#begin(known, catalog);
    observer.opened(this.#checkpoint, this.#cursor);
    while (!stop.abandon.aborted) {
      if (this.#cursor !== null && !stop.finish.aborted) {
        await this.#fillStep(this.#cursor, stop);
      } else if (!stop.finish.aborted && (await this.#taskStep(stop))) {
        // The stream came along with it.
      } else if (!(await this.#streamStep(stop))) {
        break;
      }
      await this.#retryLetters();
    }
    if (this.#unsaved && !stop.abandon.aborted) await this.#save();
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

  async #begin(known: Checkpoint | null, catalog: Catalog): Promise<void> {
    const { reader, mapping, logger, fill } = this.#options;
    for (const warning of mapping.check(catalog)) logger.warn({ warning }, 'the mapping names what is not there');
    const match = known === null ? null : reader.check(known);
    if (known !== null && match === 'exact') {
      this.#checkpoint = known;
      this.#cursor = fill ? decodeCursor(known.fill) : null;
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

  async #beginAnew(reconcile: boolean): Promise<void> {
    const { reader, mapping, fill } = this.#options;
    const { logId, term, head, catalog } = reader.info();
    const names = (catalog?.tables ?? []).filter((table) => mapping.table(table) !== null).map((table) => table.name);
    this.#cursor = fill ? beginFill(names, reconcile) : null;
    this.#checkpoint = { logId, term, seq: head.seq, txid: head.txid, fill: encodeCursor(this.#cursor) };
    this.#options.tasks?.saveMapping(JSON.stringify(this.#options.mappingSpec));
    // Saved at once: a kill before the first batch must not lose what comes between.
    if (this.#cursor === null) await this.#save();
  }

  /** Tables that the sink did not get before are filled; those that it gets in another form now are compared and mended, or filled where that cannot be. */
  async #followMapping(catalog: Catalog): Promise<void> {
    const { tasks, mappingSpec, sink, logger } = this.#options;
    const spec = JSON.stringify(mappingSpec);
    const before = tasks?.mapping() ?? null;
    if (tasks === null || before === spec) return;
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
    this.#moveCursor(fillAgain(this.#cursor, tables));
    await this.#save();
  }

  /** A step of what was asked for. False: nothing to do now. */
  async #taskStep(stop: StopSignals): Promise<boolean> {
    const { tasks, clock, logger } = this.#options;
    if (tasks === null) return false;
    if (this.#running === null) {
      const task = tasks.next();
      if (task === null) return false;
      await this.#beginTask(task, tasks, stop);
      return true;
    }
    const { task, audit } = this.#running;
    if (clock.now() < this.#running.pausedUntilMs) return false;
    const beganMs = clock.now();
    try {
      const finished = await audit.step();
      this.#running.pausedUntilMs = task.slow ? clock.now() + SLOW_PAUSE * (clock.now() - beganMs) : 0;
      tasks.progress(task, audit.result);
      if (!finished) return true;
    } catch (error) {
      this.#running = null;
      // The sink itself failed while it was mended or caught up: that is for the runner. The target could not be read: that is for whoever asked.
      if (!(error instanceof AuditError)) throw error;
      tasks.failed(task, error.reason);
      logger.warn({ code: error.reason.code, reason: error.reason.message, task: task.kind }, 'the target cannot be compared');
      await this.#reopen();
      return true;
    }
    this.#running = null;
    tasks.done(task, audit.result);
    const differences = differencesOf(audit.result);
    logger[differences > 0 ? 'warn' : 'info'](
      { task: task.kind, differences, first: audit.result.first },
      task.kind === 'resync' ? 'the target was compared and mended' : 'the target was compared',
    );
    return true;
  }

  async #beginTask(asked: SinkTask, tasks: SinkTasks, stop: StopSignals): Promise<void> {
    const { sink, rows, reader, mapping } = this.#options;
    const wasRunning = asked.state === 'running';
    const names = (reader.info().catalog?.tables ?? []).filter((table) => mapping.table(table) !== null).map((table) => table.name);
    const unknown = asked.tables?.find((name) => !names.includes(name));
    const task = tasks.begin(asked);
    if (unknown !== undefined) {
      const nearest = nearestName(unknown, names);
      const hint = nearest === null ? {} : { hint: `Did you mean ${nearest}?` };
      tasks.failed(task, new WaggleError('NOT_FOUND', `the sink gets no table ${unknown}`, hint));
    } else if (sink.audit !== undefined && rows !== null) {
      this.#running = {
        task,
        audit: new Audit(this.#auditHost(sink.audit, rows, stop), asked.tables ?? names, task.kind === 'resync'),
        pausedUntilMs: 0,
      };
    } else if (task.kind === 'verify' || rows === null) {
      tasks.failed(task, new WaggleError('SINK_NOT_READABLE', 'the target of this sink cannot be read back'));
    } else if (wasRunning) {
      // Its fill is in the checkpoint, and has come to its end.
      tasks.done(task, null);
    } else {
      await this.#fillAgain(asked.tables ?? names);
    }
  }

  #auditHost(target: SinkAudit, rows: RowSource, stop: StopSignals): AuditHost {
    const { mapping, letters, clock } = this.#options;
    return {
      rows,
      target: {
        compare: (table, values) => readTarget(() => target.compare(table, values)),
        count: (table) => readTarget(() => target.count(table)),
        keys: (table, after, limit) => readTarget(() => target.keys(table, after, limit)),
      },
      mapping,
      reach: async (asOf) => {
        if (asOf.seq < this.#checkpoint.seq) {
          await clock.sleep(CAPTURE_POLL_MS, stop.finish);
          return false;
        }
        await this.#applyUpTo(asOf.seq, stop);
        if (stop.abandon.aborted) return false;
        this.#checkReached(asOf);
        return true;
      },
      catchUp: () => this.#applyUpTo(this.#options.reader.head().seq, stop),
      mend: (changes) => this.#deliver({ ...this.#standing(), parts: () => [[...changes]].values() }),
      fillChanges: (chunk, fillRows, begin) =>
        [...chunkParts({ ...chunk, rows: fillRows }, { ...this.#partOptions(), begin, empty: false, timestampUs: clock.now() * 1000 })].flat(),
      isDeadLetter: ({ source }) => letters !== null && source.op !== 's' && source.op !== 't' && letters.isDead(source),
    };
  }

  async #fillStep(cursor: FillCursor, stop: StopSignals): Promise<void> {
    const { mapping, clock } = this.#options;
    const chunk = await this.#chunk(cursor);
    const fits = chunk !== null && mapping.table(chunk.table) !== null;
    if (!fits || (cursor.after !== null && cursor.generation !== chunk.generation)) {
      this.#moveCursor(fits ? restartTable(cursor) : nextTable(cursor));
      return;
    }
    // An older state than the sink has would undo changes that it has: ask again.
    if (chunk.asOf.seq < this.#checkpoint.seq) {
      await clock.sleep(CAPTURE_POLL_MS, stop.finish);
      return;
    }
    await this.#applyUpTo(chunk.asOf.seq, stop);
    if (stop.abandon.aborted) return;
    this.#checkReached(chunk.asOf);
    const next = cursorBehind(cursor, chunk);
    if (next !== null && !stop.finish.aborted) this.#readAhead(next);
    const first = cursor.after === null;
    if (first) this.#options.letters?.forgetTable(chunk.table.name);
    await this.#deliver({
      parts: () => chunkParts(chunk, { ...this.#partOptions(), begin: first, empty: first && cursor.reconcile, timestampUs: clock.now() * 1000 }),
      checkpoint: { ...this.#checkpoint, fill: encodeCursor(next) },
      cursor: next,
      counts: { changes: 0, transactions: 0 },
    });
  }

  #checkReached({ seq, txid }: RowChunk['asOf']): void {
    if (this.#checkpoint.seq !== seq || this.#checkpoint.txid !== txid)
      throw new WaggleError('SINK_CHECKPOINT_UNKNOWN', `the mirror was read at ${seq}, which is not in the log`);
  }

  #chunk(cursor: FillCursor): Promise<RowChunk | null> {
    const ahead = this.#ahead;
    this.#ahead = null;
    if (ahead !== null && ahead.cursor === cursor) return ahead.chunk;
    const { rows } = this.#options;
    if (rows === null) throw new WaggleError('CONFIG_INVALID', 'the sink is to be filled, but there is nothing to fill it from');
    return rows.readRows(cursor.tables[0]!, cursor.after, CHUNK_BYTES);
  }

  /** Read while the chunk before is applied: its position cannot be before that one's. */
  #readAhead(cursor: FillCursor): void {
    const chunk = this.#chunk(cursor);
    chunk.catch(() => {}); // Seen when it is awaited, if it ever is.
    this.#ahead = { cursor, chunk };
  }

  #moveCursor(cursor: FillCursor | null): void {
    this.#cursor = cursor;
    this.#checkpoint = { ...this.#checkpoint, fill: encodeCursor(cursor) };
    this.#unsaved = true;
  }

  async #applyUpTo(seq: number, stop: StopSignals): Promise<void> {
    while (this.#checkpoint.seq < seq && !stop.abandon.aborted) {
      const transactions = this.#next([], seq);
      if (transactions.length === 0) return;
      await this.#apply(transactions);
    }
  }

  /** One batch. False: stopped, and nothing is left to do. */
  async #streamStep(stop: StopSignals): Promise<boolean> {
    const transactions = await this.#collect(stop);
    if (transactions.length > 0) await this.#apply(transactions);
    else if (this.#stopSeq !== null) return false;
    if (this.#unsaved && this.#options.clock.now() - this.#sentAtMs >= UNSAVED_MS) await this.#save();
    return this.#stopSeq === null || this.#checkpoint.seq < this.#stopSeq;
  }

  /** Waits for a batch. Empty: stopped, or time to look after something else. */
  async #collect(stop: StopSignals): Promise<LoggedTransaction[]> {
    const { batch, clock, head, reader } = this.#options;
    const batchEndMs = (): number => this.#sentAtMs + batch.delayMs;
    let transactions: LoggedTransaction[] = [];
    for (;;) {
      if (stop.finish.aborted) this.#stopSeq ??= reader.head().seq;
      if (this.#stopSeq !== null) return this.#next(transactions, this.#stopSeq);
      const before = transactions.length;
      transactions = this.#next(transactions, Number.POSITIVE_INFINITY);
      const seq = transactions.at(-1)?.info.lastSeq ?? this.#checkpoint.seq;
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
    let seq = result.at(-1)?.info.lastSeq ?? this.#checkpoint.seq;
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
    return seq - this.#checkpoint.seq >= this.#options.batch.rows || bytes >= BATCH_BYTES;
  }

  /** In smaller batches where a row is refused, so that there is less to look through: what stands before it is applied by then. */
  async #apply(transactions: readonly LoggedTransaction[]): Promise<void> {
    const { lastSeq, txid } = transactions.at(-1)!.info;
    const batch: Delivery = {
      parts: () => transactionParts(transactions, this.#partOptions()),
      checkpoint: { ...this.#checkpoint, ...this.#termNow(), seq: lastSeq, txid },
      cursor: this.#cursor,
      counts: { changes: lastSeq - this.#checkpoint.seq, transactions: transactions.length },
    };
    if (transactions.length === 1) return this.#deliver(batch);
    const refusal = await this.#try(batch);
    if (refusal === null) return undefined;
    const middle = transactions.length >> 1;
    await this.#apply(transactions.slice(0, middle));
    await this.#apply(transactions.slice(middle));
    return undefined;
  }

  /** The batch without the rows that the target refuses: they become dead letters, the others are applied together, with the checkpoint. */
  async #deliver(batch: Delivery): Promise<void> {
    let passing = 0;
    for (;;) {
      const refusal = await this.#try(batch);
      if (refusal === null) return;
      const blamed = refusal instanceof RowRefusedError ? { change: refusal.change, error: refusal, passing } : await this.#find(batch, passing);
      // Nothing that could be left out, or what was refused passes in a rehearsal.
      if (blamed === null || blamed.change.source.op === 's' || blamed.change.source.op === 't') throw refusal;
      this.#refuse(blamed.change.source, blamed.error);
      passing = blamed.passing;
    }
  }

  /** Null: applied. A refusal that can be put down to a row is given back, with the sink open again; everything else is thrown. */
  async #try(batch: Delivery): Promise<WaggleError | null> {
    const { sink, letters } = this.#options;
    try {
      await this.#send({ ...batch, parts: batch.parts() });
      letters?.applied(this.#checkpoint.seq);
      return null;
    } catch (error) {
      if (letters === null || !isRefusal(error) || !(error instanceof RowRefusedError || sink.rehearse !== undefined)) throw error;
      await this.#reopen();
      return error;
    }
  }

  #find(batch: Delivery, passing: number): ReturnType<typeof findRefused> {
    const { sink } = this.#options;
    const passed = function* (this: SinkSession): Generator<SinkChange[], void, undefined> {
      for (const part of batch.parts()) yield this.#pass(part);
    }.bind(this);
    return findRefused({
      parts: passed,
      passing,
      rehearse: async (parts) => {
        try {
          await withOwnErrors(parts[Symbol.iterator](), (guarded) => sink.rehearse!({ parts: guarded, checkpoint: batch.checkpoint }));
          return null;
        } catch (error) {
          if (!isRefusal(error)) throw error;
          await this.#reopen();
          return error;
        }
      },
    });
  }

  /** After a throw of the sink. It must still stand where it stood. */
  async #reopen(): Promise<void> {
    const { sink, context } = this.#options;
    await sink.close();
    const known = await sink.open(context);
    if (known !== null && (known.logId !== this.#checkpoint.logId || known.seq > this.#checkpoint.seq))
      throw new WaggleError('SINK_CHECKPOINT_UNKNOWN', 'the checkpoint of the sink moved while it was closed');
  }

  #pass(part: SinkChange[]): SinkChange[] {
    this.#running?.audit.streamed(part);
    return this.#options.letters?.pass(part) ?? part;
  }

  #refuse(change: RowChange, error: WaggleError): void {
    const { letters, logger } = this.#options;
    letters!.refuse(change, error);
    logger.warn(
      { code: error.code, table: change.table.name, seq: change.seq, reason: error.message },
      'a row was refused and is kept as a dead letter',
    );
  }

  /** What `waggle dead-letters retry` asked for. A letter that is refused again stays, and the later ones of its row with it. */
  async #retryLetters(): Promise<void> {
    const { letters, mapping } = this.#options;
    if (letters === null || this.#cursor !== null || !letters.refresh()) return;
    const refused = new Set<string>();
    for (const letter of letters.asked()) {
      const row = `${letter.table} ${letter.row}`;
      const error = refused.has(row)
        ? new WaggleError(letter.error.code, letter.error.message, { hint: letter.error.hint })
        : await this.#retry(letter.change, mapping);
      if (error === null) {
        letters.retried(letter);
        continue;
      }
      refused.add(row);
      letters.refusedAgain(letter, error);
    }
  }

  async #retry(change: RowChange, mapping: TableMapping): Promise<WaggleError | null> {
    try {
      const mapped = mapping.change(change);
      if (mapped === null) return null;
      await this.#sendParts([[mapped]].values(), this.#standing(), false);
      return null;
    } catch (error) {
      if (!isRefusal(error)) throw error;
      await this.#reopen();
      return error;
    }
  }

  #partOptions(): PartOptions {
    const { mapping, sink, letters } = this.#options;
    return {
      mapping,
      wants: sink.wants,
      ...(letters === null ? {} : { refused: (change: RowChange, error: WaggleError) => this.#refuse(change, error) }),
    };
  }

  /** Where the sink stands, for what moves no checkpoint. */
  #standing(): Progress {
    return { checkpoint: this.#checkpoint, cursor: this.#cursor, counts: { changes: 0, transactions: 0 } };
  }

  /** What was read now was proven by the term of now. */
  #termNow(): Pick<Checkpoint, 'term'> {
    return { term: this.#options.reader.term() };
  }

  #save(): Promise<void> {
    return this.#sendParts(noParts(), this.#standing());
  }

  async #send(batch: Progress & { readonly parts: Iterator<SinkChange[], void> }): Promise<void> {
    const first = batch.parts.next();
    if (first.done === true && batch.cursor === this.#cursor) {
      // Nothing in it for this sink: the target need not be asked each time.
      this.#moved(batch);
      this.#unsaved = true;
      return;
    }
    await this.#sendParts(chain(first, batch.parts), batch);
  }

  /** `sift` false: rows of dead letters go to the sink, too. */
  async #sendParts(parts: Iterator<SinkChange[], void>, progress: Progress, sift = true): Promise<void> {
    const { sink, clock } = this.#options;
    this.#sentAtMs = clock.now();
    // A sink that never waits (an embedded database) must not keep signals, timers and other sinks waiting.
    await nextTurn();
    const sifted = sift ? map(parts, (part) => this.#pass(part)) : parts;
    await withOwnErrors(sifted, (guarded) => sink.apply({ parts: guarded, checkpoint: progress.checkpoint }));
    this.#unsaved = false;
    this.#moved(progress);
  }

  #moved({ checkpoint, cursor, counts }: Progress): void {
    this.#checkpoint = checkpoint;
    this.#cursor = cursor;
    this.#options.observer.applied({ checkpoint, fill: cursor, ...counts });
  }
}

/** The sink may wrap what its input throws: the log's own error is the one to act upon. */
const withOwnErrors = async (parts: Iterator<SinkChange[], void>, apply: (guarded: AsyncIterable<SinkChange[]>) => Promise<void>): Promise<void> => {
  let failed: { readonly error: unknown } | null = null;
  const guarded = async function* (): AsyncGenerator<SinkChange[], void, undefined> {
    try {
      for (let part = parts.next(); part.done !== true; part = parts.next()) {
        yield part.value;
        await nextTurn();
      }
    } catch (error) {
      failed = { error };
      throw error;
    }
  };
  try {
    await apply(guarded());
  } catch (error) {
    throw (failed as { readonly error: unknown } | null)?.error ?? error;
  }
};

const map = function* (parts: Iterator<SinkChange[], void>, change: (part: SinkChange[]) => SinkChange[]): Generator<SinkChange[], void, undefined> {
  for (let part = parts.next(); part.done !== true; part = parts.next()) yield change(part.value);
};

interface Progress {
  readonly checkpoint: Checkpoint;
  readonly cursor: FillCursor | null;
  readonly counts: { readonly changes: number; readonly transactions: number };
}

/** What the target said when it was to be read. SINK_NOT_READABLE is the audit's own business. */
class AuditError extends Error {
  readonly reason: WaggleError;

  constructor(reason: WaggleError) {
    super(reason.message, { cause: reason });
    this.reason = reason;
  }
}

const readTarget = async <T>(read: () => Promise<T>): Promise<T> => {
  try {
    return await read();
  } catch (error) {
    const reason = error instanceof WaggleError ? error : new WaggleError('SINK_FAILED', String(error), { cause: error });
    throw reason.code === 'SINK_NOT_READABLE' ? reason : new AuditError(reason);
  }
};

/** A batch that can be made again. */
interface Delivery extends Progress {
  readonly parts: () => Iterable<SinkChange[]> & Iterator<SinkChange[], void>;
}

const cursorBehind = (cursor: FillCursor, chunk: RowChunk): FillCursor | null => {
  if (chunk.done) return nextTable(cursor, chunk.rows.length);
  const last = chunk.rows.at(-1);
  const after = last === undefined ? cursor.after : placeOfRow(last);
  return { ...cursor, after, generation: chunk.generation, rows: cursor.rows + chunk.rows.length, share: cursor.share + chunk.share };
};

const inlineBytes = (transactions: readonly LoggedTransaction[]): number =>
  transactions.reduce((bytes, transaction) => bytes + transaction.inlineBytes, 0);

const noParts = function* (): Generator<SinkChange[], void, undefined> {};

const chain = function* (first: IteratorResult<SinkChange[], void>, rest: Iterator<SinkChange[], void>): Generator<SinkChange[], void, undefined> {
  for (let part = first; part.done !== true; part = rest.next()) yield part.value;
};
