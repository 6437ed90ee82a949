/**
 * How a session begins: with a first state, where the log stands, or by comparing hive and mirror. Whatever it is, the keeper
 * holds its pin meanwhile.
 */
import type { Position } from '../change/change.ts';
import type { TransactionChanges } from '../diff/transaction-diff.ts';
import { HiveSnapshot } from '../hive/hive-snapshot.ts';
import type { StartNote } from '../keeper/protocol.ts';
import { TransactionBatch } from '../log/transaction-batch.ts';
import { Mirror, type MirrorOptions } from '../mirror/mirror.ts';
import { WaggleError } from '../support/errors.ts';
import { findContinuation, type Ready } from './continuation.ts';
import { recoveredTransaction } from './log-transaction.ts';
import type { Beginning } from './protocol.ts';
import { mirrorDirectory, nextMirrorDirectory, settleExchange } from './mirror-exchange.ts';
import { faultOf, findChangedPages, hasSameFormat, mirrorSnapshot, requirePages } from './recovery.ts';
import { Replica, type ReplicaOptions } from './replica.ts';
import { retryWhileFull } from './retry-while-full.ts';
import type { SessionOptions } from './session-options.ts';

export interface Begun {
  readonly replica: Replica;
  readonly position: Position;
  readonly generation: number;
  readonly beginning: Beginning;
  readonly continuation: ReturnType<typeof findContinuation>;
}

/** The hive as the keeper holds it: the mirror and the position, no changes. */
export const takeFirstState = async (options: SessionOptions, ready: Ready, epoch: number): Promise<Begun> => {
  const { capture, log, captured } = options;
  using snapshot = HiveSnapshot.open(capture.hive, ready);
  const batchId = 1;
  const mirror = await retryWhileFull(() => mirrorSnapshot(snapshot, mirrorOptions(options, snapshot.header.pageSize), batchId), options);
  const replica = await readReplica(mirror, { captured, known: null, firstVersion: 1, spill: options.spill, deleteAll: capture.deleteAll }, snapshot);
  // Only now that a new beginning is there.
  if (log.state() !== null) log.reset();
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
        clean: startNote(ready),
      }),
    options,
  );
  return { replica, position, generation: 1, beginning: 'first', continuation: null };
};

/** From the log's position: transaction by transaction if every frame since can be had, else by comparing. */
export const goOn = async (options: SessionOptions, ready: Ready, position: Position): Promise<Begun> => {
  const { log } = options;
  const replica = options.replica ?? (await openReplica(options));
  if (!(replica instanceof Replica)) return beginAnew(options, ready, position, replica.invalid);
  const here = options.replica === null ? await applyFilter(options, replica, position) : position;
  const continuation = options.compare ? null : findContinuation(here, ready, readStartNote(log.state()?.clean ?? null));
  if (continuation !== null) return { replica, position: here, generation: continuation.generation, beginning: 'resumed', continuation };
  let invalid: string | null;
  try {
    return await recover(options, ready, replica, here.epoch + 1);
  } catch (error) {
    invalid = isCorrupt(error) ? faultOf(replica) : null;
    // It may know of a batch that did not reach the log.
    await replica.mirror[Symbol.asyncDispose]();
    if (invalid === null) throw error;
  }
  return beginAnew(options, ready, here, invalid);
};

/** Without a mirror nobody can tell what changed: a new log, a new first state. Throws STATE_CORRUPT where that is not wanted. */
const beginAnew = async (options: SessionOptions, ready: Ready, position: Position, invalid: string): Promise<Begun> => {
  const { capture, warn } = options;
  const reason = `the mirror in ${mirrorDirectory(capture.stateDir)} cannot be used: ${invalid}`;
  if (capture.onGap === 'fail') throw new WaggleError('STATE_CORRUPT', reason);
  warn(new WaggleError('STATE_CORRUPT', reason, { hint: 'Nothing to do: waggle takes a new snapshot, and sinks are filled again.' }));
  return takeFirstState(options, ready, position.epoch + 1);
};

const isCorrupt = (error: unknown): error is WaggleError => error instanceof WaggleError && error.code === 'HIVE_CORRUPT';

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
  const { schema } = refiltered;
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
          transactions: TransactionBatch.of(recoveredTransaction(moved, refiltered)),
          clean: log.state()!.clean,
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

const openReplica = async (options: SessionOptions): Promise<Replica | { invalid: string }> => {
  const { log, captured, capture } = options;
  const state = log.state()!;
  const known = log.catalog(state.catalogVersion);
  if (known === null) return { invalid: 'the log does not have its catalog' };
  settleExchange(capture.stateDir, state.batchId);
  const pageSize = Mirror.pageSizeOf(mirrorDirectory(capture.stateDir));
  if (pageSize === null) return { invalid: 'there is no mirror, or its state cannot be read' };
  const mirror = await retryWhileFull(() => Mirror.open(mirrorOptions(options, pageSize), state.batchId), options);
  if (!(mirror instanceof Mirror)) return mirror;
  try {
    return await readReplica(mirror, { captured, known, firstVersion: known.version, spill: options.spill, deleteAll: capture.deleteAll });
  } catch (error) {
    // What could be read when it was written: the hive is not to blame.
    if (error instanceof WaggleError && MIRROR_FAULTS.has(error.code)) return { invalid: error.message };
    throw error;
  }
};

