/**
 * `waggle tail`: changes as they commit, without a configuration. It is a daemon with one sink, standard output; without
 * `--state` its state directory (mirror, log, position) is temporary.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import { StreamSink } from '../../connectors/jsonl/stream-sink.ts';
import { hiveName } from '../config/resolve-config.ts';
import { runDaemon } from '../daemon.ts';
import { WaggleError } from '../support/errors.ts';
import { type Logger, makeLogger } from '../support/logger.ts';
import { prepareStateDirectory, StateLock } from '../support/state-lock.ts';
import { openHive } from './open-hive.ts';
import { removeStaleDirectories } from './stale-directories.ts';
import { stopSignal } from './stop-signal.ts';
import { TailSink } from './tail-sink.ts';
import { TerminalSink } from './terminal-sink.ts';

interface TailOptions {
  readonly snapshot?: boolean;
  readonly state?: string;
  readonly tables?: string;
  readonly enableWal?: boolean;
  readonly json?: boolean;
  readonly verbose?: boolean;
}

export const tailCommand = (): Command =>
  new Command('tail')
    .description('Show changes as they commit: coloured on a terminal, JSON lines in a pipe. Needs no configuration.')
    .argument('<file>', 'the SQLite database')
    .option('--snapshot', 'existing rows first (op r)')
    .option('--state <dir>', 'keep the position there, and go on from it the next time')
    .option('--tables <names>', 'only these tables, separated by commas; * stands for any characters')
    .option('--enable-wal', 'switch the database to WAL mode if it is not')
    .option('--json', 'JSON lines on a terminal, too')
    .option('--verbose', 'log more, and show the trace of an error')
    .addHelpText(
      'after',
      `
Without --state it begins now and leaves nothing behind. With --state it begins after the last change that it handed to
standard output; after a kill the last lines may come again, with the same seq and content, and none is skipped.
One line on stderr says when capture is ready.`,
    )
    .action(tail);

/** It ends with the command. */
const KEEPER = { outlive: false, spoolBytes: 1e9, patienceMs: 0 };
/** A log that only this command reads needs to keep little. */
const RETENTION = { maxAgeMs: 3_600_000, maxBytes: 256_000_000 };

const tail = async (file: string, options: TailOptions): Promise<void> => {
  const asked = stopSignal();
  const hive = openHive(file, { enableWal: options.enableWal ?? false });
  using state = stateDirectory(options.state);
  using _lock = StateLock.acquire(state.path);
  const name = hiveName(hive.path);
  const pretty = process.stdout.isTTY && options.json !== true;
  const sink = new TailSink(pretty ? new TerminalSink(process.stdout) : new StreamSink(process.stdout, 'standard output'));
  await runDaemon(
    {
      hive: hive.path,
      name,
      stateDir: state.path,
      durability: 'os',
      onGap: 'snapshot',
      tables: { include: options.tables === undefined ? null : splitNames(options.tables), exclude: [] },
      maxWalBytes: 16_000_000,
      keeper: KEEPER,
      retention: RETENTION,
      forceRetention: false,
      sinks: [
        {
          name: 'stdout',
          type: 'jsonl',
          target: 'standard output',
          sink,
          mapping: { filters: [], tables: {} },
          tablesIn: null,
          batch: { rows: 5000, delayMs: 0 },
          fill: options.snapshot ?? false,
          deadLetters: null,
          verifyEveryMs: null,
        },
      ],
    },
    {
      logger: tailLogger(options.verbose ?? false),
      signal: AbortSignal.any([asked, sink.failed]),
      onReady: () =>
        process.stderr.write(`waggle: capturing ${file}${options.state === undefined ? '' : `, position kept in ${options.state}`}; Ctrl-C ends\n`),
    },
  );
  const reason: unknown = sink.failed.reason;
  // A reader that has seen enough (`| head`) is the orderly end.
  if (sink.failed.aborted && !(reason instanceof WaggleError && reason.code === 'SINK_CLOSED')) throw reason;
};

/** What ends the one sink ends the command, which then reports it: it is not logged as well. */
const tailLogger = (verbose: boolean): Logger => {
  const logger = makeLogger({ level: verbose ? 'debug' : 'warn' });
  logger.onChild = (child) => {
    if (!verbose && child.bindings()['component'] === 'sink') child.level = 'silent';
  };
  return logger;
};

const PREFIX = 'waggle-tail-';

const splitNames = (list: string): string[] =>
  list
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');

const stateDirectory = (given: string | undefined): { readonly path: string } & Disposable => {
  if (given === undefined) {
    removeStaleDirectories(tmpdir(), PREFIX);
    const path = mkdtempSync(join(tmpdir(), PREFIX));
    return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
  }
  const path = resolve(given);
  prepareStateDirectory(path);
  return { path, [Symbol.dispose]: () => {} };
};
