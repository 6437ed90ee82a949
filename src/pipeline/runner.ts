/**
 * One sink, kept going: opens it, lets a session fill it and stream into it, backs off and tries again after an error
 * that can pass, and stops with the error after one that cannot.
 *
 * States: see SinkState. `run` resolves at the orderly end and never rejects; what went wrong stands in the status. A
 * sink that stopped is tried again by `resume` or by the next start of the daemon.
 */
import { mkdirSync } from 'node:fs';
import type { Logger } from 'pino';
import type { Checkpoint } from '../change/change.ts';
import { LogReader } from '../log/log-reader.ts';
import type { HeadNotice } from '../stream/head-notice.ts';
import { backoffDelayMs } from '../support/backoff.ts';
import { type Clock, systemClock } from '../support/clock.ts';
import { WaggleError } from '../support/errors.ts';
import type { DeadLetterStore } from './dead-letter-store.ts';
import { DeadLetters } from './dead-letters.ts';
import { FillRate } from './fill-rate.ts';
import type { FillCursor } from './fill-cursor.ts';
import { type MappingOptions, TableMapping } from './mapping.ts';
import type { RowSource } from './row-source.ts';
import type { Sink } from './sink.ts';
import { type BatchOptions, SinkSession, type StopSignals } from './sink-session.ts';
import { type SinkError, type SinkOutage, type SinkState, sinkLag, type SinkStatus, statusAtStart } from './sink-status.ts';
import type { SinkStore } from './sink-store.ts';
import { SinkTasks } from './sink-tasks.ts';
import { StatusWriter } from './status-writer.ts';
import type { TargetPlaces } from './target-places.ts';

export interface SinkRunnerOptions {
  /** The sink's name in the configuration. */
  readonly name: string;
  /** The hive's name. */
  readonly hive: string;
  readonly sink: Sink;
  /** Path of log.db. It must exist. */
  readonly logPath: string;
  readonly head: HeadNotice;
  /** What first fills read; null only with `fill: false`. */
  readonly rows: RowSource | null;
  /** Which tables and columns, under which names. `integers` and `wants` come from the sink, `hive` from above. */
  readonly mapping: Pick<MappingOptions, 'filters' | 'tables' | 'maskKey' | 'place'>;
  /** Default: 20,000 rows (or what the sink wants), 5 ms. */
  readonly batch?: Partial<BatchOptions>;
  /** Start with the rows that exist. Default true. */
  readonly fill?: boolean;
  readonly store: SinkStore;
  /** Where rows go that the sink refuses, and how many of them at most; null: the first of them stops the sink. */
  readonly deadLetters: { readonly store: DeadLetterStore; readonly limit: number } | null;
  /** How often the target is verified in the background; null: only when asked. */
  readonly verifyEveryMs: number | null;
  /** Shared by the sinks of one daemon. */
  readonly places?: TargetPlaces;
  /** This sink's own directory under the state directory; made if it is not there. */
  readonly stateDir: string;
  readonly logger: Logger;
  readonly clock?: Clock;
  /** How long the orderly end may take. */
  readonly drainMs?: number;
}

export const DEFAULT_BATCH: BatchOptions = { rows: 20000, delayMs: 5 };
const DRAIN_MS = 5000;
const TELL_FILL_MS = 5000;
/** How long a call into the sink is waited for after it was told to give up. */
const GIVE_UP_MS = 1000;

export class SinkRunner {
  readonly #options: SinkRunnerOptions;
  readonly #clock: Clock;
  readonly #mapping: TableMapping;
  readonly #status: StatusWriter;
  #resumed = new AbortController();
  #failures = 0;
  #rate = new FillRate();

