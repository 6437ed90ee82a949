/**
 * One stretch of capture without a gap: from a proven beginning, transaction after transaction, until it is stopped or the
 * keeper tells of a gap. Keeper, tail, replica and log in the only order that loses nothing:
 *
 *     keeper holds frames ─► tail reads them ─► replica diffs ─► mirror redo ─► log commit ─► keeper may let go
 */
import type { Position } from '../change/change.ts';
import type { Catalog } from '../change/table.ts';
import type { TransactionChanges } from '../diff/transaction-diff.ts';
import { WalTail } from '../hive/wal-tail.ts';
import { FramesMoved, type WalTransaction } from '../hive/wal-transaction.ts';
import type { Stopped } from '../keeper/protocol.ts';
import { TransactionBatch } from '../log/transaction-batch.ts';
import { WaggleError } from '../support/errors.ts';
import { goOn, readStartNote, takeFirstState } from './beginning.ts';
import type { Ready } from './continuation.ts';
import { KeeperLink } from './keeper-link.ts';
import { joined, nowUs } from './log-transaction.ts';
import type { Beginning } from './protocol.ts';
import { Replica } from './replica.ts';
import { asDiskFull, retryWhileFull } from './retry-while-full.ts';
import type { SessionOptions } from './session-options.ts';

/** Frames that are read and logged together at most. Larger batches gain nothing and delay the next. */
const BATCH_BYTES = 2 * 1024 * 1024;
const FULL_RETRY_MS = 500;

export class CaptureSession implements AsyncDisposable {
  readonly beginning: Beginning;
  readonly keeperPid: number;
  readonly #options: SessionOptions;
  readonly #link: KeeperLink;
  readonly #tail: WalTail;
  readonly #batch = new PendingBatch();
  #replica: Replica;
  /** The replica is ahead of the log: a step is under way, or ended in the middle. */
  #isAhead = false;
  #drained = { generation: 0, frame: -1 };

  private constructor(options: SessionOptions, parts: { link: KeeperLink; tail: WalTail; replica: Replica; beginning: Beginning; ready: Ready }) {
    this.#options = options;
    this.#link = parts.link;
    this.#tail = parts.tail;
    this.#replica = parts.replica;
    this.beginning = parts.beginning;
    this.keeperPid = parts.ready.pid;
  }

  /**
   * Takes the pin and finds out how to go on. Throws the keeper's errors (HIVE_…), STATE_CORRUPT where the mirror is not valid
   * and `onGap` is `fail`, HIVE_CORRUPT, the catalog's errors.
   */
  static async begin(options: SessionOptions): Promise<CaptureSession> {
    const { capture, log } = options;
    const state = log.state();
    const link = new KeeperLink(options, state?.position ?? null);
    let tail: WalTail | null = null;
    let replica = options.replica;
    try {
      const ready = await link.ready;
      const begun = state === null ? await takeFirstState(options, ready, 1) : await goOn(options, ready, state.position);
      const { position, generation } = begun;
      replica = begun.replica;
      tail = new WalTail({ hive: capture.hive, pageSize: begun.replica.mirror.pageSize, position, generation });
      for (const earlier of begun.continuation?.earlier ?? []) {
        tail.generationBegun(earlier.generation, earlier);
        tail.generationEnded(earlier.generation, earlier.lastFrame);
      }
      for (const frames of begun.continuation?.spooled ?? []) tail.framesSpooled(frames);
      if (ready.mxFrame > 0) tail.generationBegun(1, ready);
      link.attach(tail);
      const session = new CaptureSession(options, { link, tail, replica: begun.replica, beginning: begun.beginning, ready });
      session.#tellDrained();
      link.client.release();
      return session;
    } catch (error) {
      tail?.[Symbol.dispose]();
      await replica?.mirror[Symbol.asyncDispose]();
      // Without a first state there is no history that a keeper could go on with.
      await (log.state() === null ? link.client.stop() : link.letGo());
      throw error;
    }
  }

  get replica(): Replica {
    return this.#replica;
  }

