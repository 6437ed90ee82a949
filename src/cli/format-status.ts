/** The status for people. */
import type { KeeperStats } from '../keeper/protocol.ts';
import { differencesOf } from '../pipeline/audit.ts';
import type { SinkOutage, SinkStatus } from '../pipeline/sink-status.ts';
import type { SinkTask } from '../pipeline/sink-store.ts';
import { formatDuration, formatSize } from '../support/units.ts';
import type { SinkStatusNow, Status } from './status.ts';

export const formatStatus = (status: Status, nowMs: number): string => {
  const daemon = status.running ? `running${status.pid === null ? '' : ` (pid ${status.pid})`}` : 'not running';
  const lines = [
    ['daemon', daemon],
    ['capture', captureText(status, nowMs)],
    ...keeperLines(status, nowMs),
    ['hive', status.hive],
    ['state', status.state],
    ['position', status.position ?? 'none yet'],
    [
      'log',
      `head at seq ${status.head.seq}${status.head.txid === '' ? '' : ` (transaction ${status.head.txid})`}, kept from seq ${status.firstSeq}, ${status.tables} tables`,
    ],
  ].map(([name, text]) => `${(name ?? '').padEnd(9)} ${text}`);
  return [...lines, '', ...sinkLines(status, nowMs)].join('\n');
};

const captureText = ({ capture, running }: Status, nowMs: number): string => {
  if (capture === null) return 'unknown';
  const { state, error } = capture;
  const text = error === null ? state : `${state}: ${error.code} ${error.message}, ${secondsAgo(error.atMs, nowMs)}; ${error.hint}`;
  return !running && (state === 'running' || state === 'waiting') ? `ended with the daemon; it was ${text}` : text;
};

const keeperLines = (status: Status, nowMs: number): string[][] => {
  const { keeper } = status;
  if (keeper === null) return [['keeper', silentKeeper(status)]];
  const { pid, startedAtMs, attached, patienceLeftMs, undrainedFrames, spool, stats, generation, lastFrame } = keeper;
  const since = formatDuration(nowMs - startedAtMs);
  const alone = patienceLeftMs === null ? '' : `, alone: lets go of the hive in ${formatDuration(patienceLeftMs)}`;
  const barriers = barriersText(stats);
  return [
    ['keeper', `running (pid ${pid}) for ${since}${attached ? '' : alone}`],
    ['', `at frame ${lastFrame} of its WAL generation ${generation}, ${undrainedFrames} frames not taken yet`],
    ['', `spool ${formatSize(spool.bytes)} of ${formatSize(spool.limitBytes)}; ${stats.handOvers} hand-overs, ${barriers}`],
  ];
};

const barriersText = ({ barriers, barrierMs }: KeeperStats): string => {
  if (barrierMs === null) return 'no barrier';
  const { p50, p99, max } = barrierMs;
  return `${barriers} barriers (half of them up to ${p50.toFixed(1)} ms, 99 % up to ${p99.toFixed(1)} ms, the longest ${max.toFixed(1)} ms)`;
};

/** One that does not answer: it ends with its daemon, or speaks another version. */
const silentKeeper = ({ paused, keeperRuns, keeperError, running }: Status): string => {
  if (keeperError !== null) return keeperError;
  if (!keeperRuns) return paused ? 'paused' : 'not running';
  return running ? 'ends with the daemon' : 'of another version: the next daemon replaces it';
};

const sinkLines = ({ sinks, running }: Status, nowMs: number): string[] => {
  if (sinks.length === 0) return ['no sinks yet'];
  const rows = [
    ['SINK', 'STATE', 'CHECKPOINT', 'BEHIND'],
    ...sinks.map((sink) => [sink.name, stateText(sink, running), checkpointText(sink), lagText(sink)]),
  ];
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return [
    ...rows.map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    ),
    ...sinks.flatMap((sink) => outageLines(sink, { running, nowMs })),
    ...sinks.flatMap((sink) => noteLines(sink, nowMs)),
  ];
};

