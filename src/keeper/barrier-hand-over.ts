/**
 * Hand-over against a writer without pauses: `BEGIN IMMEDIATE` … `ROLLBACK` around pin, PASSIVE, slot 0.
 *
 * The application waits while the barrier stands, and a deferred transaction that has read may even fail. So this is
 * the last resort: everything that can be done before is done before (backfill, sync of the file, spool), the cost of
 * the rest is foreseen from the last barriers, and a costly one is put off until the WAL has four times its size.
 */
import type { WalIndexHeader } from '../sqlite/wal-index.ts';
import type { Opened } from './first-pin.ts';
import { sleepMs } from './sleep.ts';

const BUDGET_MS = 4;
/** So few frames are left for the barrier at best. */
const REST_FRAMES = 200;
const ROUNDS = 4;
const CATCH_MS = 2;
const RESET_MS = 8;
const BACKOFF_MS = 5;
const BACKOFF_MAX_MS = 1000;

export interface BarrierHandOverOptions {
  readonly maxWalBytes: number;
  readonly frameBytes: number;
  passive(): void;
}

export class BarrierHandOver {
  barriers = 0;
  misses = 0;
  barrierMsMax = 0;
  barrierMsTotal = 0;
  readonly #hive: Opened;
  readonly #options: BarrierHandOverOptions;
  #notBefore = 0;
  #backoffMs = BACKOFF_MS;
  /** Running estimate of a barrier's fixed cost and of the cost a frame. */
  #fixedMs = 1;
  #frameMs = 0.004;

  constructor(hive: Opened, options: BarrierHandOverOptions) {
    this.#hive = hive;
    this.#options = options;
  }

  /** True if the WAL was handed over (armed, and most likely reset already). */
  run(header: WalIndexHeader, now: number): boolean {
    if (now < this.#notBefore) return false;
    const prepared = this.#prepare(header);
    if (prepared === null) return this.#backOff();
    const { maxWalBytes, frameBytes } = this.#options;
    const foreseenMs = this.#fixedMs + this.#frameMs * (prepared.mxFrame - prepared.backfill);
    if (foreseenMs > BUDGET_MS && prepared.mxFrame * frameBytes < 4 * maxWalBytes) {
      this.#notBefore = performance.now() + BACKOFF_MS;
      return false;
    }
    if (!this.#catch(prepared)) {
      this.#notBefore = performance.now() + 1;
      return false;
    }
    const isArmed = this.#withBarrier();
    if (isArmed && this.#awaitReset()) {
      this.#backoffMs = BACKOFF_MS;
      return true;
    }
    this.#backOff();
    return isArmed;
  }

  /** Backfills, syncs and spools beside the writer until little is left. Null if somebody's reader stands in the way. */
  #prepare(first: WalIndexHeader): WalIndexHeader | null {
    const { pins, files, spooler, observe } = this.#hive;
    let header = first;
    for (let round = 0; round < ROUNDS; round++) {
      if (pins.move() !== 'moved') return null;
      const target = pins.at.mxFrame;
      this.#options.passive();
      files.syncDatabase();
      const next = observe();
      if (next === null || next.backfill < target) return null;
      spooler.spoolTo(next.mxFrame, performance.now());
      header = observe() ?? next;
      if (header.mxFrame - header.backfill <= REST_FRAMES) break;
    }
    return header;
  }

  /** Tries right after a commit was published, when the writer has just let go of its lock. */
  #catch(prepared: WalIndexHeader): boolean {
    const { files, barrier } = this.#hive;
    const deadline = performance.now() + CATCH_MS;
    let { mxFrame } = prepared;
    while (performance.now() < deadline) {
      const state = files.readHeader();
      if (typeof state !== 'object' || state.mxFrame === mxFrame) continue;
      mxFrame = state.mxFrame;
      if (barrier.begin()) return true;
      this.misses++;
    }
    return false;
  }

  #withBarrier(): boolean {
    const { pins, spooler, observe, barrier } = this.#hive;
    const startMs = performance.now();
    let frames = 0;
    try {
      const header = observe();
      if (header === null) return false;
      frames = header.mxFrame - header.backfill;
      if (frames > 0) {
        if (pins.move() !== 'moved') return false;
        this.#options.passive();
      }
      if (!spooler.spoolTo(header.mxFrame, performance.now())) return false;
      return pins.move() === 'moved' && pins.slot === 'zero';
    } finally {
      barrier.end();
      const tookMs = performance.now() - startMs;
      this.barriers++;
      this.barrierMsTotal += tookMs;
      this.barrierMsMax = Math.max(this.barrierMsMax, tookMs);
      this.#learn(frames, tookMs);
    }
  }

  #learn(frames: number, tookMs: number): void {
    const foreseenMs = this.#fixedMs + this.#frameMs * frames;
    const factor = 1 + 0.2 * (tookMs / foreseenMs - 1);
    this.#fixedMs = Math.min(20, this.#fixedMs * factor);
    this.#frameMs = Math.min(0.1, this.#frameMs * factor);
  }

  /** The writer sleeps at least 1 ms at the barrier; then it resets the WAL, and the pin must get off slot 0. */
  #awaitReset(): boolean {
    const { ledger, pins, observe } = this.#hive;
    const { generation } = ledger;
    const deadline = performance.now() + RESET_MS;
    while (performance.now() < deadline) {
      sleepMs(0.1);
      const header = observe();
      if (header === null || header.mxFrame <= header.backfill) continue;
      pins.move();
      return ledger.generation !== generation;
    }
    return true;
  }

  #backOff(): false {
    this.#notBefore = performance.now() + this.#backoffMs;
    this.#backoffMs = Math.min(BACKOFF_MAX_MS, this.#backoffMs * 2);
    return false;
  }
}