  get position(): Position {
    return this.#tail.position;
  }

  /** Resolves when the keeper has ended: null after `end`, else why. */
  get keeperEnded(): Promise<WaggleError | null> {
    return this.#link.client.ended;
  }

  /** Takes what there is, one batch. Returns the number of transactions taken. */
  async step(): Promise<number> {
    const batch = this.#batch;
    batch.begin();
    let taken = 0;
    try {
      for (let next = this.#tail.next(BATCH_BYTES); next !== null; next = this.#tail.next(BATCH_BYTES)) {
        this.#isAhead = true;
        if (next.isResident) {
          const applied = this.#apply(next);
          batch.add(next, applied instanceof Promise ? await applied : applied);
        } else {
          await this.#commit();
          await this.#takeLarge(next);
        }
        taken += 1;
      }
    } catch (error) {
      // A transaction that cannot be taken does not take those before it along.
      await this.#commit();
      throw error;
    }
    if (taken > 0) {
      await this.#commit();
      this.#isAhead = false;
      this.#tail.forgetSpooled();
    }
    this.#tellDrained();
    return taken;
  }

  /** Right behind the batch that was taken there was more. */
  get isBehind(): boolean {
    return this.#tail.isBehind;
  }

  /** Nothing that is committed now is left to take. */
  get isCaughtUp(): boolean {
    return this.#tail.isCaughtUp();
  }

  /**
   * Orderly end. A keeper that outlives goes on; any other checkpoints what it can and lets go. What was committed before is taken
   * first by `step`.
   */
  async end(): Promise<void> {
    this.#tellDrained();
    const stopped = await this.#link.letGo();
    if (stopped !== null) this.#noteEnd(stopped);
  }

  /** Ends the keeper, also one that outlives; `keeperEnded` tells when it has gone. */
  async stopKeeper(): Promise<void> {
    this.#tellDrained();
    const stopped = await this.#link.client.stop();
    if (stopped !== null) this.#noteEnd(stopped);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#link.letGo();
    this.#tail[Symbol.dispose]();
  }

  /** The log stands at frame 0, and nothing was committed since: the print of the file as it was left proves it to the next start. */
  #noteEnd({ print, generation, frame }: Stopped): void {
    const { log } = this.#options;
    const state = log.state()!;
    const note = readStartNote(state.clean);
    const isThere = state.position.frame === 0 && this.#tail.position.frame === 0 && this.#tail.position.epoch === state.position.epoch;
    if (print === null || note === null || !isThere || frame !== 0 || generation !== this.#tail.generation) return;
    log.note(JSON.stringify({ ...note, print }));
  }

  /**
   * After the end of the session: its replica for the next one. Null where a step ended in the middle: the replica knows
   * of transactions that are not in the log, so it is closed and the next session reads it from disk, as of the log.
   */
  async handOn(): Promise<Replica | null> {
    if (!this.#isAhead) return this.#replica;
    await this.#replica.mirror[Symbol.asyncDispose]();
    return null;
  }

  async #commit(): Promise<void> {
    const batch = this.#batch;
    if (batch.isEmpty) return;
    const batchId = this.#options.log.state()!.batchId + 1;
    await this.#whileFull(() => this.#replica.mirror.commit(batchId));
    await this.#append(batchId);
  }

