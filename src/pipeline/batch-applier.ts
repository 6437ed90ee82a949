/**
 * Applies batches to a sink and knows where it stands. A row that the target refuses is found and becomes a dead letter; the rest of its transaction is
 * applied as one batch.
 *
 * Guarantees: data and checkpoint move together; a checkpoint stands between two transactions, never in one; a refused row is stored before the
 * checkpoint moves past it.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Checkpoint, RowChange } from '../change/change.ts';
import type { LoggedTransaction } from '../log/logged-transaction.ts';
import type { LogReader } from '../log/log-reader.ts';
import type { Clock } from '../support/clock.ts';
import { WaggleError } from '../support/errors.ts';
import { type PartOptions, transactionParts } from './batch-parts.ts';
import type { DeadLetter } from './dead-letter-store.ts';
import type { DeadLetters } from './dead-letters.ts';
import { encodeCursor, type FillCursor } from './fill-cursor.ts';
import { findRefused, isRefusal } from './isolation.ts';
import type { TableMapping } from './mapping.ts';
import { type Batch, RowRefusedError, type Sink, type SinkChange, type SinkContext } from './sink.ts';

export interface BatchApplierOptions {
  readonly sink: Sink;
  readonly context: SinkContext;
  readonly reader: LogReader;
  readonly mapping: TableMapping;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Where refused rows go; null: the first of them is thrown. */
  readonly letters: DeadLetters | null;
  /** Told after each batch. */
  readonly onApplied: (progress: Progress) => void;
}

export interface Progress {
  readonly checkpoint: Checkpoint;
  readonly cursor: FillCursor | null;
  readonly counts: { readonly changes: number; readonly transactions: number };
}

/** A batch that can be made again. */
export interface Delivery extends Progress {
  readonly parts: () => Iterable<SinkChange[]> & Iterator<SinkChange[], void>;
}

export class BatchApplier {
  readonly #options: BatchApplierOptions;
  #checkpoint: Checkpoint = { logId: '', term: '', seq: 0, txid: '', fill: null };
  #cursor: FillCursor | null = null;
  /** The checkpoint in memory is ahead of the target's, by changes that are none for this sink. */
  #unsaved = false;
  #sentAtMs = Number.NEGATIVE_INFINITY;
  /** Told of all that goes to the sink, before it does. */
  onPart: (part: readonly SinkChange[]) => void = () => {};

  constructor(options: BatchApplierOptions) {
    this.#options = options;
  }

  get checkpoint(): Checkpoint {
    return this.#checkpoint;
  }

  get cursor(): FillCursor | null {
    return this.#cursor;
  }

  get isUnsaved(): boolean {
    return this.#unsaved;
  }

  get sentAtMs(): number {
    return this.#sentAtMs;
  }

  /** Where the sink stands. */
  begin(checkpoint: Checkpoint, cursor: FillCursor | null): void {
    this.#checkpoint = checkpoint;
    this.#cursor = cursor;
  }

  /** Goes to the target with the next batch. */
  moveCursor(cursor: FillCursor | null): void {
    this.#cursor = cursor;
    this.#checkpoint = { ...this.#checkpoint, fill: encodeCursor(cursor) };
    this.#unsaved = true;
  }

