/**
 * Capture: session after session until it is stopped. Owns the log, the mirror and the keeper of one hive.
 *
 *     beginning ──► following ──► (gap: pin lost, hive replaced, keeper died) ──► beginning …
 *                       └──► stopping: what is committed is taken, the keeper lets go ──► stopped
 *
 * A fault that trying again can mend is told once and tried again with growing pauses; any other ends `run`. A corrupt page of a hive
 * that was captured before is such a fault: what is in the log goes on to the sinks, and as soon as the hive can be read again
 * (a restore, a row deleted) its net effect is recorded.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { join } from 'node:path';
import { mkdirSync } from 'node:fs';
import { ChangeWriter, partBytes } from '../change/change-codec.ts';
import type { RowPlace } from '../change/table.ts';
import { ChangeNotice } from '../hive/change-notice.ts';
import { resolveHive } from '../hive/hive-file.ts';
import type { KeeperStats } from '../keeper/protocol.ts';
import { LogWriter } from '../log/log-writer.ts';
import { type ErrorCode, WaggleError } from '../support/errors.ts';
import { CaptureSession } from './capture-session.ts';
import { isPaused } from './pause-flag.ts';
import { CapturePriority } from './priority.ts';
import type { CaptureOptions, EncodedRows, FromCapture } from './protocol.ts';
import type { Replica } from './replica.ts';
import { SpillFile } from './spill-file.ts';
import { tableFilter } from './table-filter.ts';
import { Wake } from './wake.ts';

export interface CaptureEvents {
  /** Called synchronously. */
  readonly post: (message: FromCapture) => void;
}

type RowsRequest = { readonly id: number; readonly table: string; readonly after: RowPlace | null; readonly maxBytes: number };

const RETRY_MS = [20, 100, 500, 2000];
/** Each time the whole hive is compared. */
const CORRUPT_RETRY_MS = [200, 5000, 30_000, 120_000, 300_000];
const PRUNE_EVERY_MS = 10_000;
const TURN_MS = 2;
const PAUSE_EVERY_MS = 200;
/**
 * Beside a writer without pauses each batch would hold the ten transactions that were committed while the one before was logged, and
 * cost a core. After so many batches in a row the next one waits a moment, and holds a hundred.
 */
const STEADY_BATCHES = 3;
const PACE_MS = 1;
/** Of a hive that was captured already. */
const PASSING: ReadonlySet<ErrorCode> = new Set(['HIVE_MISSING', 'HIVE_EMPTY', 'HIVE_CORRUPT', 'HIVE_NOT_A_DATABASE']);
/** A writer that is faster than capture must not keep it from ending. */
const CATCH_UP_MS = 10_000;

export class Capture {
  #options: CaptureOptions;
  readonly #post: (message: FromCapture) => void;
  readonly #wake = new Wake();
  readonly #priority = new CapturePriority();
  readonly #requests: RowsRequest[] = [];
  #replica: Replica | null = null;
  #spill: SpillFile | null = null;
  /** Until somebody tells how far the sinks are, retention removes nothing. */
  #keepAfterSeq = 0;
  /** Set by `stop`: the time at which what is not taken is left for the next start. */
  #stopAfterMs: number | null = null;
  readonly #stopping = new AbortController();
  #prunedAt = 0;
  #pauseNotBefore = 0;

  constructor(options: CaptureOptions, events: CaptureEvents) {
    this.#options = options;
    this.#post = events.post;
  }