/** Since when a sink does not go on and what is done about it; why, in the form of all errors; the hint. */
const outageLines = (sink: SinkStatus, now: { readonly running: boolean; readonly nowMs: number }): string[] => {
  const { name, error } = sink;
  return error === null ? [] : ['', `${name}: ${outageText(sink, error, now)}`, `  ${error.message} [${error.code}]`, `  ${error.hint}`];
};

const outageText = (
  { state, retryAtMs }: SinkStatus,
  { sinceMs, tries }: SinkOutage,
  { running, nowMs }: { running: boolean; nowMs: number },
): string => {
  const since = `since ${new Date(sinceMs).toISOString().slice(0, 19)}Z (${formatDuration(Math.max(0, nowMs - sinceMs))})`;
  const tried = `tried ${tries === 1 ? 'once' : `${tries} times`}`;
  if (state === 'stopped') return `stopped ${since}; tried again when the daemon is started again`;
  if (!running) return `down ${since}; tried again when the daemon runs`;
  switch (state) {
    case 'retrying':
      return `down ${since}, ${tried}, the next time ${timeUntil(retryAtMs ?? nowMs, nowMs)}`;
    case 'opening':
      return `down ${since}, ${tried}, and now again`;
    default:
      return `was down ${since}, ${tried}; open again, nothing applied yet`;
  }
};

const timeUntil = (atMs: number, nowMs: number): string => (atMs <= nowMs ? 'now' : `in ${formatDuration(atMs - nowMs)}`);

/** What needs a look, a line each. */
const noteLines = ({ name, deadLetters, verification, error: outage }: SinkStatusNow, nowMs: number): string[] => {
  const notes: string[] = [];
  if (deadLetters !== null) {
    const { letters, sinceMs, reason } = deadLetters;
    notes.push(
      `${letters} dead ${letters === 1 ? 'letter' : 'letters'}, the first ${timeAgo(sinceMs, nowMs)}: ${reason} (waggle dead-letters list ${name})`,
    );
  }
  if (verification !== null) notes.push(verificationText(verification, { waits: outage !== null, nowMs }));
  return notes.map((note) => `${name}: ${note}`);
};

const verificationText = ({ state, result, error, updatedAtMs }: SinkTask, { waits, nowMs }: { waits: boolean; nowMs: number }): string => {
  const when = timeAgo(updatedAtMs, nowMs);
  if (state === 'failed') return `could not be verified, ${when}: ${error?.message ?? ''} [${error?.code ?? ''}]`;
  const rows = result?.tables.reduce((sum, table) => sum + table.rows, 0) ?? 0;
  if (state !== 'done') return waits ? 'a verification waits until the sink goes on' : `being verified, ${rows} rows so far`;
  const differences = result === null ? 0 : differencesOf(result);
  return `verified ${when}: ${rows} rows, ${differences === 0 ? 'no difference' : `${differences} differences (waggle verify, waggle resync)`}`;
};

const stateText = ({ state, fill }: SinkStatus, running: boolean): string => {
  // A killed daemon could not say that it closed its sinks.
  if (!running) return state === 'stopped' ? 'stopped' : 'closed';
  return state === 'filling' && fill !== null ? fillText(fill) : state;
};

export const fillText = ({ table, tablesDone, tablesTotal, rows, share, rowsPerSecond, secondsLeft }: NonNullable<SinkStatus['fill']>): string => {
  const left = secondsLeft === null ? '' : `, ${formatDuration(secondsLeft * 1000)} left`;
  return `filling ${table} ${Math.floor(share * 100)} % (${tablesDone}/${tablesTotal} tables, ${rows} rows, ${rowsPerSecond} rows/s${left})`;
};

const checkpointText = ({ checkpoint }: SinkStatus): string => (checkpoint === null ? 'none' : `seq ${checkpoint.seq}`);

const lagText = ({ lag }: SinkStatus): string => {
  if (lag === null) return 'unknown';
  return lag.changes === 0 ? '0' : `${lag.changes} changes, ${lag.seconds.toFixed(1)} s`;
};

const timeAgo = (atMs: number, nowMs: number): string => `${formatDuration(Math.max(0, nowMs - atMs))} ago`;

const secondsAgo = (atMs: number, nowMs: number): string => `${Math.max(0, Math.round((nowMs - atMs) / 1000))} s ago`;