  async #append(batchId: number): Promise<void> {
    const { log } = this.#options;
    const { mirror, schema } = this.#replica;
    const { position, catalogs, transactions } = this.#batch;
    const catalogVersion = schema.catalog.version;
    await this.#whileFull(() => log.append({ batchId, position, sizePages: mirror.sizePages, catalogVersion, catalogs, transactions }));
    this.#batch.clear();
    this.#options.spill.clear();
    await this.#whileFull(() => mirror.afterLogCommit());
  }

  /** The changes of a transaction; a promise only where something has to be waited for. */
  #apply(transaction: WalTransaction): TransactionChanges | Promise<TransactionChanges> {
    try {
      return this.#replica.apply(transaction);
    } catch (error) {
      return this.#applyAgain(transaction, error);
    }
  }

  /** What can pass while a transaction is being compared is waited for; the replica then begins again from the mirror. */
  async #applyAgain(transaction: WalTransaction, first: unknown): Promise<TransactionChanges> {
    const { capture, captured, spill, warn, isStopping } = this.#options;
    let told = false;
    for (let error = first; ;) {
      const full = asDiskFull(error);
      if (full === null && !(error instanceof FramesMoved)) throw error;
      if (full !== null && isStopping()) throw full;
      if (full !== null && !told) warn(full);
      told ||= full !== null;
      await (full === null ? this.#framesTold() : nextTurn(FULL_RETRY_MS));
      const { mirror, schema } = this.#replica;
      this.#replica = Replica.read(mirror, {
        captured,
        known: schema.catalog,
        firstVersion: schema.catalog.version,
        spill,
        deleteAll: capture.deleteAll,
      });
      try {
        return this.#replica.apply(transaction);
      } catch (again) {
        error = again;
      }
    }
  }

  /** A transaction that does not fit into memory: its images are read again from the WAL or the spool. */
  async #takeLarge(transaction: WalTransaction): Promise<void> {
    const changes = await this.#apply(transaction);
    const { mirror } = this.#replica;
    const batchId = this.#options.log.state()!.batchId + 1;
    this.#batch.add(transaction, changes);
    await this.#whileFull(async () => {
      for (;;) {
        try {
          mirror.commitLarge(batchId, transaction.pages, (page) => transaction.image(page), transaction.sizePages);
          return;
        } catch (error) {
          if (!(error instanceof FramesMoved)) throw error;
          await this.#framesTold();
        }
      }
    });
    await this.#append(batchId);
  }

  /** Frames that moved: the keeper is handing over, has spooled them, and tells so in the next turn, or it has nothing more to tell. */
  async #framesTold(): Promise<void> {
    const { hasEnded } = this.#link;
    await nextTurn(1);
    if (hasEnded) throw new WaggleError('PIN_LOST', 'the frames of a large transaction have gone before they were taken');
  }

  #whileFull<T>(work: () => T | Promise<T>): Promise<T> | T {
    return retryWhileFull(work, this.#options);
  }

  #tellDrained(): void {
    const { generation, position } = this.#tail;
    if (generation === this.#drained.generation && position.frame === this.#drained.frame) return;
    this.#drained = { generation, frame: position.frame };
    this.#link.client.drained(generation, position.frame);
  }
}

/** Some transactions on their way into the log, and where they end. */
class PendingBatch {
  readonly transactions = new TransactionBatch();
  catalogs: Catalog[] = [];
  isEmpty = true;
  readonly #end = { epoch: 0, frame: 0, salt1: 0, salt2: 0, checksum1: 0, checksum2: 0 };
  #seenUs = 0;

  /** What is added from now on is seen now. */
  begin(): void {
    this.#seenUs = nowUs();
  }

  /** Behind the last transaction. */
  get position(): Position {
    return { ...this.#end };
  }

  add(transaction: WalTransaction, { changes, schema, previous }: TransactionChanges): void {
    const end = this.#end;
    end.epoch = transaction.epoch;
    end.frame = transaction.frame;
    end.salt1 = transaction.salt1;
    end.salt2 = transaction.salt2;
    end.checksum1 = transaction.checksum1;
    end.checksum2 = transaction.checksum2;
    this.isEmpty = false;
    if (schema !== previous) this.catalogs.push(schema.catalog);
    if (changes.count === 0) return;
    this.transactions.add({
      epoch: end.epoch,
      frame: end.frame,
      timestampUs: this.#seenUs,
      origin: null,
      recovered: false,
      changeCount: changes.count,
      parts: joined(changes.parts()),
      catalogVersion: schema.catalog.version,
      previousCatalogVersion: previous.catalog.version,
    });
  }

  clear(): void {
    this.transactions.clear();
    this.catalogs = [];
    this.isEmpty = true;
  }
}

const nextTurn = (delayMs: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, delayMs));
