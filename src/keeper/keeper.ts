/**
 * The keeper's state machine. `tick` looks at the wal-index and does what is due, never waiting for the application.
 *
 *     held      pinned where it was when capture asked (or at the start); nothing is handed over until `release`
 *     pinned    on a read mark: the WAL grows, costs the writer nothing, and is not reset
 *     drained   everything stands in the database file, but capture has not taken all: wait for it a little, then spool
 *     armed     on slot 0, all frames safe: the next writer resets the WAL, once
 *     empty     armed, and the WAL was reset but has no frame yet
 *     left      armed, and there are frames above (new generation, or a commit that slipped in): move off slot 0
 *
 *     pinned ──pause: pin to the head, PASSIVE──► drained ──pin lands on slot 0──► armed ──reset──► empty ──frame──► left ──► pinned
 *
 * What it guarantees is in `PinPair` and `Ledger`; this class only decides when. Whether a daemon is attached changes nothing of
 * it: what nobody drains is spooled.
 */
import type { WalIndexHeader } from '../sqlite/wal-index.ts';
import { randomUUID } from 'node:crypto';
import { FRAME_HEADER_BYTES } from '../sqlite/wal.ts';
import { WaggleError } from '../support/errors.ts';
import { formatSize } from '../support/units.ts';
import { BarrierHandOver } from './barrier-hand-over.ts';
import { DaemonLink, type Send } from './daemon-link.ts';
import { endInOrder, standStill } from './ending.ts';
import { openHive, type Opened } from './first-pin.ts';
import { samePrint, type Fingerprint } from './hive-files.ts';
import { writeLedgerFile, type Dropped } from './ledger-file.ts';
import type { FromCapture, KeeperOptions, KeeperSettings, KeeperStats, KeeperStatus, Stopped, Taken, ToKeeper } from './protocol.ts';
import type { Salts } from './spool.ts';

/** No new frame for so long is a pause. */
const PAUSE_MS = 2;
/** From so many frames on a pause is used for a hand-over; below the 1000 of SQLite's auto-checkpoint. */
const HAND_OVER_FRAMES = 800;
/** After so long without a frame the WAL is emptied. */
const IDLE_MS = 1500;
/** So long capture may lag in a pause before the rest is spooled. */
const SPOOL_PATIENCE_MS = 8;
/** From so many times the allowed size of the WAL on it is not waited for at all. */
const SPOOL_FROM = 2;
/** Beside a daemon spool and WAL may hold so many times what the spool may hold without one. */
const ATTACHED_FACTOR = 2;
/** A checkpoint that somebody's reader stopped is not tried again before. */
const STUCK_MS = 50;
const IDENTITY_MS = 500;

type Attach = Extract<ToKeeper, { type: 'attach' }>;

export class Keeper {
  readonly id = randomUUID();
  readonly startedAtMs = Date.now();
  readonly #options: KeeperOptions;
  readonly #hive: Opened;
  #settings: KeeperSettings;
  readonly #daemon = new DaemonLink();
  /** A daemon that waits for `ready`. */
  #attaching: { readonly send: Send; readonly taken: Taken | null } | null = null;
  /** False: what the daemon of the start had taken could not be joined, and no daemon has dealt with that yet. */
  #isProven: boolean;
  readonly #handOver: BarrierHandOver;
  readonly #frameBytes: number;
  #dropped: Dropped | null = null;
  #isHeld = true;
  #isHoldWanted = false;
  #isHurried = false;
  #lastFrameAt: number;
  #lastSeen: WalIndexHeader;
  #passiveNotBefore = 0;
  #truncateNotBefore = 0;
  #identityNotBefore = 0;
  #tornSince: number | null = null;
  #untouchedWanted = false;
  #frozen: { readonly freezes: number; readonly print: Fingerprint } | null = null;
  #handOvers = 0;
  #truncates = 0;

