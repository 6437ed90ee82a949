/**
 * One stretch of capture without a gap: from a proven beginning, transaction after transaction, until it is stopped or the
 * keeper tells of a gap. Keeper, tail, replica and log in the only order that loses nothing:
 *
 *     keeper holds frames ─► tail reads them ─► replica diffs ─► mirror redo ─► log commit ─► keeper may let go
 */
import { join } from 'node:path';
import type { Position } from '../change/change.ts';
import type { Catalog } from '../change/table.ts';
import type { TableFilter } from '../catalog/table-reader.ts';
import { HiveSnapshot, type SnapshotPlace } from '../hive/hive-snapshot.ts';
import { WalFile } from '../hive/wal-file.ts';
import { WalTail } from '../hive/wal-tail.ts';
import { FramesMoved, type WalTransaction } from '../hive/wal-transaction.ts';
import { KeeperClient } from '../keeper/keeper-client.ts';
import type { FromKeeper, KeeperStats } from '../keeper/protocol.ts';
import type { LogWriter } from '../log/log-writer.ts';
import { type LogTransaction, TransactionBatch } from '../log/transaction-batch.ts';
import { Mirror, type MirrorOptions } from '../mirror/mirror.ts';
import { type Part, PART_BYTES, partBytes } from '../change/change-codec.ts';
import type { TransactionChanges } from '../diff/transaction-diff.ts';
import { FRAME_HEADER_BYTES } from '../sqlite/wal.ts';
import { WaggleError } from '../support/errors.ts';
import { findContinuation, type Ready } from './continuation.ts';
import type { Beginning, CaptureOptions } from './protocol.ts';
import { findChangedPages, mirrorSnapshot } from './recovery.ts';
import { Replica, type ReplicaOptions } from './replica.ts';
import { asDiskFull, retryWhileFull } from './retry-while-full.ts';
import type { SpillFile } from './spill-file.ts';

