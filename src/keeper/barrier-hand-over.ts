/**
 * What is done while a writer makes no pauses: backfill beside it in steps, and in the end a hand-over behind a barrier,
 * `BEGIN IMMEDIATE` … `ROLLBACK` around pin, PASSIVE, slot 0.
 *
 * The application waits while the barrier stands, and a deferred transaction that has read may even fail. So this is
 * the last resort: it is allowed from `maxWalBytes` on, everything that can be done before is done before (backfill, sync
 * of the file, spool), and the cost of the rest is foreseen from the last barriers; the larger the WAL has grown the
 * more it may cost. Each call does one piece of work, so that messages of capture are read in between.
 */
import { constants, getPriority, setPriority } from 'node:os';
import { createHistogram } from 'node:perf_hooks';
import type { WalIndexHeader } from '../sqlite/wal-index.ts';
import type { Opened } from './first-pin.ts';
import type { BarrierTimes } from './protocol.ts';
import { sleepMs } from './sleep.ts';

/**
 * SQLite's busy handler sleeps 1 ms, then 2: a barrier below 3 ms costs the application 3 ms. For a WAL that has grown
 * to twice its allowed size it may be twice as long, and so on. From SHARE_UP_TO times on its length is not weighed any more: whoever
 * writes faster than disk and capture can take it has to be held now for a tenth of a second, or later for a second.
 */
const BUDGET_MS = 2.8;
/** The application may lose one part in so many to barriers, while the WAL is below so many times its allowed size. */
const SHARE = 30;
const SHARE_UP_TO = 4;
/**
 * And no more work than for so many times the allowed size (backfill and spool counted each) is ever done behind a barrier: what a long
 * reader of the application or a huge transaction has left is brought down beside the writer first.
 */
const FORCED = 4 * SHARE_UP_TO;
/** From so many times the allowed size on a lagging capture is no longer waited for: what it lacks is spooled. */
const SPOOL_FROM = 2;
/** So many frames at a time are brought into the file while the writer goes on. */
const STEP_FRAMES = 1000;
const STEP_FRAMES_MAX = 4000;
/** The application's own backfill of a full WAL may take so long. */
const PASSIVE_MS = 30;
/** How long the moment right after a commit is waited for: for the barrier, and for moving the pin. */
const CATCH_MS = 2;
const CATCH_GAP_MS = 0.1;
/** An auto-checkpoint that finds nothing to do is over by then. */
const AUTO_CHECKPOINT_MS = 0.003;
const RESET_MS = 8;
const BACKOFF_MS = 5;
const BACKOFF_MAX_MS = 1000;

/** While the application waits for us nobody else shall have the core first. Where that is not allowed we are as good as others. */
const takePriority = (priority: number): void => {
  try {
    setPriority(0, priority);
  } catch {
    // Needs the right to do so (root, CAP_SYS_NICE).
  }
};

export interface BarrierHandOverOptions {
  maxWalBytes(): number;
  readonly frameBytes: number;
}

export class BarrierHandOver {
  handOvers = 0;
  misses = 0;
  stolen = 0;
  /** How long each barrier stood, in microseconds. */
  readonly #times = createHistogram();
  readonly #hive: Opened;
  readonly #options: BarrierHandOverOptions;
  /** Not as of the start of the process, which may have been inherited from a capture that had stepped back. */
  readonly #priority = getPriority();
  #notBefore = 0;
  #cheapFrom = 0;
  #backoffMs = BACKOFF_MS;
  #stepFrames = STEP_FRAMES;
  /** Running estimate of a barrier's fixed cost and of the cost a frame. */
  #fixedMs = 1;
  #frameMs = 0.003;
  /** What a sync of the file took last, when there was nothing left to write: another one is done behind the barrier. */
  #syncMs = 0;

  constructor(hive: Opened, options: BarrierHandOverOptions) {
    this.#hive = hive;
    this.#options = options;
  }

  get barriers(): number {
    return this.#times.count;
  }

  /** Null: there was none. */
  get barrierMs(): BarrierTimes | null {
    const times = this.#times;
    if (times.count === 0) return null;
    const at = (percent: number): number => times.percentile(percent) / 1000;
    return { p50: at(50), p90: at(90), p99: at(99), max: times.max / 1000, total: (times.mean * times.count) / 1000 };
  }