  /** Opens the hive and takes the first pin. Throws HIVE_… errors. */
  constructor(options: KeeperOptions) {
    this.#options = options;
    this.#settings = options;
    this.#hive = openHive(options, {
      ended: (generation, lastFrame) => this.#ended(generation, lastFrame),
      begun: (generation, salts) => this.#begun(generation, salts),
      spooled: ({ firstFrame, lastFrame, path }, generation) => this.#daemon.tell(generation, { type: 'spooled', firstFrame, lastFrame, path }),
      stuck: (error) => this.#daemon.warn(error),
      spoolLimitBytes: () => this.#settings.spoolBytes,
      isSpoolDurable: () => this.#settings.durable,
    });
    const { pins, proven, dropped, ledger, files } = this.#hive;
    this.#frameBytes = files.pageSize + FRAME_HEADER_BYTES;
    this.#handOver = new BarrierHandOver(this.#hive, { maxWalBytes: () => this.#settings.maxWalBytes, frameBytes: this.#frameBytes });
    this.#lastSeen = pins.at;
    this.#lastFrameAt = performance.now();
    this.#isProven = proven;
    if (dropped !== null) this.#daemon.warn(toldLater(dropped));
    if (ledger.salts !== null) this.#writeLedger();
  }

  /** `ready` follows from `tick`, as soon as the pin stands where its place is known. */
  attach(send: Send, { settings, taken }: Pick<Attach, 'settings' | 'taken'>): void {
    this.#settings = settings;
    this.#attaching = { send, taken };
  }

  /** The daemon has gone, or has let go. */
  detach(): void {
    this.#daemon.detach();
    this.#attaching = null;
    this.#isHoldWanted = false;
    this.#isHeld = false;
  }

  receive(message: FromCapture): void {
    switch (message.type) {
      case 'drained':
        this.#hive.spooler.drained(this.#daemon.base + message.generation, message.frame);
        return;
      case 'hold':
        this.#isHoldWanted = true;
        return;
      case 'release':
        this.#isHeld = false;
        this.#isHoldWanted = false;
        // The daemon stands at the pin now, whatever was before.
        this.#isProven = true;
    }
  }

  /**
   * Does what is due and gives the milliseconds until it wants to be called again. Throws PIN_LOST or HIVE_REPLACED: then
   * the process must end without closing its connections.
   */
  tick(): number {
    try {
      return this.#tick();
    } catch (error) {
      // Half of another file reads as no database at all, one that was moved as one without rights: what happened to it is what is to be told.
      if (!(error instanceof WaggleError && (error.code === 'PIN_LOST' || error.code === 'HIVE_REPLACED'))) {
        this.#checkReplaced();
        this.#checkFrozen();
      }
      throw error;
    }
  }

  #tick(): number {
    const now = performance.now();
    const header = this.#hive.observe();
    if (header === null) return this.#torn(now);
    this.#tornSince = null;
    if (header.mxFrame !== this.#lastSeen.mxFrame || header.salt1 !== this.#lastSeen.salt1 || header.salt2 !== this.#lastSeen.salt2)
      this.#lastFrameAt = now;
    this.#lastSeen = header;
    const quietMs = now - this.#lastFrameAt;
    if (now >= this.#identityNotBefore) this.#checkIdentity(now);
    if (this.#attaching !== null) this.#answerAttach(header, this.#attaching);
    if (this.#isHoldWanted) this.#hold(header);
    if (!this.#isHeld) this.#work(header, quietMs, now);
    this.#noteFrozen();
    if (this.#untouchedWanted && quietMs > 50) this.#writeLedger();
    this.#daemon.stats(() => this.stats, now);
    return this.#delay(header, quietMs);
  }

  /** Why the pin must be dropped now rather than fill the application's disk or wait for ever; null: it need not. */
  get dropReason(): string | null {
    const { spooler } = this.#hive;
    const { spoolBytes, patienceMs } = this.#settings;
    if (this.#isHeld) return null;
    const unsafeBytes = (this.#lastSeen.mxFrame - spooler.safe) * this.#frameBytes;
    // One that is attached takes a large transaction out of the WAL sooner than the spool is written.
    const limitBytes = this.#daemon.isAttached ? ATTACHED_FACTOR * spoolBytes : spoolBytes;
    if ((spooler.isFull || spooler.isStuck) && spooler.heldBytes + unsafeBytes > limitBytes)
      return `the spool's limit of ${formatSize(spoolBytes)} is reached (keeper.spool)`;
    if (this.#attaching === null && this.#daemon.aloneMs > patienceMs)
      return `no daemon came for ${Math.round(patienceMs / 1000)} s (keeper.patience)`;
    return null;
  }

  /** The last act of a keeper that lets go of the hive by itself: ends in order, as far as that goes, and leaves a note. Gives what to tell. */
  drop(reason: string): WaggleError {
    const dropped = { atMs: Date.now(), reason };
    this.#dropped = dropped;
    this.#writeLedger();
    this.end();
    return new WaggleError('PIN_LOST', `the keeper lets go of the hive: ${reason}`);
  }

  /** Orderly end (`endInOrder`). */
  end(): Stopped {
    const stopped = endInOrder(this.#hive, {
      lastSeen: this.#lastSeen,
      lastFrameAt: this.#lastFrameAt,
      writeLedger: () => this.#writeLedger(),
    });
    return { ...stopped, generation: stopped.generation - this.#daemon.base };
  }

  /** Makes room for another keeper (`standStill`). Once it is true `tick` must not be called until it is to go on. */
  standStill(): boolean {
    return standStill(this.#hive, () => this.#writeLedger());
  }

  status(): KeeperStatus {
    const { ledger, spooler } = this.#hive;
    const spooled = spooler.segments.reduce((sum, { firstFrame, lastFrame }) => sum + lastFrame - firstFrame + 1, 0);
    return {
      pid: process.pid,
      startedAtMs: this.startedAtMs,
      attached: this.#daemon.isAttached,
      generation: ledger.generation,
      salt1: ledger.salts?.salt1 ?? null,
      salt2: ledger.salts?.salt2 ?? null,
      lastFrame: ledger.lastFrame,
      undrainedFrames: Math.max(0, ledger.lastFrame - spooler.safe) + spooled,
      spool: { bytes: spooler.heldBytes, limitBytes: this.#settings.spoolBytes },
      patienceLeftMs: this.#daemon.isAttached ? null : Math.max(0, this.#settings.patienceMs - this.#daemon.aloneMs),
      stats: this.stats,
    };
  }

  // --- what is due ---------------------------------------------------------------------------------------------

  #work(header: WalIndexHeader, quietMs: number, now: number): void {
    this.#isHurried = false;
    const { pins } = this.#hive;
    const isBacklogged = header.mxFrame > header.backfill;
    if (pins.slot !== 'mark' && isBacklogged) pins.move();
    else if (quietMs >= PAUSE_MS) this.#inPause(header, quietMs, now);
    else if (header.mxFrame > HAND_OVER_FRAMES) this.#isHurried = this.#handOver.run(header, now);
  }

  /**
   * A pause: the pin goes to the head, so that the application's own checkpoints get through; from HAND_OVER_FRAMES on
   * everything is backfilled, and if it is, the pin goes to slot 0.
   */
  #inPause(header: WalIndexHeader, quietMs: number, now: number): void {
    const { pins, checkpointer, observe, spooler, files } = this.#hive;
    let current: WalIndexHeader | null = header;
    const isIdle = quietMs >= IDLE_MS;
    if (header.backfill < header.mxFrame) {
      if (pins.isOld(header) && pins.move() !== 'moved') return;
      if ((header.mxFrame < HAND_OVER_FRAMES && !isIdle) || now < this.#passiveNotBefore) return;
      this.#checkIdentity(now);
      files.syncWal();
      checkpointer.passive();
      current = observe();
      if (current === null) return;
      // Still the same head: somebody's reader or checkpoint stands in the way.
      if (current.backfill < current.mxFrame && current.mxFrame === header.mxFrame) this.#passiveNotBefore = now + STUCK_MS;
      if (current.backfill < current.mxFrame) return;
    }
    if (pins.slot !== 'zero') {
      // A writer that was preempted looks like a pause too: then a capture that lags catches up more cheaply than the spool is written.
      const isLate = quietMs >= SPOOL_PATIENCE_MS || current.mxFrame * this.#frameBytes >= SPOOL_FROM * this.#settings.maxWalBytes;
      if (spooler.safe < current.mxFrame && !(isLate && spooler.spoolTo(current.mxFrame, now))) return;
      if (pins.move() === 'moved' && pins.at.mxFrame >= HAND_OVER_FRAMES) this.#handOvers++;
    } else if (pins.isOld(current)) {
      pins.move();
    } else if (isIdle && now >= this.#truncateNotBefore && (current.mxFrame > 0 || this.#hive.files.walSizeBytes() > 0)) {
      this.#truncateNotBefore = now + STUCK_MS * 4;
      this.#checkIdentity(now);
      checkpointer.truncate();
      if (observe()?.mxFrame === 0) this.#truncates++;
    }
  }

  /** Answers `hold` as soon as the pin stands where its place is known. */
  #hold(header: WalIndexHeader): void {
    if (!this.#isHeld && !this.#standAtPlace(header, false)) return;
    this.#isHoldWanted = false;
    this.#isHeld = true;
    const { ledger } = this.#hive;
    const { sizePages } = this.#hive.pins.at;
    this.#daemon.tell(ledger.generation, { type: 'snapshot', sizePages, ...this.#place() });
  }

  /** A daemon's position is never beyond the head of now: the pin must have got there. */
  #answerAttach(header: WalIndexHeader, { send, taken }: { send: Send; taken: Taken | null }): void {
    if (!this.#isHeld && !this.#standAtPlace(header, true)) return;
    const { ledger, spooler, files, observe } = this.#hive;
    const isLive = taken !== null && taken.frame > 0 && sameSalts(taken, ledger.salts) && taken.frame <= ledger.lastFrame;
    const checksum = isLive ? files.readChecksum(taken) : null;
    if (isLive && checksum === null) {
      // On slot 0 the WAL may have been reset in this moment: the next look finds it so.
      const { generation } = ledger;
      if (observe() === null || ledger.generation !== generation) return;
    }
    this.#attaching = null;
    this.#isHeld = true;
    const place = this.#place();
    this.#daemon.attach(send, ledger.generation, {
      type: 'ready',
      pid: process.pid,
      keeper: this.id,
      number: ledger.generation,
      taken: checksum,
      print: files.fingerprint(),
      proven: this.#isProven,
      leftover: spooler.segments,
      previous: ledger.previous,
      ...place,
    });
    if (place.mxFrame === 0 && ledger.salts !== null) this.#daemon.tell(ledger.generation, { type: 'begun', ...ledger.salts });
  }

  /** False: not yet. `atHead`: an older mark will not do. */
  #standAtPlace(header: WalIndexHeader, atHead: boolean): boolean {
    const { pins } = this.#hive;
    if (pins.slot === 'unknown' || (pins.slot === 'zero' && header.mxFrame > header.backfill))
      return pins.move() === 'moved' && pins.slot !== 'unknown';
    if (pins.slot === 'mark' && pins.isOld(header)) pins.move();
    return !atHead || pins.slot !== 'mark' || pins.at.mxFrame >= header.mxFrame;
  }

  /** Where the pin stands. After a reset it is still on slot 0 of the generation before: nothing of the new one is in the file. */
  #place(): { salt1: number; salt2: number; mxFrame: number; complete: boolean } {
    const { pins, ledger } = this.#hive;
    const { salt1, salt2, mxFrame } = pins.at;
    const isBefore = mxFrame > 0 && !sameSalts(pins.at, ledger.salts);
    return { salt1, salt2, mxFrame: isBefore ? 0 : mxFrame, complete: pins.slot === 'zero' };
  }

  #torn(now: number): number {
    this.#tornSince ??= now;
    if (now - this.#tornSince > PAUSE_MS) this.#hive.pins.repair();
    return 1;
  }

  #checkIdentity(now: number): void {
    this.#identityNotBefore = now + IDENTITY_MS;
    this.#checkReplaced();
    if (this.#hive.pins.slot === 'zero') this.#checkFrozen();
  }

  #checkReplaced(): void {
    const replaced = this.#hive.files.findReplaced();
    if (replaced !== null) throw new WaggleError('HIVE_REPLACED', `${replaced} was replaced or removed`);
  }

  #checkFrozen(): void {
    const { pins, files } = this.#hive;
    if (this.#frozen?.freezes === pins.freezes && !samePrint(this.#frozen.print, files.print()))
      throw new WaggleError('HIVE_REPLACED', `${files.path} was overwritten in place`);
  }

  /** While the pin is on slot 0 no checkpoint writes to the database file; whoever does has copied another one over it. */
  #noteFrozen(): void {
    const { pins, files } = this.#hive;
    if (pins.slot === 'zero' && this.#frozen?.freezes !== pins.freezes) this.#frozen = { freezes: pins.freezes, print: files.print() };
  }

  // --- what is told --------------------------------------------------------------------------------------------

  #ended(generation: number, lastFrame: number): void {
    this.#daemon.tell(generation, { type: 'generation', lastFrame });
    this.#writeLedger();
  }

  #begun(generation: number, { salt1, salt2 }: Salts): void {
    this.#daemon.tell(generation, { type: 'begun', salt1, salt2 });
    this.#writeLedger();
  }

  /** Gives whether the record also proves that the database file has everything and was not written since. */
  #writeLedger(): boolean {
    const { ledger, files, pins } = this.#hive;
    let untouched = null;
    let { previous, salts } = ledger;
    const { at } = pins;
    if (pins.slot === 'zero' && (salts === null || (at.salt1 === salts.salt1 && at.salt2 === salts.salt2 && at.mxFrame === ledger.lastFrame))) {
      untouched = files.fingerprint();
      this.#untouchedWanted = untouched === null;
      if (untouched !== null && salts !== null) {
        // Complete in the file although the WAL was not reset yet.
        previous = { ...salts, lastFrame: ledger.lastFrame };
        salts = null;
      }
    } else this.#untouchedWanted = false;
    writeLedgerFile(this.#options.spoolDir, { current: salts, previous, untouched, dropped: this.#dropped }, { durable: this.#settings.durable });
    return untouched !== null;
  }

  get stats(): KeeperStats {
    const handOver = this.#handOver;
    return {
      handOvers: this.#handOvers + handOver.handOvers,
      truncates: this.#truncates,
      barriers: handOver.barriers,
      barrierMs: handOver.barrierMs,
      barrierMisses: handOver.misses,
      stolen: handOver.stolen,
      spooledBytes: this.#hive.spooler.spooledBytes,
      walFrames: this.#lastSeen.mxFrame,
    };
  }

  /** 1 ms while frames come; slower and slower afterwards. 0: once the messages that are there were read. */
  #delay(header: WalIndexHeader, quietMs: number): number {
    if (this.#isHurried) return 0;
    if (quietMs < 100) return 1;
    // A change notice comes sooner than the next look, where there are notices; without them a writer only pays some microseconds a commit.
    const isSettled = this.#hive.pins.slot === 'zero' && header.mxFrame === 0;
    return Math.min(isSettled ? IDENTITY_MS : 20, Math.ceil(quietMs / 50));
  }
}

const sameSalts = (a: Salts, b: Salts | null): boolean => b !== null && a.salt1 === b.salt1 && a.salt2 === b.salt2;

const toldLater = ({ atMs, reason }: Dropped): WaggleError =>
  new WaggleError('PIN_LOST', `the keeper let go of the hive at ${new Date(atMs).toISOString()}: ${reason}`, {
    hint: 'What was committed after that comes as one recovered transaction, if the WAL was started over since.',
  });