export interface SessionOptions {
  readonly capture: CaptureOptions;
  readonly log: LogWriter;
  readonly captured: TableFilter;
  readonly spill: SpillFile;
  /** The replica of the session before, as of the log's head; null: it is read from disk. Closed when `begin` throws. */
  readonly replica: Replica | null;
  /** Somebody wants capture to end: nothing is waited for any more that may not come. */
  readonly isStopping: () => boolean;
  /** Something may have happened: frames, a message of the keeper. */
  readonly wake: () => void;
  readonly warn: (error: WaggleError) => void;
  readonly stats: (stats: KeeperStats) => void;
}

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
   * and `onGap` is `fail`, HIVE_PAGE_SIZE_CHANGED, HIVE_CORRUPT, the catalog's errors.
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
      await link.client.stop();
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

  /** Nothing that is committed now is left to take. */
  get isCaughtUp(): boolean {
    return this.#tail.isCaughtUp();
  }

  /** Orderly end: the keeper checkpoints what it can and lets go. What was committed before is taken first by `step`. */
  async end(): Promise<void> {
    this.#tellDrained();
    await this.#link.client.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#link.client.stop();
    this.#tail[Symbol.dispose]();
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
    const { captured, spill, warn, isStopping } = this.#options;
    let told = false;
    for (let error = first; ;) {
      const full = asDiskFull(error);
      if (full === null && !(error instanceof FramesMoved)) throw error;
      if (full !== null && isStopping()) throw full;
      if (full !== null && !told) warn(full);
      told ||= full !== null;
      await (full === null ? this.#framesTold() : nextTurn(FULL_RETRY_MS));
      const { mirror, schema } = this.#replica;
      this.#replica = Replica.read(mirror, { captured, known: schema.catalog, firstVersion: schema.catalog.version, spill });
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
    if (generation < 1 || (generation === this.#drained.generation && position.frame === this.#drained.frame)) return;
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

/** The keeper process, and its messages on their way to the tail. */
class KeeperLink {
  readonly client: KeeperClient;
  readonly ready: Promise<Ready>;
  /** Nothing will be told any more. */
  hasEnded = false;
  #tail: WalTail | null = null;
  readonly #waiting: FromKeeper[] = [];

  constructor(options: SessionOptions, taken: Position | null) {
    const { capture } = options;
    const { promise, resolve, reject } = Promise.withResolvers<Ready>();
    this.ready = promise;
    this.client = KeeperClient.start({
      hive: capture.hive,
      spoolDir: join(capture.stateDir, 'spool'),
      durable: capture.durability === 'fsync',
      maxWalBytes: capture.maxWalBytes,
      taken: taken === null || taken.frame === 0 ? null : { salt1: taken.salt1, salt2: taken.salt2, frame: taken.frame },
      onMessage: (message) => {
        if (message.type === 'ready') resolve(message);
        else if (message.type === 'warning') options.warn(WaggleError.fromJSON(message.error));
        else if (message.type === 'stats') options.stats(message.stats);
        else if (this.#tail === null) this.#waiting.push(message);
        else tellTail(this.#tail, message);
        options.wake();
      },
    });
    void this.client.ended.then((error) => {
      this.hasEnded = true;
      reject(error ?? new WaggleError('KEEPER_DIED', 'the keeper ended before it was ready'));
    });
    // Whoever waits gets the rejection; nobody waits any more once `ready` came.
    promise.catch(() => {});
  }

  attach(tail: WalTail): void {
    this.#tail = tail;
    for (const message of this.#waiting.splice(0)) tellTail(tail, message);
  }
}

const tellTail = (tail: WalTail, message: FromKeeper): void => {
  if (message.type === 'begun') tail.generationBegun(message.generation, message);
  else if (message.type === 'generation') tail.generationEnded(message.generation, message.lastFrame);
  else if (message.type === 'spooled') tail.framesSpooled(message);
};

interface Begun {
  readonly replica: Replica;
  readonly position: Position;
  readonly generation: number;
  readonly beginning: Beginning;
  readonly continuation: ReturnType<typeof findContinuation>;
}

const takeFirstState = async (options: SessionOptions, ready: Ready, epoch: number): Promise<Begun> => {
  const { capture, log, captured } = options;
  const place: SnapshotPlace = ready;
  using snapshot = HiveSnapshot.open(capture.hive, place);
  const batchId = 1;
  const mirror = await retryWhileFull(() => mirrorSnapshot(snapshot, mirrorOptions(options, snapshot.header.pageSize), batchId), options);
  const replica = await readReplica(mirror, { captured, known: null, firstVersion: 1, spill: options.spill });
  const position = positionAt(ready, snapshot, epoch);
  const { catalog } = replica.schema;
  await retryWhileFull(
    () =>
      log.append({
        batchId,
        position,
        sizePages: mirror.sizePages,
        catalogVersion: catalog.version,
        catalogs: [catalog],
        transactions: new TransactionBatch(),
      }),
    options,
  );
  return { replica, position, generation: 1, beginning: 'first', continuation: null };
};

/** From the log's position: transaction by transaction if every frame since can be had, else by comparing. */
const goOn = async (options: SessionOptions, ready: Ready, position: Position): Promise<Begun> => {
  const { capture, log } = options;
  const replica = options.replica ?? (await openReplica(options));
  if (!(replica instanceof Replica)) {
    const reason = `the mirror in ${join(capture.stateDir, 'mirror')} cannot be used: ${replica.invalid}`;
    if (capture.onGap === 'fail') throw new WaggleError('STATE_CORRUPT', reason);
    options.warn(new WaggleError('STATE_CORRUPT', reason, { hint: 'Nothing to do: waggle takes a new snapshot, and sinks are filled again.' }));
    log.reset();
    return takeFirstState(options, ready, position.epoch + 1);
  }
  const here = options.replica === null ? await applyFilter(options, replica, position) : position;
  const continuation = findContinuation(here, ready);
  if (continuation !== null && (continuation.generation < 1 || standsInWal(capture.hive, replica.mirror.pageSize, here)))
    return { replica, position: here, generation: continuation.generation, beginning: 'resumed', continuation };
  try {
    return await recover(options, ready, replica, here.epoch + 1);
  } catch (error) {
    // It may know of a batch that did not reach the log.
    await replica.mirror[Symbol.asyncDispose]();
    throw error;
  }
};

/**
 * Tables that the configuration captures or leaves out since the last start, as one transaction that no commit stands behind: it is
 * marked `recovered` and has an epoch of its own. Returns the position behind it.
 */
const applyFilter = async (options: SessionOptions, replica: Replica, position: Position): Promise<Position> => {
  const { log, captured } = options;
  const refiltered = replica.refilter(captured);
  if (refiltered === null) return position;
  const { mirror } = replica;
  const batchId = log.state()!.batchId + 1;
  const moved = { ...position, epoch: position.epoch + 1 };
  const { schema, previous, changes } = refiltered;
  const transaction: LogTransaction = {
    epoch: moved.epoch,
    frame: moved.frame,
    timestampUs: nowUs(),
    origin: null,
    recovered: true,
    changeCount: changes.count,
    parts: joined(changes.parts()),
    catalogVersion: schema.catalog.version,
    previousCatalogVersion: previous.catalog.version,
  };
  try {
    await retryWhileFull(() => mirror.commit(batchId), options);
    await retryWhileFull(
      () =>
        log.append({
          batchId,
          position: moved,
          sizePages: mirror.sizePages,
          catalogVersion: schema.catalog.version,
          catalogs: [schema.catalog],
          transactions: TransactionBatch.of(transaction),
        }),
      options,
    );
  } catch (error) {
    await mirror[Symbol.asyncDispose]();
    throw error;
  }
  options.spill.clear();
  return moved;
};

/** The live WAL still holds the position's frame, with its checksum: salts alone can come back with another history. */
const standsInWal = (hive: string, pageSize: number, position: Position): boolean => {
  if (position.frame === 0) return true;
  using wal = WalFile.open(hive, pageSize);
  const head = Buffer.alloc(FRAME_HEADER_BYTES);
  if (wal?.readFrameHeader(position.frame, head) !== true) return false;
  return [position.salt1, position.salt2, position.checksum1, position.checksum2].every((word, index) => head.readUInt32BE(8 + index * 4) === word);
};

const openReplica = async (options: SessionOptions): Promise<Replica | { invalid: string }> => {
  const { log, captured, capture } = options;
  const state = log.state()!;
  const known = log.catalog(state.catalogVersion);
  if (known === null) return { invalid: 'the log does not have its catalog' };
  const pageSize = Mirror.pageSizeOf(join(capture.stateDir, 'mirror'));
  if (pageSize === null) return { invalid: 'there is no mirror, or its state cannot be read' };
  const mirror = await retryWhileFull(() => Mirror.open(mirrorOptions(options, pageSize), state.batchId), options);
  return mirror instanceof Mirror ? readReplica(mirror, { captured, known, firstVersion: known.version, spill: options.spill }) : mirror;
};

/** Closes the mirror where it cannot be read. */
const readReplica = async (mirror: Mirror, options: ReplicaOptions): Promise<Replica> => {
  try {
    return Replica.read(mirror, options);
  } catch (error) {
    await mirror[Symbol.asyncDispose]();
    throw error;
  }
};

/** The net effect of what nobody saw, as one transaction marked `recovered`. */
const recover = async (options: SessionOptions, ready: Ready, replica: Replica, epoch: number): Promise<Begun> => {
  const { log } = options;
  using snapshot = HiveSnapshot.open(options.capture.hive, ready);
  const { mirror } = replica;
  const set = findChangedPages(mirror, snapshot);
  const { changes, schema, previous } = replica.apply(set);
  const batchId = log.state()!.batchId + 1;
  const position = positionAt(ready, snapshot, epoch);
  await retryWhileFull(() => mirror.commitLarge(batchId, set.pages, set.image, set.sizePages), options);
  const transaction: LogTransaction = {
    epoch,
    frame: position.frame,
    timestampUs: nowUs(),
    origin: null,
    recovered: true,
    changeCount: changes.count,
    parts: joined(changes.parts()),
    catalogVersion: schema.catalog.version,
    previousCatalogVersion: previous.catalog.version,
  };
  const catalogs = schema === previous ? [] : [schema.catalog];
  await retryWhileFull(
    () =>
      log.append({
        batchId,
        position,
        sizePages: set.sizePages,
        catalogVersion: schema.catalog.version,
        catalogs,
        transactions: TransactionBatch.of(transaction),
      }),
    options,
  );
  options.spill.clear();
  await retryWhileFull(() => mirror.afterLogCommit(), options);
  // A comparison that found nothing is nothing to tell of.
  return { replica, position, generation: 1, beginning: changes.count > 0 ? 'recovered' : 'resumed', continuation: null };
};

const mirrorOptions = ({ capture, log }: SessionOptions, pageSize: number): MirrorOptions => ({
  directory: join(capture.stateDir, 'mirror'),
  pageSize,
  durability: capture.durability,
  makeLogDurable: () => log.sync(),
  ...(capture.foldBytes === undefined ? {} : { foldBytes: capture.foldBytes }),
});

const positionAt = (ready: Ready, snapshot: HiveSnapshot, epoch: number): Position => {
  if (ready.mxFrame === 0) return { epoch, frame: 0, salt1: 0, salt2: 0, checksum1: 0, checksum2: 0 };
  return { epoch, frame: ready.mxFrame, salt1: ready.salt1, salt2: ready.salt2, checksum1: snapshot.checksum1, checksum2: snapshot.checksum2 };
};

const nowUs = (): number => Math.round((performance.timeOrigin + performance.now()) * 1000);

/** The log keeps the single part of a small transaction inline. */
const joined = (parts: readonly Part[]): readonly Part[] => {
  if (parts.length < 2) return parts;
  const bytes = parts.reduce((sum, part) => sum + part.length, 0);
  return bytes <= PART_BYTES ? [Buffer.concat(parts.map(partBytes))] : parts;
};

const nextTurn = (delayMs: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, delayMs));
