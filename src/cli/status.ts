/** `waggle status`: what a daemon has done, read from its state directory, whether it runs or not. */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import { loadConfig } from '../config/load-config.ts';
import { LogReader } from '../log/log-reader.ts';
import { sinkLag, type SinkStatus } from '../pipeline/sink-status.ts';
import { type CaptureStatus, SinkStore } from '../pipeline/sink-store.ts';
import { WaggleError } from '../support/errors.ts';
import { StateLock } from '../support/state-lock.ts';
import { formatStatus } from './format-status.ts';

interface StatusOptions {
  readonly config: string;
  readonly state?: string;
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
  readonly sinks: readonly SinkStatus[];
}

export const statusCommand = (): Command =>
  new Command('status')
    .description('Position, head of the log, and each sink: state, checkpoint, lag, last error. The daemon may run or not.')
    .option('-c, --config <file>', 'the configuration', 'waggle.yaml')
    .option('--state <dir>', 'the state directory, instead of that of a configuration')
    .option('--json', 'as JSON')
    .option('--verbose', 'show the trace of an error')
    .action(status);

const status = (options: StatusOptions): void => {
  const state = options.state === undefined ? loadConfig(options.config).state : resolve(options.state);
  const found = readStatus(state);
  process.stdout.write(options.json === true ? `${JSON.stringify(found, null, 2)}\n` : `${formatStatus(found, Date.now())}\n`);
};

const readStatus = (state: string): Status => {
  if (!existsSync(join(state, 'log.db'))) throw new WaggleError('STATE_MISSING', `there is no log in ${state}`);
  const holder = StateLock.holder(state);
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
    ...readStore(state, reader),
  };
};

/** As the daemon last saved it, the sinks with the lag as of now: the log may have grown, or the daemon may be gone. */
const readStore = (state: string, reader: LogReader): Pick<Status, 'capture' | 'sinks'> => {
  const path = join(state, 'sinks.db');
  if (!existsSync(path)) return { capture: null, sinks: [] };
  using store = SinkStore.openForReading(path);
  const sinks = store.list().map((sink) => ({ ...sink, lag: sink.checkpoint === null ? sink.lag : sinkLag(reader, sink.checkpoint, Date.now()) }));
  return { capture: store.capture(), sinks };
};
