/** `waggle verify` and `waggle resync`: ask the sink's runner, wait, tell. Without a running daemon one runs for the time it takes. */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Command } from 'commander';
import { loadConfig } from '../config/load-config.ts';
import { runDaemon } from '../daemon.ts';
import { type AuditDifference, type AuditResult, differencesOf, type DifferentValue, type TableAuditResult } from '../pipeline/audit.ts';
import type { SinkOutage, SinkStatus } from '../pipeline/sink-status.ts';
import { SinkStore, type SinkTask } from '../pipeline/sink-store.ts';
import { WaggleError } from '../support/errors.ts';
import { makeLogger } from '../support/logger.ts';
import { nearestName } from '../support/nearest-name.ts';
import { prepareStateDirectory, StateLock } from '../support/state-lock.ts';
import { openHive } from './open-hive.ts';
import { warn } from './report-error.ts';
import { daemonOptions } from './run.ts';
import { placeOf, type StateOptions, withStateOptions } from './state-option.ts';
import { stopSignal } from './stop-signal.ts';

interface TaskOptions extends StateOptions {
  readonly json?: boolean;
  readonly values?: boolean;
}

export const verifyCommand = (): Command =>
  taskCommand('verify')
    .description('Compare every row of a sink with the hive, while both go on.')
    .option('--values', 'of the first rows that are changed, the columns that differ with both values: on this terminal alone')
    .addHelpText('after', '\nExit status: 0 all the same (but for dead letters, which are told), 1 something differs.')
    .action((sink: string, tables: string[], options: TaskOptions) => run('verify', sink, tables, options));

export const resyncCommand = (): Command =>
  taskCommand('resync')
    .description('Mend a sink without downtime: rows that are missing or differ are written again, surplus rows removed.')
    .addHelpText('after', '\nA sink that cannot be read back (jsonl, webhook) gets all rows of the tables again.')
    .action((sink: string, tables: string[], options: TaskOptions) => run('resync', sink, tables, options));

const taskCommand = (name: string): Command =>
  withStateOptions(new Command(name))
    .argument('<sink>', "the sink's name")
    .argument('[table...]', 'tables, by their names in the hive; none: all of the sink')
    .option('--json', 'the result as JSON');

const run = async (kind: SinkTask['kind'], sink: string, tables: string[], options: TaskOptions): Promise<void> => {
  const { state, fault } = placeOf(options);
  const request = { sink, kind, tables: tables.length === 0 ? null : tables, slow: false, values: options.values === true };
  const runs = StateLock.holder(state) !== null;
  // A daemon of its own needs all of the configuration, and throws the fault.
  if (runs && fault !== null) warn(fault);
  const { task, values } = runs ? await ofDaemon(state, request) : await withOwnDaemon(options, request);
  if (task.error !== null) throw new WaggleError(task.error.code, task.error.message, { hint: task.error.hint });
  const asked = options.values === true;
  process.stdout.write(
    options.json === true ? `${JSON.stringify(asked ? { ...task.result, values } : task.result, null, 2)}\n` : formatTask(task, values),
  );
  if (asked && values === null) process.stderr.write('the target of this sink cannot tell values\n');
  if (kind === 'verify' && task.result !== null && differencesOf(task.result) > 0) process.exitCode = 1;
};

type Request = Pick<SinkTask, 'sink' | 'kind' | 'tables' | 'slow' | 'values'>;

interface Answer {
  readonly task: SinkTask;
  readonly values: readonly DifferentValue[] | null;
}

const ofDaemon = async (state: string, request: Request): Promise<Answer> => {
  using store = SinkStore.open(join(state, 'sinks.db'));
  const names = store.list().map(({ name }) => name);
  if (!names.includes(request.sink)) throw unknownSink(request.sink, names);
  return await finished(store, store.ask(request, Date.now()), () => {
    if (StateLock.holder(state) !== null) return;
    throw new WaggleError('STATE_IN_USE', 'the daemon ended meanwhile', {
      hint: `Start it again: it goes on with this (${request.kind}) by itself.`,
    });
  });
};

const withOwnDaemon = async (options: TaskOptions, request: Request): Promise<Answer> => {
  const config = loadConfig(options.config);
  const enabled = config.sinks.filter((sink) => sink.enabled).map(({ name }) => name);
  if (!enabled.includes(request.sink)) throw unknownSink(request.sink, enabled);
  const hive = openHive(config.hive, { enableWal: false });
  prepareStateDirectory(config.state);
  using _lock = StateLock.acquire(config.state);
  using store = SinkStore.open(join(config.state, 'sinks.db'));
  process.stderr.write(`no daemon runs: capture and sinks go on here for the time of the ${request.kind}\n`);
  const ended = new AbortController();
  const signal = AbortSignal.any([ended.signal, stopSignal()]);
  const daemon = runDaemon(await daemonOptions(config, hive.path), { logger: makeLogger({ level: 'error' }), signal });
  try {
    const task = finished(store, store.ask(request, Date.now()), () => {
      if (signal.aborted) throw new WaggleError('USAGE', `the ${request.kind} was broken off`, { hint: 'It begins again with the next daemon.' });
    });
    // A daemon that ends by itself has failed.
    return await Promise.race([task, daemon.then(() => task)]);
  } finally {
    ended.abort();
    await daemon.catch(() => {});
  }
};

