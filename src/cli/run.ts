/** `waggle run`: the daemon, from a configuration. */
import { Command } from 'commander';
import { CONNECTORS } from '../../connectors/registry.ts';
import type { Config, SinkConfig } from '../config/config.ts';
import { loadConfig } from '../config/load-config.ts';
import { type DaemonOptions, type DaemonSink, runDaemon } from '../daemon.ts';
import { MaskKey } from '../pipeline/shaping/mask.ts';
import { TransformingSink } from '../pipeline/shaping/transforming-sink.ts';
import { makeLogger } from '../support/logger.ts';
import { prepareStateDirectory, StateLock } from '../support/state-lock.ts';
import { openHive } from './open-hive.ts';
import { stopSignal } from './stop-signal.ts';
import { unknownTables } from './unknown-tables.ts';

interface RunOptions {
  readonly config: string;
  readonly enableWal?: boolean;
  readonly verbose?: boolean;
}

export const runCommand = (): Command =>
  new Command('run')
    .description('Run the daemon: capture the hive and feed the sinks of the configuration, until Ctrl-C or SIGTERM.')
    .option('-c, --config <file>', 'the configuration', 'waggle.yaml')
    .option('--enable-wal', 'switch the database to WAL mode if it is not')
    .option('--verbose', 'log more, and show the trace of an error')
    .addHelpText('after', '\nThe log goes to stderr: pretty on a terminal, JSON lines in a pipe. `waggle init` writes a first configuration.')
    .action(run);

const run = async (options: RunOptions): Promise<void> => {
  const signal = stopSignal();
  const config = loadConfig(options.config);
  const logger = makeLogger({ level: options.verbose === true ? 'debug' : config.log.level });
  const hive = openHive(config.hive, { enableWal: options.enableWal ?? false });
  prepareStateDirectory(config.state);
  using _lock = StateLock.acquire(config.state);
  for (const warning of unknownTables(hive.path, config.tables)) logger.warn(warning);
  await runDaemon(await daemonOptions(config, hive.path), { logger, signal });
};

/** Loads the connectors of the sinks that are enabled. */
export const daemonOptions = async (config: Config, hive: string): Promise<DaemonOptions> => ({
  hive,
  name: config.name,
  stateDir: config.state,
  durability: config.durability,
  onGap: config.onGap,
  tables: config.tables,
  maxWalBytes: config.maxWalBytes,
  keeper: config.keeper,
  deleteAll: config.deleteAll,
  retention: { maxAgeMs: config.retention.maxAgeMs, maxBytes: config.retention.maxBytes },
  forceRetention: config.retention.force,
  sinks: await Promise.all(config.sinks.filter((sink) => sink.enabled).map(daemonSink)),
});

const daemonSink = async (config: SinkConfig): Promise<DaemonSink> => {
  const { name, type, target, options, filter, tables, maskKey, place, transform, tablesIn, batch, fill, deadLetters, verifyEveryMs } = config;
  const createSink = await CONNECTORS[type]!.load();
  const sink = createSink(options);
  return {
    name,
    type,
    target,
    sink: transform === null ? sink : new TransformingSink(sink, transform),
    mapping: { filters: [filter], tables, maskKey: maskKey === null ? null : new MaskKey(maskKey), place },
    tablesIn,
    batch,
    fill,
    deadLetters,
    verifyEveryMs,
  };
};