  /** In smaller batches where a row is refused, so that there is less to look through: what stands before it is applied by then. */
  async apply(transactions: readonly LoggedTransaction[]): Promise<void> {
    const { lastSeq, txid } = transactions.at(-1)!.info;
    const batch: Delivery = {
      parts: () => transactionParts(transactions, this.partOptions()),
      checkpoint: { ...this.#checkpoint, ...this.#termNow(), seq: lastSeq, txid },
      cursor: this.#cursor,
      counts: { changes: lastSeq - this.#checkpoint.seq, transactions: transactions.length },
    };
    if (transactions.length === 1) return this.deliver(batch);
    const refusal = await this.#try(batch);
    if (refusal === null) return undefined;
    const middle = transactions.length >> 1;
    await this.apply(transactions.slice(0, middle));
    await this.apply(transactions.slice(middle));
    return undefined;
  }

  /** The batch without the rows that the target refuses: they become dead letters, the others are applied together, with the checkpoint. */
  async deliver(batch: Delivery): Promise<void> {
    let passing = 0;
    for (;;) {
      const refusal = await this.#try(batch);
      if (refusal === null) return;
      const blamed = refusal instanceof RowRefusedError ? { change: refusal.change, error: refusal, passing } : await this.#find(batch, passing);
      // Nothing that is a row of the hive, or what was refused passes in a rehearsal.
      if (blamed === null || blamed.change.source.op === 's' || blamed.change.source.op === 't' || !hasRow(blamed.change.source)) throw refusal;
      this.#refuse(blamed.change.source, blamed.error);
      passing = blamed.passing;
    }
  }

  /** The batch or, where a row of it is refused, nothing: then the sink is open again, and false is given back. */
  async deliverWhole(batch: Delivery): Promise<boolean> {
    try {
      return (await this.#try(batch)) === null;
    } catch (error) {
      if (!isRefusal(error)) throw error;
      await this.reopen();
      return false;
    }
  }

  /** Null: applied. A refusal that can be put down to a row is given back, with the sink open again; everything else is thrown. */
  async #try(batch: Delivery): Promise<WaggleError | null> {
    const { sink, letters } = this.#options;
    try {
      await this.#send(batch);
      letters?.applied(this.#checkpoint.seq);
      return null;
    } catch (error) {
      if (letters === null || !isRefusal(error) || !(error instanceof RowRefusedError || sink.rehearse !== undefined)) throw error;
      await this.reopen();
      return error;
    }
  }

  #find(batch: Delivery, passing: number): ReturnType<typeof findRefused> {
    const { sink } = this.#options;
    const passed = function* (this: BatchApplier): Generator<SinkChange[], void, undefined> {
      for (const part of batch.parts()) yield this.#pass(part);
    }.bind(this);
    return findRefused({
      parts: passed,
      passing,
      rehearse: async (parts) => {
        try {
          await withOwnErrors(
            () => parts[Symbol.iterator](),
            (guarded) => sink.rehearse!({ parts: guarded, checkpoint: batch.checkpoint }),
          );
          return null;
        } catch (error) {
          if (!isRefusal(error)) throw error;
          await this.reopen();
          return error;
        }
      },
    });
  }

  /** After a throw of the sink. It must still stand where it stood. */
  async reopen(): Promise<void> {
    const { sink, context } = this.#options;
    await sink.close();
    const known = await sink.open(context);
    if (known !== null && (known.logId !== this.#checkpoint.logId || known.seq > this.#checkpoint.seq))
      throw new WaggleError('SINK_CHECKPOINT_UNKNOWN', 'the checkpoint of the sink moved while it was closed');
  }

  #pass(part: SinkChange[]): SinkChange[] {
    this.onPart(part);
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

  /** What `waggle dead-letters retry` asked for. */
  async retryLetters(): Promise<void> {
    const { letters, sink } = this.#options;
    if (letters === null || this.#cursor !== null || !letters.refresh()) return;
    let passed = await this.#retryEach(letters, letters.asked());
    // A row can have been refused for want of one that is there now: a foreign key of the target.
    while (passed && sink.wants === 'states') passed = await this.#retryEach(letters, letters.all());
  }

  /** A letter that is refused again stays, and the later ones of its row with it. True: one was not. */
  async #retryEach(letters: DeadLetters, tried: readonly DeadLetter[]): Promise<boolean> {
    const { mapping } = this.#options;
    const refused = new Set<string>();
    let passed = false;
    for (const letter of tried) {
      const row = `${letter.table} ${letter.row}`;
      const error = refused.has(row)
        ? new WaggleError(letter.error.code, letter.error.message, { hint: letter.error.hint })
        : await this.#retry(letter.change, mapping);
      if (error === null) {
        letters.retried(letter);
        passed = true;
        continue;
      }
      refused.add(row);
      letters.refusedAgain(letter, error);
    }
    return passed;
  }

  async #retry(change: RowChange, mapping: TableMapping): Promise<WaggleError | null> {
    try {
      const mapped = mapping.map(change);
      if (mapped.length === 0) return null;
      await this.#sendParts(() => [mapped].values(), this.standing(), false);
      return null;
    } catch (error) {
      if (!isRefusal(error)) throw error;
      await this.reopen();
      return error;
    }
  }

  partOptions(): PartOptions {
    const { mapping, sink, letters } = this.#options;
    return {
      mapping,
      wants: sink.wants,
      ...(letters === null ? {} : { refused: (change: RowChange, error: WaggleError) => this.#refuse(change, error) }),
    };
  }

  /** Where the sink stands, for what moves no checkpoint. */
  standing(): Progress {
    return { checkpoint: this.#checkpoint, cursor: this.#cursor, counts: { changes: 0, transactions: 0 } };
  }

  /** What was read now was proven by the term of now. */
  #termNow(): Pick<Checkpoint, 'term'> {
    return { term: this.#options.reader.term() };
  }

  save(): Promise<void> {
    return this.#sendParts(() => [].values(), this.standing());
  }

  async #send(batch: Delivery): Promise<void> {
    const parts = batch.parts();
    const first = parts.next();
    if (first.done === true && batch.cursor === this.#cursor) {
      // Nothing in it for this sink: the target need not be asked each time.
      this.#moved(batch);
      this.#unsaved = true;
      return;
    }
    let begun: Iterator<SinkChange[], void> | null = chain(first, parts);
    const partsAgain = (): Iterator<SinkChange[], void> => {
      const taken = begun ?? batch.parts();
      begun = null;
      return taken;
    };
    await this.#sendParts(partsAgain, batch);
  }

  /** `sift` false: rows of dead letters go to the sink, too. */
  async #sendParts(parts: () => Iterator<SinkChange[], void>, progress: Progress, sift = true): Promise<void> {
    const { sink, clock } = this.#options;
    this.#sentAtMs = clock.now();
    // A sink that never waits (an embedded database) must not keep signals, timers and other sinks waiting.
    await nextTurn();
    const sifted = sift ? (): Iterator<SinkChange[], void> => map(parts(), (part) => this.#pass(part)) : parts;
    await withOwnErrors(sifted, (guarded) => sink.apply({ parts: guarded, checkpoint: progress.checkpoint }));
    this.#unsaved = false;
    this.#moved(progress);
  }

  #moved({ checkpoint, cursor, counts }: Progress): void {
    this.#checkpoint = checkpoint;
    this.#cursor = cursor;
    this.#options.onApplied({ checkpoint, cursor, counts });
  }
}

/** The removal of a surplus row has none. */
const hasRow = ({ before, after }: RowChange): boolean => before !== null || after !== null;

/** The sink may wrap what its input throws: the log's own error is the one to act upon. */
const withOwnErrors = async (parts: () => Iterator<SinkChange[], void>, apply: (guarded: Batch['parts']) => Promise<void>): Promise<void> => {
  let failed: { readonly error: unknown } | null = null;
  const guarded = async function* (): AsyncGenerator<SinkChange[], void, undefined> {
    try {
      const rest = parts();
      for (let part = rest.next(); part.done !== true; part = rest.next()) {
        yield part.value;
        await nextTurn();
      }
    } catch (error) {
      failed = { error };
      throw error;
    }
  };
  try {
    await apply(guarded);
  } catch (error) {
    throw (failed as { readonly error: unknown } | null)?.error ?? error;
  }
};

const map = function* (parts: Iterator<SinkChange[], void>, change: (part: SinkChange[]) => SinkChange[]): Generator<SinkChange[], void, undefined> {
  for (let part = parts.next(); part.done !== true; part = parts.next()) yield change(part.value);
};

const chain = function* (first: IteratorResult<SinkChange[], void>, rest: Iterator<SinkChange[], void>): Generator<SinkChange[], void, undefined> {
  for (let part = first; part.done !== true; part = rest.next()) yield part.value;
};