  /** Throws CONFIG_INVALID for a `where` that is no expression; where the mapping contradicts a table, when it meets it. */
  constructor(options: SinkRunnerOptions) {
    const { name, sink, store, logger } = options;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#mapping = new TableMapping({ ...options.mapping, hive: options.hive, wants: sink.wants, integers: sink.integers ?? 'number' });
    this.#status = new StatusWriter({
      initial: statusAtStart(name, store.get(name)),
      save: (status) => store.save(status),
      lag: (status) => this.#lag(status.checkpoint),
      clock: this.#clock,
      logger,
    });
  }

  get name(): string {
    return this.#options.name;
  }

  /** As of now; also in the store, a quarter of a second later at most. */
  get status(): SinkStatus {
    return this.#status.status;
  }

  /** Ends a pause between two tries, or tries a stopped sink again. */
  resume(): void {
    this.#resumed.abort();
  }

  /**
   * Runs until the signal is aborted; then what is in the log at that moment is still applied, for `drainMs` at most,
   * and the sink is closed.
   */
  async run(signal: AbortSignal): Promise<void> {
    const abandon = new AbortController();
    const over = new AbortController();
    const onStop = (): void => {
      void this.#clock.sleep(this.#options.drainMs ?? DRAIN_MS, over.signal).then(() => abandon.abort());
    };
    if (signal.aborted) onStop();
    else signal.addEventListener('abort', onStop, { once: true });
    try {
      await this.#loop({ finish: signal, abandon: abandon.signal });
    } finally {
      signal.removeEventListener('abort', onStop);
      over.abort();
      this.#reader?.close();
      this.#reader = null;
      this.#status.close();
    }
  }

  async #loop(stop: StopSignals): Promise<void> {
    for (;;) {
      this.#resumed = new AbortController();
      const error = await this.#session(stop);
      if (error === null || stop.abandon.aborted) break;
      await this.#pause(error, stop);
      if (stop.finish.aborted) break;
    }
    if (this.status.state !== 'stopped') this.#status.update({ state: 'closed', retryAtMs: null });
  }

  /** From open to close. The error that ended it, or null after an orderly end. */
  async #session(stop: StopSignals): Promise<WaggleError | null> {
    const { sink, logger, name, hive, stateDir, head, rows, fill = true } = this.#options;
    this.#status.update({ state: 'opening', retryAtMs: null });
    let reader: LogReader | null = null;
    try {
      mkdirSync(stateDir, { recursive: true, mode: 0o700 });
      reader = LogReader.open(this.#options.logPath);
      const { deadLetters, store, verifyEveryMs } = this.#options;
      const session = new SinkSession({
        sink: withKnownErrors(sink),
        tasks: new SinkTasks({ store, sink: name, verifyEveryMs, clock: this.#clock }),
        mappingSpec: this.#options.mapping,
        places: this.#options.places ?? null,
        letters:
          deadLetters === null
            ? null
            : new DeadLetters({ ...deadLetters, sink: name, wants: sink.wants, mapping: this.#mapping, clock: this.#clock }),
        reader,
        head,
        rows,
        fill,
        logger,
        context: { name, hive, logger, signal: stop.abandon, stateDir },
        mapping: this.#mapping,
        batch: { ...DEFAULT_BATCH, ...(sink.batchRows === undefined ? {} : { rows: sink.batchRows }), ...this.#options.batch },
        clock: this.#clock,
        observer: {
          opened: (checkpoint, cursor) => this.#opened(checkpoint, cursor),
          applied: (progress) => this.#applied(progress),
        },
      });
      await this.#unlessAbandoned(session.run(stop), stop);
      return null;
    } catch (error) {
      return sessionError(error);
    } finally {
      await this.#close(stop);
      reader?.close();
    }
  }

  async #close(stop: StopSignals): Promise<void> {
    try {
      await this.#unlessAbandoned(this.#options.sink.close(), stop);
    } catch (error) {
      this.#options.logger.debug({ err: error }, 'the sink did not close');
    }
  }

  /** What runs, but not much longer than until the sink is given up. */
  async #unlessAbandoned(running: Promise<void>, stop: StopSignals): Promise<void> {
    const ended = new AbortController();
    const abandoned = (async (): Promise<never> => {
      await aborted(AbortSignal.any([stop.abandon, ended.signal]));
      await this.#clock.sleep(GIVE_UP_MS, ended.signal);
      throw new WaggleError('SINK_UNREACHABLE', 'the sink did not answer in time at the end');
    })();
    abandoned.catch(() => {});
    try {
      await Promise.race([running, abandoned]);
    } finally {
      ended.abort();
    }
  }

  async #pause(error: WaggleError, stop: StopSignals): Promise<void> {
    const { logger } = this.#options;
    const { code, message, hint, retryable } = error;
    this.#failures += 1;
    const told = this.#outage({ code, message, hint, atMs: this.#clock.now() });
    const ended = AbortSignal.any([stop.finish, this.#resumed.signal]);
    if (!retryable) {
      logger.error({ code, hint, err: error }, 'the sink stopped');
      this.#status.update({ state: 'stopped', error: told, retryAtMs: null });
      await aborted(ended);
      if (!stop.finish.aborted) this.#failures = 0;
      return;
    }
    const delayMs = Math.max(backoffDelayMs(this.#failures, this.#clock.random()), error.retryAfterMs);
    logger.warn({ code, hint, delayMs, failures: this.#failures, reason: message }, 'the sink failed; trying again');
    this.#status.update({ state: 'retrying', error: told, retryAtMs: told.atMs + delayMs });
    await this.#clock.sleep(delayMs, ended);
  }

  #outage(error: SinkError): SinkOutage {
    const before = this.status.error;
    return { ...error, sinceMs: before?.sinceMs ?? error.atMs, tries: (before?.tries ?? 0) + 1 };
  }

  #opened(checkpoint: Checkpoint, cursor: FillCursor | null): void {
    this.#rate = new FillRate();
    // With nothing to apply there is no other sign that it is well again.
    const idle = cursor === null && this.#lag(checkpoint)?.changes === 0;
    this.#status.update({
      state: stateOf(cursor),
      checkpoint,
      fill: this.#rate.of(cursor, this.#clock.now()),
      ...(idle ? { error: null } : {}),
    });
  }

  #applied(progress: { checkpoint: Checkpoint; fill: FillCursor | null; changes: number; transactions: number }): void {
    const { applied, fill: before } = this.status;
    this.#failures = 0;
    this.#tellFill(before, progress.fill);
    this.#status.update({
      state: stateOf(progress.fill),
      error: null,
      checkpoint: progress.checkpoint,
      fill: this.#rate.of(progress.fill, this.#clock.now()),
      applied: {
        changes: applied.changes + progress.changes,
        transactions: applied.transactions + progress.transactions,
        batches: applied.batches + 1,
      },
    });
  }

  /** The log is where a terminal shows how a first fill goes. */
  #tellFill(before: SinkStatus['fill'], cursor: FillCursor | null): void {
    const { logger } = this.#options;
    if (before !== null && cursor === null) logger.info({ rows: before.rows, rowsPerSecond: before.rowsPerSecond }, 'filled; following from here on');
    if (before === null || cursor === null || this.#clock.now() - this.#toldFillAtMs < TELL_FILL_MS) return;
    this.#toldFillAtMs = this.#clock.now();
    const { table, rows, share, rowsPerSecond, secondsLeft } = before;
    logger.info(
      { table, percent: Math.floor(share * 100), rows, rowsPerSecond, secondsLeft: secondsLeft === null ? null : Math.round(secondsLeft) },
      'filling',
    );
  }

  #toldFillAtMs = Number.NEGATIVE_INFINITY;

  #reader: LogReader | null = null;

  /** On a reader of its own: the session's may be closed. */
  #lag(checkpoint: Checkpoint | null): SinkStatus['lag'] {
    if (checkpoint === null) return null;
    try {
      this.#reader ??= LogReader.open(this.#options.logPath);
      return sinkLag(this.#reader, checkpoint, this.#clock.now());
    } catch {
      this.#reader?.close();
      this.#reader = null;
      return null;
    }
  }
}