const POLL_MS = 100;

const finished = async (store: SinkStore, id: number, check: () => void): Promise<Answer> => {
  let told = '';
  for (;;) {
    const task = store.task(id);
    if (task === null) throw new WaggleError('STATE_CORRUPT', 'the task is gone from sinks.db');
    if (task.state === 'done' || task.state === 'failed') return { task: progressDone(task), values: store.takeValues(id) };
    check();
    const status = store.get(task.sink);
    if (status?.state === 'stopped' && status.error !== null) throw givenUp(store, task, status.error);
    if (task.result !== null) showProgress(task.result);
    told = tellWaiting(task, status, told);
    await delay(POLL_MS);
  }
};

/** A stopped sink does nothing that it is asked for: what nobody waits for any more must not be done days later. */
const givenUp = (store: SinkStore, task: SinkTask, { code, message, hint }: SinkOutage): WaggleError => {
  const error = new WaggleError(code, `the ${task.kind} cannot be done, the sink ${task.sink} has stopped: ${message}`, {
    hint: `${hint} A stopped sink is tried again when the daemon is started again; then repeat this.`,
  });
  store.saveTask({ ...task, state: 'failed', error: { code, message: error.message, hint: error.hint }, updatedAtMs: Date.now() });
  return error;
};

/** Why nothing is done yet, once for each reason. */
const tellWaiting = ({ sink, kind }: SinkTask, status: SinkStatus | null, told: string): string => {
  const reason = status === null ? '' : waitingFor(status);
  if (reason !== '' && reason !== told) process.stderr.write(`the ${kind} waits: the sink ${sink} ${reason}\n`);
  return reason === '' ? told : reason;
};

const waitingFor = ({ state, error }: SinkStatus): string => {
  if (error !== null && (state === 'retrying' || state === 'opening'))
    return `does not go on and is tried again and again: ${error.message} [${error.code}] (Ctrl-C ends the waiting)`;
  return state === 'filling' ? 'is being filled, which comes first (Ctrl-C ends the waiting)' : '';
};

const showProgress = ({ tables }: AuditResult): void => {
  const now = tables.at(-1);
  if (process.stderr.isTTY && now !== undefined) process.stderr.write(`\r\u001b[K${now.table}: ${now.rows} rows`);
};

const progressDone = (task: SinkTask): SinkTask => {
  if (process.stderr.isTTY) process.stderr.write('\r\u001b[K');
  return task;
};

const unknownSink = (name: string, names: readonly string[]): WaggleError => {
  const nearest = nearestName(name, names);
  return new WaggleError('NOT_FOUND', `there is no sink ${name}`, nearest === null ? {} : { hint: `Did you mean ${nearest}?` });
};

const formatTask = (task: SinkTask, values: readonly DifferentValue[] | null): string => {
  const { result, kind } = task;
  if (result === null) return `all rows were given to the sink ${task.sink} again\n`;
  const width = Math.max(5, ...result.tables.map(({ table }) => table.length));
  const lines = result.tables.map((table) => `${table.table.padEnd(width)}  ${tableText(table)}`);
  const first = result.first.map((difference) => `  ${difference.kind.padEnd(7)}  ${difference.table}  ${keyText(difference)}`);
  const told = first.flatMap((line, index) => [line, ...(values ?? []).filter(({ difference }) => difference === index).flatMap(valueLines)]);
  const differences = differencesOf(result);
  const more = differences > first.length ? [`  … and ${differences - first.length} more`] : [];
  const compared = result.tables.some(({ notCompared }) => notCompared === null);
  const end = !compared
    ? 'nothing was compared'
    : differences === 0
      ? 'no difference'
      : `${differences} ${differences === 1 ? 'difference' : 'differences'}${kind === 'resync' ? ', mended' : ''}`;
  return `${[...lines, ...told, ...more, end].join('\n')}\n`;
};

const valueLines = ({ column, wanted, found }: DifferentValue): string[] => [
  `           ${column}`,
  `             hive    ${wanted}`,
  `             target  ${found}`,
];

const tableText = (table: TableAuditResult): string =>
  table.notCompared === null
    ? `${String(table.rows).padStart(9)} rows  ${countsText(table)}`
    : 'not compared: a history keeps what the hive has no more, so its rows are no copy of the hive';

const countsText = ({ missing, changed, surplus, deadLetters }: TableAuditResult): string => {
  const counts = { missing, changed, surplus: surplus ?? 0 };
  const found = Object.entries(counts).flatMap(([what, count]) => (count === 0 ? [] : [`${count} ${what}`]));
  const notes = [
    ...(deadLetters === 0 ? [] : [`${deadLetters} dead letters`]),
    ...(surplus === null ? ['surplus rows cannot be told by a key of this type'] : []),
  ];
  return [found.length === 0 ? 'the same' : found.join(', '), ...notes].join('; ');
};

const keyText = ({ key, rowid }: AuditDifference): string =>
  [
    ...Object.entries(key).map(([column, value]) => `${column}=${typeof value === 'string' ? JSON.stringify(value) : String(value)}`),
    ...(rowid === undefined ? [] : [`(rowid ${rowid})`]),
  ].join(' ');
