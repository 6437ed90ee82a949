/** `waggle status`: what a daemon has done, read from its state directory, whether it runs or not. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { isPaused } from '../capture/pause-flag.ts';
import { readKeeperStatus } from '../keeper/keeper-connection.ts';
import { type KeeperStatus, LOCK_NAME } from '../keeper/protocol.ts';
import { LogReader } from '../log/log-reader.ts';
import { DeadLetterStore, type LetterSummary } from '../pipeline/dead-letter-store.ts';
import { sinkLag, type SinkStatus } from '../pipeline/sink-status.ts';
import { type CaptureStatus, SinkStore, type SinkTask } from '../pipeline/sink-store.ts';
import { WaggleError } from '../support/errors.ts';
import { FileLock } from '../support/file-lock.ts';
import { StateLock } from '../support/state-lock.ts';
import { formatStatus } from './format-status.ts';
import { spoolOf, stateOf, type StateOptions, withStateOptions } from './state-option.ts';

interface StatusOptions extends StateOptions {
  readonly json?: boolean;
}

/** The form of `--json`. */
export interface Status {
  readonly running: boolean;
  readonly pid: number | null;
  readonly state: string;
  readonly hive: string;
  readonly logId: string;
  /** epoch:frame up to which capture has taken the hive. */
  readonly position: string | null;
  readonly head: { readonly seq: number; readonly txid: string };
  readonly firstSeq: number;
  readonly tables: number;
  /** As the daemon last saved it: a killed one could not say that it ended. Null: nothing was told yet. */
  readonly capture: CaptureStatus | null;
  /** `waggle pause` was called. */
  readonly paused: boolean;
  /** As the keeper tells it; null: none does (one that ends with its daemon never does). */
  readonly keeper: KeeperStatus | null;
  /** Any keeper has the state directory, also one that tells nothing. */
  readonly keeperRuns: boolean;
  /** Why it tells nothing, if it should. */
  readonly keeperError: string | null;
  readonly sinks: readonly SinkStatusNow[];
}

export interface SinkStatusNow extends SinkStatus {
  /** Rows that the sink refused; null: none. */
  readonly deadLetters: LetterSummary | null;
  /** The last verification, finished or not; null: none yet. */
  readonly verification: SinkTask | null;
}

export const statusCommand = (): Command =>
  withStateOptions(new Command('status'))
    .description('Position, head of the log, the keeper, and each sink: state, checkpoint, lag, last error. The daemon may run or not.')
    .option('--json', 'as JSON')
    .action(status);

const status = async (options: StatusOptions): Promise<void> => {
  const state = stateOf(options);
  const found = await readStatus(state);
  process.stdout.write(options.json === true ? `${JSON.stringify(found, null, 2)}\n` : `${formatStatus(found, Date.now())}\n`);
};

const readStatus = async (state: string): Promise<Status> => {
  if (!existsSync(join(state, 'log.db'))) throw new WaggleError('STATE_MISSING', `there is no log in ${state}`);
  const holder = StateLock.holder(state);
  const { keeper, keeperError } = await readKeeper(state);
  using reader = LogReader.open(join(state, 'log.db'));
  const info = reader.info();
  const position = info.state?.position;
  return {
    running: holder !== null,
    pid: holder === null || holder.pid === 0 ? null : holder.pid,
    state,
    hive: info.hive,
    logId: info.logId,
    position: position === undefined ? null : `${position.epoch}:${position.frame}`,
    head: info.head,
    firstSeq: info.firstSeq,
    tables: info.catalog?.tables.length ?? 0,
    paused: isPaused(state),
    keeper,
    keeperError,
    keeperRuns: keeper !== null || FileLock.isHeld(join(spoolOf(state), LOCK_NAME)),
    ...readStore(state, reader),
  };
};

const ANSWER_MS = 3000;

/** A keeper that hangs (SIGSTOP) must not hide the rest. */
const readKeeper = async (state: string): Promise<Pick<Status, 'keeper' | 'keeperError'>> => {
  try {
    return { keeper: await readKeeperStatus(spoolOf(state), ANSWER_MS), keeperError: null };
  } catch (error) {
    return { keeper: null, keeperError: error instanceof Error ? error.message : String(error) };
  }
};

/** As the daemon last saved it, the sinks with the lag as of now: the log may have grown, or the daemon may be gone. */
const readStore = (state: string, reader: LogReader): Pick<Status, 'capture' | 'sinks'> => {
  const path = join(state, 'sinks.db');
  if (!existsSync(path)) return { capture: null, sinks: [] };
  using store = SinkStore.openForReading(path);
  const letters = readLetters(state);
  const sinks = store.list().map((sink) => ({
    ...sink,
    lag: sink.checkpoint === null ? sink.lag : sinkLag(reader, sink.checkpoint, Date.now()),
    deadLetters: letters.find((summary) => summary.sink === sink.name) ?? null,
    verification: store.lastVerification(sink.name),
  }));
  return { capture: store.capture(), sinks };
};

const readLetters = (state: string): LetterSummary[] => {
  const path = join(state, 'dead-letters.db');
  if (!existsSync(path)) return [];
  using letters = DeadLetterStore.open(path);
  return letters.summaries();
};