const MIRROR_FAULTS: ReadonlySet<string> = new Set(['HIVE_CORRUPT', 'STATE_CORRUPT', 'CATALOG_UNREADABLE']);

/** Closes the mirror where it cannot be read. `snapshot`: what it was made of just now. */
const readReplica = async (mirror: Mirror, options: ReplicaOptions, snapshot: HiveSnapshot | null = null): Promise<Replica> => {
  try {
    const replica = Replica.read(mirror, options);
    if (snapshot !== null) requirePages(replica.map, snapshot);
    return replica;
  } catch (error) {
    await mirror[Symbol.asyncDispose]();
    throw error;
  }
};

/** The net effect of what nobody saw, as one transaction marked `recovered`. */
const recover = async (options: SessionOptions, ready: Ready, replica: Replica, epoch: number): Promise<Begun> => {
  const { log } = options;
  using snapshot = HiveSnapshot.open(options.capture.hive, ready);
  if (!hasSameFormat(replica, snapshot)) return recoverFormat(options, ready, replica, snapshot, epoch);
  const { mirror } = replica;
  const set = findChangedPages(mirror, snapshot);
  const applied = replica.apply(set);
  requirePages(replica.map, snapshot);
  const batchId = log.state()!.batchId + 1;
  const position = positionAt(ready, snapshot, epoch);
  await retryWhileFull(() => mirror.commitLarge(batchId, set.pages, set.image, set.sizePages), options);
  await appendRecovered(options, ready, { batchId, position, sizePages: set.sizePages }, applied);
  options.spill.clear();
  await retryWhileFull(() => mirror.afterLogCommit(), options);
  // A comparison that found nothing is nothing to tell of.
  return { replica, position, generation: 1, beginning: applied.changes.count > 0 ? 'recovered' : 'resumed', continuation: null };
};

/** The same where page size or reserved bytes are other ones: tables are compared row by row, and the mirror is a new one. */
const recoverFormat = async (options: SessionOptions, ready: Ready, replica: Replica, snapshot: HiveSnapshot, epoch: number): Promise<Begun> => {
  const { log, captured, capture, spill } = options;
  const batchId = log.state()!.batchId + 1;
  const position = positionAt(ready, snapshot, epoch);
  const directory = nextMirrorDirectory(capture.stateDir);
  const mirror = await retryWhileFull(
    () => mirrorSnapshot(snapshot, { ...mirrorOptions(options, snapshot.header.pageSize), directory }, batchId),
    options,
  );
  let count: number;
  try {
    const compared = replica.compareWith(mirror, captured, spill);
    count = compared.changes.count;
    await appendRecovered(options, ready, { batchId, position, sizePages: mirror.sizePages }, compared);
  } finally {
    await mirror[Symbol.asyncDispose]();
  }
  spill.clear();
  await replica.mirror[Symbol.asyncDispose]();
  const exchanged = await openReplica(options);
  if (!(exchanged instanceof Replica)) throw new WaggleError('STATE_CORRUPT', `the new mirror cannot be used: ${exchanged.invalid}`);
  return { replica: exchanged, position, generation: 1, beginning: count > 0 ? 'recovered' : 'resumed', continuation: null };
};

const appendRecovered = async (
  { log, ...options }: SessionOptions,
  ready: Ready,
  { batchId, position, sizePages }: { batchId: number; position: Position; sizePages: number },
  changes: TransactionChanges,
): Promise<void> => {
  const { schema, previous } = changes;
  const catalogs = schema === previous ? [] : [schema.catalog];
  const transactions = TransactionBatch.of(recoveredTransaction(position, changes));
  const { version } = schema.catalog;
  await retryWhileFull(
    () => log.append({ batchId, position, sizePages, catalogVersion: version, catalogs, transactions, clean: startNote(ready) }),
    options,
  );
};

const mirrorOptions = ({ capture, log }: SessionOptions, pageSize: number): MirrorOptions => ({
  directory: mirrorDirectory(capture.stateDir),
  pageSize,
  durability: capture.durability,
  makeLogDurable: () => log.sync(),
  ...(capture.foldBytes === undefined ? {} : { foldBytes: capture.foldBytes }),
});

const positionAt = (ready: Ready, snapshot: HiveSnapshot, epoch: number): Position => {
  if (ready.mxFrame === 0) return { epoch, frame: 0, salt1: 0, salt2: 0, checksum1: 0, checksum2: 0 };
  return { epoch, frame: ready.mxFrame, salt1: ready.salt1, salt2: ready.salt2, checksum1: snapshot.checksum1, checksum2: snapshot.checksum2 };
};

/** What proves a position at frame 0 to the next start; at any other the frames themselves do. */
const startNote = ({ mxFrame, keeper, number, print }: Ready): string | null => {
  if (mxFrame > 0) return null;
  const note: StartNote = { keeper, generation: number, print };
  return JSON.stringify(note);
};

export const readStartNote = (clean: string | null): StartNote | null => (clean === null ? null : (JSON.parse(clean) as StartNote));
