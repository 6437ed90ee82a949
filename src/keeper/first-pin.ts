/**
 * Opens the hive and takes the first pin, such that capture loses nothing of what it has not taken (`KeeperOptions.taken`).
 *
 * The first pin may land on slot 0; one commit later the WAL is reset. So it is taken behind a barrier, and the frames
 * that capture still needs are spooled before the barrier falls. If the barrier cannot be had in time, the same is done
 * without: frames that were read are sound if the salts of the wal-index are still the same afterwards, because a reset
 * changes the wal-index before it overwrites the first frame.
 */
import { unlinkSync } from 'node:fs';
import type { WalIndexHeader } from '../sqlite/wal-index.ts';
import { WaggleError, systemErrorCode } from '../support/errors.ts';
import { Barrier, Checkpointer, Pin } from './connections.ts';
import { HiveFiles, asHiveError } from './hive-files.ts';
import { Ledger, type LedgerListener } from './ledger.ts';
import { findPrevious, readLedgerFile, type Dropped } from './ledger-file.ts';
import { PinPair, slotOf } from './pin-pair.ts';
import type { KeeperOptions } from './protocol.ts';
import { listSpoolSegments, type EndedGeneration, type SpoolSegment } from './spool.ts';
import { Spooler } from './spooler.ts';
import { sleepMs } from './sleep.ts';

const LOCKED_PATIENCE_MS = 3000;
const BARRIER_PATIENCE_MS = 60;
const TORN_PATIENCE_MS = 1000;
/** A commit writes both copies of the header within a microsecond or so. */
const SETTLE_MS = 0.3;

export interface Opened {
  readonly files: HiveFiles;
  readonly checkpointer: Checkpointer;
  readonly barrier: Barrier;
  readonly pinConnections: readonly [Pin, Pin];
  readonly ledger: Ledger;
  readonly spooler: Spooler;
  readonly pins: PinPair;
  readonly proven: boolean;
  /** The keeper before let go of the hive by itself. */
  readonly dropped: Dropped | null;
  /** A valid header of this moment, noted in the ledger; null if it stays torn. */
  observe(): WalIndexHeader | null;
}

export interface OpenListener extends LedgerListener {
  spooled(segment: SpoolSegment, generation: number): void;
  stuck(error: WaggleError): void;
  spoolLimitBytes(): number;
  isSpoolDurable(): boolean;
}

/** Throws HIVE_… errors. Nothing of the hive is changed, and no file made beside one that is not in WAL mode. */
export const openHive = (options: KeeperOptions, listener: OpenListener): Opened => {
  const { hive, spoolDir } = options;
  const segments = listSound(spoolDir);
  const files = HiveFiles.open(hive);
  try {
    const checkpointer = new Checkpointer(hive, (error) => listener.stuck(asCheckpointError(hive, error)));
    touchPatiently(checkpointer);
    files.openSideFiles();
    const pinConnections: readonly [Pin, Pin] = [new Pin(hive), new Pin(hive)];
    const barrier = new Barrier(hive);
    return { files, checkpointer, barrier, pinConnections, ...takeFirstPin({ options, listener, files, barrier, pinConnections, segments }) };
  } catch (error) {
    throw asHiveError(hive, error);
  }
};