const stateOf = (cursor: FillCursor | null): SinkState => (cursor === null ? 'streaming' : 'filling');

/** The sink, with what its connector did not classify as SINK_FAILED. Everything else that a session throws is then not the sink's. */
const withKnownErrors = (sink: Sink): Sink => ({
  wants: sink.wants,
  get place() {
    return sink.place ?? null;
  },
  open: (context) => knownErrors(() => sink.open(context)),
  apply: (batch) => knownErrors(() => sink.apply(batch)),
  ...(sink.rehearse === undefined ? {} : { rehearse: (batch) => knownErrors(() => sink.rehearse!(batch)) }),
  ...(sink.audit === undefined ? {} : { audit: sink.audit }),
  close: () => sink.close(),
});

const knownErrors = async <T>(call: () => Promise<T>): Promise<T> => {
  try {
    return await call();
  } catch (error) {
    throw error instanceof WaggleError ? error : failed(error);
  }
};

/** Trying again does not mend what waggle itself cannot read or gets wrong; a system error (a directory, the log being busy) may pass. */
const sessionError = (error: unknown): WaggleError => {
  if (error instanceof WaggleError) return error;
  if (!(error instanceof RangeError || error instanceof TypeError)) return failed(error);
  return new WaggleError('STATE_CORRUPT', `the log cannot be read: ${error.message}`, {
    cause: error,
    hint: 'Restart waggle. If it stays, move the state directory away and start again (sinks are reconciled), and report the trace.',
  });
};

const failed = (error: unknown): WaggleError =>
  new WaggleError('SINK_FAILED', error instanceof Error ? error.message : String(error), { cause: error });

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
