/**
 * The composition root: capture in its thread, a runner for each sink, and what ties them together. The only place that
 * knows all.
 *
 *     capture (thread) ──► log.db ──► head notice ──► runner per sink ──► connector
 *            ▲  rows of the mirror for first fills  ◄──┘
 *            └─ retention: not past the slowest sink ◄─ checkpoints
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { CaptureClient, type CaptureReady } from './capture/capture-client.ts';
import type { CaptureOptions } from './capture/protocol.ts';
import { LogReader } from './log/log-reader.ts';
import { DeadLetterStore } from './pipeline/dead-letter-store.ts';
import type { MappingOptions } from './pipeline/mapping.ts';
import { SinkRunner, type SinkRunnerOptions } from './pipeline/runner.ts';
import { checkSharedTables } from './pipeline/shaping/shared-tables.ts';
import type { Sink } from './pipeline/sink.ts';
import { statusAtStart } from './pipeline/sink-status.ts';
import { type CaptureStatus, SinkStore } from './pipeline/sink-store.ts';
import { TargetPlaces } from './pipeline/target-places.ts';
import { HeadNotice } from './stream/head-notice.ts';
import { WaggleError } from './support/errors.ts';

export interface DaemonSink {
  readonly name: string;
  readonly type: string;
  /** Where it goes, for people; without secrets. */
  readonly target: string;
  readonly sink: Sink;
  readonly mapping: Pick<MappingOptions, 'filters' | 'tables' | 'maskKey' | 'place'>;
  /** Names the place of the sink's tables; null: it keeps none. */
  readonly tablesIn: string | null;
  readonly batch: NonNullable<SinkRunnerOptions['batch']>;
  readonly fill: boolean;
  /** Null: a refused row stops the sink. */
  readonly deadLetters: { readonly limit: number } | null;
  /** Null: the target is compared only when somebody asks. */
  readonly verifyEveryMs: number | null;
}

export interface DaemonOptions extends CaptureOptions {
  /** The hive's name in events. */
  readonly name: string;
  readonly sinks: readonly DaemonSink[];
  /** Retention waits for the slowest sink unless this says otherwise. */
  readonly forceRetention: boolean;
}

/** How often retention learns of the sinks' progress. */
const KEEP_EVERY_MS = 1000;

export interface DaemonContext {
  readonly logger: Logger;
  readonly signal: AbortSignal;
  /** Called once when capture is ready. */
  readonly onReady?: (ready: CaptureReady) => void;
}

/**
 * The caller holds the lock of the state directory. Runs until the signal is aborted; then what is committed in the hive is captured and handed to the sinks (for some seconds at
 * most), and everything is closed. Rejects with the error that ended capture; sinks never end it.
 */
export const runDaemon = async (options: DaemonOptions, context: DaemonContext): Promise<void> => {
  await using stack = new AsyncDisposableStack();
  const store = stack.use(SinkStore.open(join(options.stateDir, 'sinks.db')));
  const letters = stack.use(DeadLetterStore.open(join(options.stateDir, 'dead-letters.db')));
  // Until capture is ready no sink is opened: it must not be told as the last daemon left it, which may have been killed in the middle of its work.
  for (const { name } of options.sinks) store.save(statusAtStart(name, store.get(name)));
  if (options.sinks.length === 0) context.logger.warn('no sink is enabled: changes are kept in the log only');
  const captureLog = context.logger.child({ component: 'capture' });
  const told = new CaptureTold(store, captureLog);
  try {
    await runCapture(options, { ...context, captureLog, store, letters, told });
    told.set('stopped', null);
  } catch (error) {
    told.set('failed', error instanceof WaggleError ? error : new WaggleError('CAPTURE_DIED', String(error)));
    throw error;
  }
};

interface CaptureContext extends DaemonContext {
  readonly captureLog: Logger;
  readonly store: SinkStore;
  readonly letters: DeadLetterStore;
  readonly told: CaptureTold;
}

const runCapture = async (options: DaemonOptions, { logger, captureLog, signal, onReady, store, letters, told }: CaptureContext): Promise<void> => {
  await using stack = new AsyncDisposableStack();
  const head = new HeadNotice();
  const capture = stack.use(
    CaptureClient.inThread(captureOptions(options), {
      onHead: (seq) => {
        told.goesOn();
        head.notify(seq);
      },
      onReady: (ready) => {
        told.set('running', null);
        tellReady(captureLog, options, ready);
      },
      onWarning: (error) => {
        told.set('waiting', error);
        captureLog.warn({ code: error.code, hint: error.hint }, error.message);
      },
      onKeeper: (stats) => captureLog.debug({ stats }, 'keeper'),
    }),
  );
  const ready = await Promise.race([capture.ready, stopped(signal)]);
  if (ready === null) return;

  checkTables(options);
  forgetOthers(store, options.sinks);
  const sinksSignal = new AbortController();
  const places = new TargetPlaces();
  const runners = options.sinks.map((sink) => makeRunner(sink, { options, capture, head, store, letters, places, logger }));
  const running = Promise.all(runners.map((runner) => runner.run(sinksSignal.signal)));
  const keeping = setInterval(() => capture.keepAfter(keepAfter(runners, options.forceRetention)), KEEP_EVERY_MS);
  capture.keepAfter(runners.length === 0 || options.forceRetention ? null : 0);
  stack.defer(() => clearInterval(keeping));
  onReady?.(ready);

  const ended = await Promise.race([capture.ended, stopped(signal)]);
  if (signal.aborted) logger.info('stopping');
  // First everything that is committed gets into the log, then the sinks get what is in the log.
  const error = ended ?? (await capture.stop());
  sinksSignal.abort();
  await running;
  if (error instanceof WaggleError) throw error;
  logger.info('stopped');
};