/** Segments that can be used; the others are removed. */
const listSound = (spoolDir: string): SpoolSegment[] => {
  try {
    const { segments, damaged } = listSpoolSegments(spoolDir);
    for (const path of damaged) unlinkSync(path);
    return segments;
  } catch (error) {
    throw new WaggleError('STATE_UNUSABLE', `cannot read the spool in ${spoolDir}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
};

const asCheckpointError = (path: string, error: unknown): WaggleError =>
  systemErrorCode(error) === 'SQLITE_FULL'
    ? new WaggleError('DISK_FULL', `no space left to checkpoint ${path}`, { cause: error })
    : new WaggleError('HIVE_CORRUPT', `a checkpoint of ${path} failed: ${error instanceof Error ? error.message : String(error)}`, { cause: error });

/** The application's last close, a recovery or an exclusive checkpoint lock the file for a moment. */
const touchPatiently = (checkpointer: Checkpointer): void => {
  const deadline = performance.now() + LOCKED_PATIENCE_MS;
  while (true) {
    try {
      checkpointer.touch();
      return;
    } catch (error) {
      if (asHiveError('', error).code !== 'HIVE_LOCKED' || performance.now() > deadline) throw error;
      sleepMs(20);
    }
  }
};

/** A valid header, or null if it stays torn for longer than any commit takes. */
export const readSettled = (files: HiveFiles): WalIndexHeader | null => {
  let state = files.readHeader();
  if (typeof state === 'object') return state;
  const deadline = performance.now() + SETTLE_MS;
  while (performance.now() < deadline) {
    state = files.readHeader();
    if (typeof state === 'object') return state;
  }
  return null;
};

interface FirstPinOptions {
  readonly options: KeeperOptions;
  readonly listener: OpenListener;
  readonly files: HiveFiles;
  readonly barrier: Barrier;
  readonly pinConnections: readonly [Pin, Pin];
  readonly segments: readonly SpoolSegment[];
}

const takeFirstPin = (given: FirstPinOptions): Omit<Opened, 'files' | 'checkpointer' | 'barrier' | 'pinConnections'> => {
  const { options, listener, files, barrier, pinConnections, segments } = given;
  const hasBarrier = beginPatiently(barrier);
  try {
    const { before, after } = pinAndRead(pinConnections[0], files);
    const same = (salts: { readonly salt1: number; readonly salt2: number } | null): boolean =>
      salts !== null && after.mxFrame > 0 && salts.salt1 === after.salt1 && salts.salt2 === after.salt2;
    const record = readLedgerFile(options.spoolDir);
    const previous = findPrevious(record, after, files.fingerprint());
    const ledger = new Ledger(after, previous, listener);
    const related = same(options.taken) || segments.some(same) || isSame(previous, options.taken, segments);
    const spooler = new Spooler({
      dir: options.spoolDir,
      walFd: files.walFd,
      pageSize: files.pageSize,
      ledger,
      leftover: segments,
      drained: options.taken !== null && same(options.taken) ? options.taken.frame : 0,
      spooled: (segment, generation) => listener.spooled(segment, generation),
      stuck: (error) => listener.stuck(error),
      limitBytes: () => listener.spoolLimitBytes(),
      isDurable: () => listener.isSpoolDurable(),
    });
    const observe = (): WalIndexHeader | null => {
      const header = readSettled(files);
      if (header !== null) ledger.observe(header);
      return header;
    };
    let proven = true;
    if (slotOf(before, after) !== 'mark' && after.backfill > spooler.safe) {
      // Without a relation to what capture has, the database file itself is where it starts.
      if (related) proven = spooler.spoolTo(after.mxFrame, performance.now()) && isUnchanged(files, after);
      spooler.skip(after.backfill);
    }
    const pins = new PinPair({ pins: pinConnections, ledger, observe, safe: () => spooler.safe }, before, after);
    if (pins.slot === 'zero') ledger.arm(after.mxFrame);
    return { ledger, spooler, pins, proven, dropped: record?.dropped ?? null, observe };
  } finally {
    if (hasBarrier) barrier.end();
  }
};

const isSame = (previous: EndedGeneration | null, taken: KeeperOptions['taken'], segments: readonly SpoolSegment[]): boolean => {
  if (previous === null) return false;
  const last = segments.at(-1) ?? taken;
  return last !== null && last.salt1 === previous.salt1 && last.salt2 === previous.salt2;
};

const isUnchanged = (files: HiveFiles, header: WalIndexHeader): boolean => {
  const now = readSettled(files);
  return now !== null && now.salt1 === header.salt1 && now.salt2 === header.salt2;
};

const beginPatiently = (barrier: Barrier): boolean => {
  const deadline = performance.now() + BARRIER_PATIENCE_MS;
  while (!barrier.begin()) {
    if (performance.now() > deadline) return false;
    sleepMs(0.2);
  }
  return true;
};

/** Repeats until no reset falls between the two reads around the pin. */
const pinAndRead = (pin: Pin, files: HiveFiles): { before: WalIndexHeader; after: WalIndexHeader } => {
  const deadline = performance.now() + TORN_PATIENCE_MS;
  while (true) {
    const before = readSettled(files);
    const isPinned = pin.begin();
    const after = readSettled(files);
    if (isPinned && before !== null && after !== null && before.salt1 === after.salt1 && before.salt2 === after.salt2) return { before, after };
    pin.end();
    if (performance.now() > deadline) throw asHiveError('', Object.assign(new Error('no read transaction could be had'), { code: 'SQLITE_BUSY' }));
    sleepMs(1);
  }
};
