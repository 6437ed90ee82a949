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
 * What it guarantees is in `PinPair` and `Ledger`; this class only decides when.
 */
import type { WalIndexHeader } from '../sqlite/wal-index.ts';
import { FRAME_HEADER_BYTES } from '../sqlite/wal.ts';
import { WaggleError } from '../support/errors.ts';
import { BarrierHandOver } from './barrier-hand-over.ts';
import { openHive, type Opened } from './first-pin.ts';
import { samePrint, type Fingerprint } from './hive-files.ts';
import { writeLedgerFile } from './ledger-file.ts';
import type { FromKeeper, KeeperOptions, KeeperStats, ToKeeper } from './protocol.ts';
import { sleepMs } from './sleep.ts';
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
/** A checkpoint that somebody's reader stopped is not tried again before. */
const STUCK_MS = 50;
const IDENTITY_MS = 500;
const STATS_MS = 1000;
const END_PATIENCE_MS = 200;
const END_QUIET_MS = 40;

export class Keeper {
  readonly #options: KeeperOptions;
  readonly #send: (message: FromKeeper) => void;
  readonly #hive: Opened;
  readonly #handOver: BarrierHandOver;
  readonly #frameBytes: number;
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
  #statsAt = 0;
  #statsSent = '';

  /** Opens the hive, takes the first pin and sends `ready`. Throws HIVE_… errors. */
  constructor(options: KeeperOptions, send: (message: FromKeeper) => void) {
    this.#options = options;
    let early: FromKeeper[] | null = [];
    this.#send = (message) => void (early === null ? send(message) : early.push(message));
    this.#hive = openHive(options, {
      ended: (generation, lastFrame) => this.#ended(generation, lastFrame),
      begun: (generation, salts) => this.#begun(generation, salts),
      spooled: ({ firstFrame, lastFrame, path }, generation) => this.#send({ type: 'spooled', generation, firstFrame, lastFrame, path }),
      stuck: (error) => this.#send({ type: 'warning', error: error.toJSON() }),
    });
    const { pins, leftover, previous, proven, ledger, files } = this.#hive;
    this.#frameBytes = files.pageSize + FRAME_HEADER_BYTES;
    this.#handOver = new BarrierHandOver(this.#hive, { maxWalBytes: options.maxWalBytes, frameBytes: this.#frameBytes });
    this.#lastSeen = pins.at;
    this.#lastFrameAt = performance.now();
    if (ledger.salts !== null) this.#writeLedger();
    const { salt1, salt2, mxFrame } = pins.at;
    send({ type: 'ready', pid: process.pid, salt1, salt2, mxFrame, complete: pins.slot === 'zero', proven, leftover, previous });
    for (const message of early) send(message);
    early = null;
  }

  receive(message: Exclude<ToKeeper, { type: 'stop' }>): void {
    switch (message.type) {
      case 'drained':
        this.#hive.spooler.drained(message.generation, message.frame);
        return;
      case 'hold':
        this.#isHoldWanted = true;
        return;
      case 'release':
        this.#isHeld = false;
        this.#isHoldWanted = false;
    }
  }

  /**
   * Does what is due and gives the milliseconds until it wants to be called again. Throws PIN_LOST or HIVE_REPLACED: then
   * the process must end without closing its connections.
   */
  tick(): number {
    const now = performance.now();
    const header = this.#hive.observe();
    if (header === null) return this.#torn(now);
    this.#tornSince = null;
    if (header.mxFrame !== this.#lastSeen.mxFrame || header.salt1 !== this.#lastSeen.salt1 || header.salt2 !== this.#lastSeen.salt2)
      this.#lastFrameAt = now;
    this.#lastSeen = header;
    const quietMs = now - this.#lastFrameAt;
    if (now >= this.#identityNotBefore) this.#checkIdentity(now);
    if (this.#isHoldWanted) this.#hold(header);
    if (!this.#isHeld) this.#work(header, quietMs, now);
    this.#noteFrozen();
    if (this.#untouchedWanted && quietMs > 50) this.#writeLedger();
    this.#sendStats(now);
    return this.#delay(header, quietMs);
  }

  /** True when nothing will happen until somebody writes, so that a change notice is the best wake-up. */
  get isQuiet(): boolean {
    return performance.now() - this.#lastFrameAt > 100;
  }

  /**
   * Orderly end: spools what capture has not taken and closes the connections (the last one to close deletes the WAL). If
   * the application is silent, everything is put into the database file before. True if that was possible and the next
   * keeper can prove it. If frames could not be made safe the connections stay open, and the process must be killed
   * rather than exit: closing as the last one would delete them.
   */
  end(): boolean {
    const { files, checkpointer, barrier, pinConnections, pins, spooler, observe } = this.#hive;
    if (files.findReplaced() !== null) return false;
    let isPrinted = false;
    const start = performance.now();
    let lastFrameAt = this.#lastFrameAt;
    while (!isPrinted && performance.now() - start < END_PATIENCE_MS) {
      const header = observe();
      const now = performance.now();
      if (header === null || !spooler.spoolTo(header.mxFrame, Infinity)) break;
      if (header.mxFrame !== this.#lastSeen.mxFrame || header.salt1 !== this.#lastSeen.salt1) lastFrameAt = now;
      this.#lastSeen = header;
      // While the application writes, its WAL is left as it is: a restart then goes on in the same generation.
      if (now - lastFrameAt >= END_QUIET_MS) {
        if (header.backfill < header.mxFrame && pins.move() === 'moved') checkpointer.passive();
        else if (pins.slot !== 'zero' || pins.isOld(header)) pins.move();
        else if (header.mxFrame > 0) checkpointer.truncate();
        observe();
        if (pins.slot === 'zero') isPrinted = this.#writeLedger();
      }
      if (!isPrinted) sleepMs(2);
    }
    const print = files.fingerprint();
    const last = observe();
    if (last === null || !spooler.spoolTo(last.mxFrame, Infinity)) return false;
    for (const connection of [barrier, checkpointer]) connection.close();
    for (const pin of pinConnections) {
      pin.end();
      pin.close();
    }
    return isPrinted && last.mxFrame === last.backfill && samePrint(print, files.fingerprint());
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
      const isLate = quietMs >= SPOOL_PATIENCE_MS || current.mxFrame * this.#frameBytes >= SPOOL_FROM * this.#options.maxWalBytes;
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
    const { pins, ledger } = this.#hive;
    if (!this.#isHeld) {
      if (pins.slot === 'unknown' || (pins.slot === 'zero' && header.mxFrame > header.backfill)) {
        if (pins.move() !== 'moved' || pins.slot === 'unknown') return;
      } else if (pins.slot === 'mark' && pins.isOld(header)) pins.move();
    }
    this.#isHoldWanted = false;
    this.#isHeld = true;
    // After a reset the pin still stands on slot 0 of the generation before: nothing of the new one is in the file.
    const { at } = pins;
    const isBefore = at.mxFrame > 0 && (ledger.salts === null || at.salt1 !== ledger.salts.salt1 || at.salt2 !== ledger.salts.salt2);
    const { salt1, salt2, sizePages } = at;
    this.#send({
      type: 'snapshot',
      generation: ledger.generation,
      salt1,
      salt2,
      mxFrame: isBefore ? 0 : at.mxFrame,
      sizePages,
      complete: pins.slot === 'zero',
    });
  }

  #torn(now: number): number {
    this.#tornSince ??= now;
    if (now - this.#tornSince > PAUSE_MS) this.#hive.pins.repair();
    return 1;
  }

  #checkIdentity(now: number): void {
    this.#identityNotBefore = now + IDENTITY_MS;
    const replaced = this.#hive.files.findReplaced();
    if (replaced !== null) throw new WaggleError('HIVE_REPLACED', `${replaced} was replaced or removed`);
    const { pins, files } = this.#hive;
    if (pins.slot === 'zero' && this.#frozen?.freezes === pins.freezes && !samePrint(this.#frozen.print, files.print()))
      throw new WaggleError('HIVE_REPLACED', `${files.path} was overwritten in place`);
  }

  /** While the pin is on slot 0 no checkpoint writes to the database file; whoever does has copied another one over it. */
  #noteFrozen(): void {
    const { pins, files } = this.#hive;
    if (pins.slot === 'zero' && this.#frozen?.freezes !== pins.freezes) this.#frozen = { freezes: pins.freezes, print: files.print() };
  }

  // --- what is told --------------------------------------------------------------------------------------------

  #ended(generation: number, lastFrame: number): void {
    this.#send({ type: 'generation', generation, lastFrame });
    this.#writeLedger();
  }

  #begun(generation: number, { salt1, salt2 }: Salts): void {
    this.#send({ type: 'begun', generation, salt1, salt2 });
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
    writeLedgerFile(this.#options.spoolDir, { current: salts, previous, untouched }, { durable: this.#options.durable === true });
    return untouched !== null;
  }

  get stats(): KeeperStats {
    const handOver = this.#handOver;
    return {
      handOvers: this.#handOvers + handOver.handOvers,
      truncates: this.#truncates,
      barriers: handOver.barriers,
      barrierMsMax: handOver.barrierMsMax,
      barrierMsTotal: handOver.barrierMsTotal,
      barrierMisses: handOver.misses,
      stolen: handOver.stolen,
      spooledBytes: this.#hive.spooler.spooledBytes,
      walFrames: this.#lastSeen.mxFrame,
    };
  }

  #sendStats(now: number): void {
    if (now < this.#statsAt) return;
    this.#statsAt = now + STATS_MS;
    const { stats } = this;
    const text = JSON.stringify(stats);
    if (text === this.#statsSent) return;
    this.#statsSent = text;
    this.#send({ type: 'stats', stats });
  }

  /** 1 ms while frames come; slower and slower afterwards. 0: once the messages that are there were read. */
  #delay(header: WalIndexHeader, quietMs: number): number {
    if (this.#isHurried) return 0;
    if (quietMs < 100) return 1;
    const isSettled = this.#hive.pins.slot === 'zero' && header.mxFrame === 0;
    return Math.min(isSettled ? 100 : 20, Math.ceil(quietMs / 50));
  }
}