  /** Resolves after an orderly end; throws a WaggleError when capture cannot go on. */
  async run(): Promise<void> {
    const { stateDir, durability } = this.#options;
    // Here and not in the process that asked: that one may hold locks on the file, and a closed descriptor drops them.
    const { path: hive } = resolveHive(this.#options.hive);
    this.#options = { ...this.#options, hive };
    mkdirSync(join(stateDir, 'spool'), { recursive: true, mode: 0o700 });
    const log = LogWriter.open({ path: join(stateDir, 'log.db'), durability, hive: { path: hive } });
    using spill = new SpillFile(join(stateDir, 'spill'));
    this.#spill = spill;
    const notice = await ChangeNotice.open(
      hive,
      () => this.#wake.notify(),
      () => this.#wake.pollOnly(),
    );
    try {
      await this.#sessions(log);
    } finally {
      await notice[Symbol.asyncDispose]();
      const mirror = this.#replica?.mirror;
      if (mirror !== undefined) await mirror[Symbol.asyncDispose]();
      log.close();
    }
  }

  stop(): void {
    this.#stopAfterMs ??= performance.now() + CATCH_UP_MS;
    this.#stopping.abort();
    this.#wake.notify();
  }

  /** Served between two batches: the mirror stands exactly at the head of the log then. */
  readRows(request: RowsRequest): void {
    this.#requests.push(request);
    this.#wake.notify();
  }

  keepAfter(seq: number | null): void {
    this.#keepAfterSeq = seq ?? Infinity;
  }

  async #sessions(log: LogWriter): Promise<void> {
    let failures = 0;
    /** How often the hive could not be read since the log moved last. */
    let corrupt = 0;
    let told: string | null = null;
    let hasRun = false;
    const moved = (): void => {
      failures = 0;
      corrupt = 0;
    };
    while (this.#stopAfterMs === null) {
      if (isPaused(this.#options.stateDir)) {
        await this.#untilResumed(log);
        continue;
      }
      try {
        // What could not be read twice will not get better: what the hive says now is compared then.
        const session = await this.#begin(log, corrupt > 1);
        hasRun = true;
        told = null;
        if (session.beginning === 'recovered') moved();
        try {
          const error = await this.#follow(session, log, moved);
          if (error === null) return;
          throw error;
        } finally {
          await session[Symbol.asyncDispose]();
          this.#replica = await session.handOn();
        }
      } catch (error) {
        if (!(error instanceof WaggleError) || !this.#canRetry(error, hasRun)) throw error;
        if (error.code === 'CAPTURE_PAUSED') continue;
        if (told !== error.code) this.#warn(error);
        told = error.code;
        if (error.code === 'HIVE_CORRUPT') await this.#pause(CORRUPT_RETRY_MS, corrupt++);
        else await this.#pause(RETRY_MS, failures++);
      }
    }
  }

  /** What sinks ask for is served meanwhile. */
  async #untilResumed(log: LogWriter): Promise<void> {
    this.#warn(paused());
    while (this.#stopAfterMs === null && isPaused(this.#options.stateDir)) {
      if (this.#replica !== null) for (const request of this.#requests.splice(0)) this.#serve(request, this.#replica, log);
      await this.#wake.wait();
    }
  }

  #isPauseAsked(): boolean {
    const now = performance.now();
    if (now < this.#pauseNotBefore) return false;
    this.#pauseNotBefore = now + PAUSE_EVERY_MS;
    return isPaused(this.#options.stateDir);
  }

  /** At the first start every fault is the user's to know at once; later the hive may be away for a moment (a restore). */
  #canRetry(error: WaggleError, hasRun: boolean): boolean {
    return error.retryable || (hasRun && PASSING.has(error.code));
  }

  async #pause(listMs: readonly number[], failures: number): Promise<void> {
    const { signal } = this.#stopping;
    try {
      await delay(listMs[Math.min(failures, listMs.length - 1)], undefined, { signal });
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  async #begin(log: LogWriter, compare: boolean): Promise<CaptureSession> {
    const replica = this.#replica;
    this.#replica = null;
    const session = await CaptureSession.begin({
      capture: this.#options,
      log,
      captured: tableFilter(this.#options.tables),
      spill: this.#spill!,
      replica,
      compare,
      isStopping: () => this.#stopAfterMs !== null,
      wake: () => this.#wake.notify(),
      warn: (error) => this.#warn(error),
      stats: (stats: KeeperStats) => this.#post({ type: 'keeper', stats }),
    });
    this.#priority.yield();
    this.#post({
      type: 'ready',
      beginning: session.beginning,
      logId: log.logId,
      position: session.position,
      headSeq: log.headSeq,
      tables: session.replica.schema.tables.length,
      keeperPid: session.keeperPid,
    });
    return session;
  }

  /** Until stopped (null) or until the keeper ended (why). */
  async #follow(session: CaptureSession, log: LogWriter, moved: () => void): Promise<WaggleError | null> {
    let ended: WaggleError | null | undefined;
    void session.keeperEnded.then((error) => {
      ended = error;
      this.#wake.notify();
    });
    let told = log.headSeq;
    let turnAtMs = performance.now();
    let batches = 0;
    for (;;) {
      for (const request of this.#requests.splice(0)) this.#serve(request, session.replica, log);
      const taken = await session.step();
      batches = taken > 0 ? batches + 1 : 0;
      this.#priority.note(taken > 0 && session.isBehind, performance.now());
      const isPaced = batches > STEADY_BATCHES && !session.isBehind;
      // While it catches up, nobody gains from being told of every batch, but messages must be heard.
      const isTurn = taken === 0 || isPaced || performance.now() - turnAtMs > TURN_MS;
      if (isTurn && log.headSeq !== told) {
        told = log.headSeq;
        this.#post({ type: 'head', seq: told });
      }
      if (isTurn && taken > 0) {
        await (isPaced ? delay(PACE_MS) : new Promise((resolve) => void setImmediate(resolve)));
        turnAtMs = performance.now();
      }
      this.#prune(log);
      if (taken > 0) {
        moved();
        this.#wake.active();
        continue;
      }
      // The keeper's last words reach the tail before its end is known: what it had spooled was taken above.
      if (ended !== undefined) {
        if (isPaused(this.#options.stateDir)) return paused();
        return ended ?? new WaggleError('KEEPER_DIED', 'the keeper ended');
      }
      // What the keeper then spools is taken in the next turns, until its end is known.
      if (this.#isPauseAsked()) void session.stopKeeper();
      if (this.#stopAfterMs !== null && (session.isCaughtUp || performance.now() > this.#stopAfterMs)) {
        await session.end();
        return null;
      }
      if (this.#wake.isIdle) log.idle();
      await this.#wake.wait();
    }
  }

  #prune(log: LogWriter): void {
    const now = Date.now();
    const { maxAgeMs, maxBytes } = this.#options.retention;
    if (now - this.#prunedAt < PRUNE_EVERY_MS || (maxAgeMs === null && maxBytes === null)) return;
    try {
      const { more } = log.prune({ maxAgeMs: maxAgeMs ?? Infinity, maxBytes: maxBytes ?? Infinity, keepAfterSeq: this.#keepAfterSeq });
      if (!more) this.#prunedAt = now;
    } catch (error) {
      if (!(error instanceof WaggleError) || error.code !== 'DISK_FULL') throw error;
      // Not worth a session's end, in which the keeper would let go of the hive.
      this.#prunedAt = now;
      this.#warn(error);
    }
  }

  #serve(request: RowsRequest, replica: Replica, log: LogWriter): void {
    const { id, table } = request;
    try {
      this.#post({ type: 'rows', id, chunk: readChunk(request, replica, log), error: null });
    } catch (error) {
      const fault =
        error instanceof WaggleError
          ? error
          : new WaggleError(
              'HIVE_CORRUPT',
              `table "${table}" cannot be read from the mirror: ${error instanceof Error ? error.message : String(error)}`,
              {
                cause: error,
              },
            );
      this.#post({ type: 'rows', id, chunk: null, error: fault.toJSON() });
    }
  }

  #warn(error: WaggleError): void {
    this.#post({ type: 'warning', error: error.toJSON() });
  }
}

const paused = (): WaggleError => new WaggleError('CAPTURE_PAUSED', 'capture is paused');

const readChunk = (request: RowsRequest, replica: Replica, log: LogWriter): EncodedRows | null => {
  const entry = replica.schema.byName.get(request.table);
  if (entry === undefined) return null;
  const writer = new ChangeWriter();
  const rows = replica.readRows(request.table, request, (rowid, record) => writer.create(entry.index, rowid, record));
  if (rows === null) return null;
  return {
    table: entry.table,
    encoding: replica.schema.catalog.encoding,
    parts: writer.parts().map(partBytes),
    asOf: { seq: log.headSeq, txid: log.headTxid },
    done: rows.done,
    share: rows.pages / Math.max(1, rows.tablePages),
  };
};