/** What `waggle status` tells of capture. */
class CaptureTold {
  readonly #store: SinkStore;
  readonly #logger: Logger;
  #state: CaptureStatus['state'] = 'waiting';

  constructor(store: SinkStore, logger: Logger) {
    this.#store = store;
    this.#logger = logger;
    this.set('waiting', null);
  }

  /** A status that cannot be saved does not hinder capture. */
  set(state: CaptureStatus['state'], error: WaggleError | null): void {
    const atMs = Date.now();
    try {
      this.#state = state;
      const told = error === null ? null : { code: error.code, message: error.message, hint: error.hint, atMs };
      this.#store.saveCapture({ state, error: told, updatedAtMs: atMs });
    } catch (fault) {
      this.#logger.debug({ err: fault }, 'the status of capture cannot be saved');
    }
  }

  /** Changes come: what was warned of (a full disk, for example) has passed. */
  goesOn(): void {
    if (this.#state === 'waiting') this.set('running', null);
  }
}

const captureOptions = ({
  hive,
  stateDir,
  durability,
  onGap,
  tables,
  maxWalBytes,
  keeper,
  deleteAll = 'rows',
  retention,
}: DaemonOptions): CaptureOptions => ({
  hive,
  stateDir,
  durability,
  onGap,
  tables,
  maxWalBytes,
  keeper,
  deleteAll,
  retention,
});

interface RunnerParts {
  readonly options: DaemonOptions;
  readonly capture: CaptureClient;
  readonly head: HeadNotice;
  readonly store: SinkStore;
  readonly letters: DeadLetterStore;
  readonly places: TargetPlaces;
  readonly logger: Logger;
}

const makeRunner = (entry: DaemonSink, { options, capture, head, store, letters, places, logger }: RunnerParts): SinkRunner => {
  const log = logger.child({ component: 'sink', sink: entry.name });
  const stateDir = join(options.stateDir, 'sinks', entry.name);
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  log.info({ type: entry.type, target: entry.target }, 'sink');
  return new SinkRunner({
    name: entry.name,
    hive: options.name,
    sink: entry.sink,
    logPath: join(options.stateDir, 'log.db'),
    head,
    rows: entry.fill ? capture : null,
    mapping: entry.mapping,
    batch: entry.batch,
    fill: entry.fill,
    store,
    deadLetters: entry.deadLetters === null ? null : { store: letters, limit: entry.deadLetters.limit },
    verifyEveryMs: entry.verifyEveryMs,
    places,
    stateDir,
    logger: log,
  });
};

/** The seq up to which nobody needs the log any more. */
const keepAfter = (runners: readonly SinkRunner[], force: boolean): number | null => {
  if (force || runners.length === 0) return null;
  return Math.min(...runners.map((runner) => runner.status.checkpoint?.seq ?? 0));
};

/** What each sink names that is not there is its own error; two sinks on one table are everybody's. */
const checkTables = ({ sinks, stateDir }: DaemonOptions): void => {
  using reader = LogReader.open(join(stateDir, 'log.db'));
  const { catalog } = reader.info();
  if (catalog !== null) checkSharedTables(sinks, catalog);
};

const forgetOthers = (store: SinkStore, sinks: readonly DaemonSink[]): void => {
  const names = new Set(sinks.map((sink) => sink.name));
  for (const status of store.list()) if (!names.has(status.name)) store.remove(status.name);
};

const BEGINNINGS: Record<CaptureReady['beginning'], string> = {
  first: 'capturing from now on; existing rows come from the first state',
  resumed: 'capturing from where it stood',
  recovered: 'capturing; what happened meanwhile is recorded as one recovered transaction',
};

const tellReady = (logger: Logger, options: DaemonOptions, ready: CaptureReady): void => {
  const { epoch, frame } = ready.position;
  logger.info(
    {
      hive: options.hive,
      state: options.stateDir,
      position: `${epoch}:${frame}`,
      head: ready.headSeq,
      tables: ready.tables,
      keeper: ready.keeperPid,
    },
    BEGINNINGS[ready.beginning],
  );
};

const stopped = (signal: AbortSignal): Promise<null> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve(null);
    else signal.addEventListener('abort', () => resolve(null), { once: true });
  });
