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
import { openHive, type Opened } from './first-pin.ts';
import { samePrint, type Fingerprint } from './hive-files.ts';
import { writeLedgerFile, type Dropped } from './ledger-file.ts';
import type { FromCapture, FromKeeper, KeeperOptions, KeeperSettings, KeeperStats, KeeperStatus, Stopped, Taken, ToKeeper } from './protocol.ts';
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

type Send = (message: FromKeeper) => void;
type Attach = Extract<ToKeeper, { type: 'attach' }>;

export class Keeper {
  readonly id = randomUUID();
  readonly startedAtMs = Date.now();
  readonly #options: KeeperOptions;
  readonly #hive: Opened;
  #settings: KeeperSettings;
  /** The attached daemon; its generation 1 is ours of number `base + 1`. `ready` was sent. */
  #client: { readonly send: Send; readonly base: number } | null = null;
  /** A daemon that waits for `ready`. */
  #attaching: { readonly send: Send; readonly taken: Taken | null } | null = null;
  #aloneSince: number;
  /** False: what the daemon of the start had taken could not be joined, and no daemon has dealt with that yet. */
  #isProven: boolean;
  /** What the next daemon must be told. */
  #untold: WaggleError[] = [];
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
  #statsAt = 0;
  #statsSent = '';

  /** Opens the hive and takes the first pin. Throws HIVE_… errors. */
  constructor(options: KeeperOptions) {
    this.#options = options;
    this.#settings = options;
    this.#hive = openHive(options, {
      ended: (generation, lastFrame) => this.#ended(generation, lastFrame),
      begun: (generation, salts) => this.#begun(generation, salts),
      spooled: ({ firstFrame, lastFrame, path }, generation) => this.#tell(generation, { type: 'spooled', firstFrame, lastFrame, path }),
      stuck: (error) => this.#warn(error),
      spoolLimitBytes: () => this.#settings.spoolBytes,
    });
    const { pins, proven, dropped, ledger, files } = this.#hive;
    this.#frameBytes = files.pageSize + FRAME_HEADER_BYTES;
    this.#handOver = new BarrierHandOver(this.#hive, { maxWalBytes: () => this.#settings.maxWalBytes, frameBytes: this.#frameBytes });
    this.#lastSeen = pins.at;
    this.#lastFrameAt = this.#aloneSince = performance.now();
    this.#isProven = proven;
    if (dropped !== null) this.#untold.push(toldLater(dropped));
    if (ledger.salts !== null) this.#writeLedger();
  }

  /** `ready` follows from `tick`, as soon as the pin stands where its place is known. */
  attach(send: Send, { settings, taken }: Pick<Attach, 'settings' | 'taken'>): void {
    this.#settings = settings;
    this.#attaching = { send, taken };
  }

  /** The daemon has gone, or has let go. */
  detach(): void {
    this.#client = null;
    this.#attaching = null;
    this.#isHoldWanted = false;
    this.#isHeld = false;
    this.#aloneSince = performance.now();
  }

  receive(message: FromCapture): void {
    const base = this.#client?.base ?? 0;
    switch (message.type) {
      case 'drained':
        this.#hive.spooler.drained(base + message.generation, message.frame);
        return;
      case 'hold':
        this.#isHoldWanted = true;
        return;
      case 'release':
        this.#isHeld = false;
        this.#isHoldWanted = false;
        // The daemon stands at the pin now, whatever was before.
        this.#isProven = true;
        this.#hive.spooler.isFull = false;
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
    if (this.#attaching !== null) this.#answerAttach(header, this.#attaching);
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

  /** Why the pin must be dropped now rather than fill the application's disk or wait for ever; null: it need not. */
  get dropReason(): string | null {
    const { spooler } = this.#hive;
    const { spoolBytes, patienceMs } = this.#settings;
    const limit = `the spool's limit of ${formatSize(spoolBytes)} is reached (keeper.spool)`;
    if (this.#isHeld) return null;
    if (spooler.isFull) return limit;
    const unsafeBytes = (this.#lastSeen.mxFrame - spooler.safe) * this.#frameBytes;
    if (spooler.isStuck && spooler.heldBytes + unsafeBytes > spoolBytes) return limit;
    if (this.#patienceLeftMs() === 0) return `no daemon came for ${Math.round(patienceMs / 1000)} s (keeper.patience)`;
    return null;
  }

  #patienceLeftMs(): number | null {
    if (this.#client !== null || this.#attaching !== null) return null;
    return Math.max(0, this.#settings.patienceMs - (performance.now() - this.#aloneSince));
  }

  /** The last act of a keeper that lets go of the hive by itself: ends in order, as far as that goes, and leaves a note. Gives what to tell. */
  drop(reason: string): WaggleError {
    const dropped = { atMs: Date.now(), reason };
    this.#dropped = dropped;
    this.#writeLedger();
    this.end();
    return new WaggleError('PIN_LOST', `the keeper lets go of the hive: ${reason}`);
  }

  /**
   * Orderly end: spools what capture has not taken and closes the connections (the last one to close deletes the WAL). If
   * the application is silent, everything is put into the database file before. `clean` if that was possible and the next
   * keeper can prove it. If frames could not be made safe the connections stay open, and the process must be killed
   * rather than exit: closing as the last one would delete them.
   */
  end(): Stopped {
    const { files, checkpointer, barrier, pinConnections, pins, spooler, observe, ledger } = this.#hive;
    const at = (): Pick<Stopped, 'generation' | 'frame'> => ({ generation: ledger.generation - (this.#client?.base ?? 0), frame: ledger.lastFrame });
    if (files.findReplaced() !== null) return { clean: false, print: null, ...at() };
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
    if (last === null || !spooler.spoolTo(last.mxFrame, Infinity)) return { clean: false, print: null, ...at() };
    for (const connection of [barrier, checkpointer]) connection.close();
    for (const pin of pinConnections) {
      pin.end();
      pin.close();
    }
    const clean = isPrinted && last.mxFrame === last.backfill && samePrint(print, files.fingerprint());
    return { clean, print: clean ? print : null, ...at() };
  }

  /**
   * Stands still for another keeper: pinned, with a ledger on disk that joins whatever follows. True once that holds; then
   * `tick` must not be called until it is to go on.
   */
  standStill(): boolean {
    const { pins, spooler, observe } = this.#hive;
    const header = observe();
    if (header === null) return false;
    if (header.backfill < header.mxFrame) {
      // On a mark nothing is reset: the generation that the ledger names is the one that will be found.
      if ((pins.slot !== 'mark' || pins.isOld(header)) && pins.move() !== 'moved') return false;
      if (pins.slot !== 'mark') return false;
      this.#writeLedger();
      return true;
    }
    // On slot 0 one reset is possible: only the file's print proves that there was no other.
    if (pins.slot === 'zero' && !pins.isOld(header)) return this.#writeLedger();
    if (spooler.spoolTo(header.mxFrame, Infinity)) pins.move();
    return false;
  }

  status(): KeeperStatus {
    const { ledger, spooler } = this.#hive;
    const spooled = spooler.segments.reduce((sum, { firstFrame, lastFrame }) => sum + lastFrame - firstFrame + 1, 0);
    return {
      pid: process.pid,
      startedAtMs: this.startedAtMs,
      attached: this.#client !== null,
      generation: ledger.generation,
      salt1: ledger.salts?.salt1 ?? null,
      salt2: ledger.salts?.salt2 ?? null,
      lastFrame: ledger.lastFrame,
      undrainedFrames: Math.max(0, ledger.lastFrame - spooler.safe) + spooled,
      spool: { bytes: spooler.heldBytes, limitBytes: this.#settings.spoolBytes },
      patienceLeftMs: this.#patienceLeftMs(),
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
    this.#tell(ledger.generation, { type: 'snapshot', sizePages, ...this.#place() });
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
    this.#client = { send, base: ledger.generation - 1 };
    const place = this.#place();
    send({
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
    if (place.mxFrame === 0 && ledger.salts !== null) this.#tell(ledger.generation, { type: 'begun', ...ledger.salts });
    for (const error of this.#untold.splice(0)) this.#warn(error);
    this.#statsSent = '';
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
    this.#tell(generation, { type: 'generation', lastFrame });
    this.#writeLedger();
  }

  #begun(generation: number, { salt1, salt2 }: Salts): void {
    this.#tell(generation, { type: 'begun', salt1, salt2 });
    this.#writeLedger();
  }

  /** In the daemon's count; to nobody where none is attached: `ready` tells it later. */
  #tell(generation: number, message: OfGeneration): void {
    if (this.#client === null) return;
    this.#client.send({ ...message, generation: generation - this.#client.base });
  }

  #warn(error: WaggleError): void {
    if (this.#client === null) this.#untold = [...this.#untold.filter(({ code }) => code !== error.code), error];
    else this.#client.send({ type: 'warning', error: error.toJSON() });
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
    writeLedgerFile(this.#options.spoolDir, { current: salts, previous, untouched, dropped: this.#dropped });
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
    if (this.#client === null || now < this.#statsAt) return;
    this.#statsAt = now + STATS_MS;
    const { stats } = this;
    const text = JSON.stringify(stats);
    if (text === this.#statsSent) return;
    this.#statsSent = text;
    this.#client.send({ type: 'stats', stats });
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

/** What is told of a generation, without its number. */
type Unnumbered<T> = T extends { readonly generation: number } ? Omit<T, 'generation'> : never;
type OfGeneration = Unnumbered<Extract<FromKeeper, { type: 'begun' | 'generation' | 'spooled' | 'snapshot' }>>;

const toldLater = ({ atMs, reason }: Dropped): WaggleError =>
  new WaggleError('PIN_LOST', `the keeper let go of the hive at ${new Date(atMs).toISOString()}: ${reason}`, {
    hint: 'What was committed after that comes as one recovered transaction, if the WAL was started over since.',
  });