  /** True if there is more to do at once. */
  run(header: WalIndexHeader, now: number): boolean {
    if (now < this.#notBefore) return false;
    const { spooler } = this.#hive;
    const fullness = (header.mxFrame * this.#options.frameBytes) / this.#options.maxWalBytes();
    const backlog = header.mxFrame - header.backfill;
    const lag = header.mxFrame - spooler.safe;
    if (fullness < 1 || (fullness < SHARE_UP_TO && now < this.#cheapFrom)) {
      if (backlog > this.#stepFrames) this.#backfill();
      return false;
    }
    const affordable =
      fullness < SHARE_UP_TO
        ? (BUDGET_MS * fullness - Math.max(this.#fixedMs, this.#syncMs)) / this.#frameMs
        : (FORCED * this.#options.maxWalBytes()) / this.#options.frameBytes;
    if (backlog + lag > affordable) {
      if (backlog > affordable / 2) return this.#backfill();
      // A capture that lags a little catches up more cheaply than the spool is written.
      return fullness >= SPOOL_FROM && spooler.spoolTo(header.mxFrame, now);
    }
    if (!this.#catch(header.mxFrame)) return false;
    if (this.#withBarrier() && this.#awaitReset()) {
      this.handOvers++;
      this.#backoffMs = BACKOFF_MS;
    } else this.#backOff();
    return false;
  }

  /** Brings the file up to the head beside the writer. False if it got nowhere. */
  #backfill(): boolean {
    const { pins, files, observe, checkpointer } = this.#hive;
    // The sync that a checkpoint begins with, without its lock, so that it is short for whoever does the checkpoint.
    files.syncWal();
    if (pins.move(() => this.#awaitCommit()) !== 'moved') return false;
    const { head } = pins;
    const isFirst = checkpointer.passive();
    // Whoever takes the checkpoint lock first does the work. If that is often the application, the pin moves less often.
    this.#stepFrames = isFirst ? Math.max(STEP_FRAMES, this.#stepFrames * 0.9) : Math.min(STEP_FRAMES_MAX, this.#stepFrames * 1.5);
    if (!isFirst) this.stolen++;
    if (!isFirst && !checkpointer.passivePatiently(PASSIVE_MS)) return false;
    const startMs = performance.now();
    files.syncDatabase();
    this.#syncMs = performance.now() - startMs;
    const next = observe();
    if (next === null || next.backfill >= head) return next !== null;
    // Somebody's reader stands in the way, perhaps for long.
    this.#backOff();
    return false;
  }

  /**
   * Lets the pin go in the gap between an auto-checkpoint that looked in vain and the next commit, so that the backfill
   * falls to us and not to the application. A writer whose commits are further apart hardly ever meets it anyway.
   */
  #awaitCommit(): void {
    const { files } = this.#hive;
    const first = files.readHeader();
    const deadline = performance.now() + CATCH_GAP_MS;
    while (performance.now() < deadline) {
      const state = files.readHeader();
      if (typeof state !== 'object' || typeof first !== 'object' || state.mxFrame === first.mxFrame) continue;
      const until = performance.now() + AUTO_CHECKPOINT_MS;
      while (performance.now() < until);
      return;
    }
  }

  /** Tries right after a commit was published, when the writer has just let go of its lock. */
  #catch(head: number): boolean {
    const { files, barrier } = this.#hive;
    const deadline = performance.now() + CATCH_MS;
    let mxFrame = head;
    while (performance.now() < deadline) {
      const state = files.readHeader();
      if (typeof state !== 'object' || state.mxFrame === mxFrame) continue;
      mxFrame = state.mxFrame;
      if (barrier.begin()) return true;
      this.misses++;
    }
    return false;
  }

  /** True if the pin is on slot 0 with all frames safe: the writer's next transaction resets the WAL. */
  #withBarrier(): boolean {
    const { pins, spooler, observe, barrier, checkpointer } = this.#hive;
    const startMs = performance.now();
    let work = 0;
    takePriority(constants.priority.PRIORITY_HIGHEST);
    try {
      const header = observe();
      if (header === null) return false;
      work = header.mxFrame - header.backfill + header.mxFrame - spooler.safe;
      if (header.mxFrame > header.backfill) {
        if (pins.move() !== 'moved') return false;
        checkpointer.passivePatiently(1);
      }
      return spooler.spoolTo(header.mxFrame, performance.now()) && pins.move() === 'moved' && pins.slot === 'zero';
    } finally {
      barrier.end();
      takePriority(this.#priority);
      const endMs = performance.now();
      const tookMs = endMs - startMs;
      this.#times.record(Math.max(1, Math.round(tookMs * 1000)));
      this.#cheapFrom = endMs + SHARE * Math.max(BUDGET_MS, tookMs);
      this.#learn(work, tookMs);
    }
  }

  #learn(work: number, tookMs: number): void {
    const factor = 1 + 0.2 * (tookMs / (this.#fixedMs + this.#frameMs * work) - 1);
    this.#fixedMs = Math.min(2, this.#fixedMs * factor);
    this.#frameMs = Math.min(0.02, this.#frameMs * factor);
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

  #backOff(): void {
    this.#notBefore = performance.now() + this.#backoffMs;
    this.#backoffMs = Math.min(BACKOFF_MAX_MS, this.#backoffMs * 2);
  }
}
