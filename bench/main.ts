/**
 * npm run bench -- [writer] [decode] [latency] [idle] [sinks] [kafka] [capture] [memory] [--pairs N] [--seconds N]
 *
 * Ratios first: each figure stands beside its reference, measured in turns in the same run. Absolute figures are those of
 * this machine at this hour; the spread says how much to believe.
 */
import { execFileSync } from 'node:child_process';
import { cpus, loadavg } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { runDecode } from './decode.ts';
import { runIdle } from './idle.ts';
import { runLatency } from './latency.ts';
import { largeBacklog, largeHive, largeTransaction } from './memory.ts';
import { SHAPE_TITLES, SHAPES } from './shapes.ts';
import { interval, median, megabytes, spread, table, thousands } from './table.ts';
import { runWriter, type WriterRun } from './writer.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { pairs: { type: 'string', default: '5' }, seconds: { type: 'string', default: '3' } },
});
const pairs = Number(values.pairs);
const seconds = Number(values.seconds);
const IDLE_SECONDS = 30;
/** `capture` stands for all but the sinks. */
const wants = (name: string): boolean =>
  positionals.length === 0 || positionals.includes(name) || (name !== 'sinks' && name !== 'kafka' && positionals.includes('capture'));
const say = (text: string): void => console.log(text);

const rates = (runs: readonly WriterRun[]): number => median(runs.map((run) => run.rowsPerSecond));

const benchWriter = async (): Promise<void> => {
  say(`\n## The writer, with waggle and with triggers, beside itself alone (${pairs} rounds of ${seconds} s in turns)\n`);
  const rows = [['shape', 'waggle / alone', 'triggers / alone', 'alone', 'with waggle', 'WAL at most', 'WAL 2 s after']];
  const times = [['shape', 'commit of the writer', 'p50', 'p99', 'p99.9', 'longest', 'barriers', 'of which p50', 'p99', 'longest']];
  for (const shape of SHAPES) {
    const alone: WriterRun[] = [];
    const waggle: WriterRun[] = [];
    const triggers: WriterRun[] = [];
    for (let round = 0; round < pairs; round += 1) {
      // The order changes, so that a machine that slows down favours nobody.
      const order = round % 2 === 0 ? (['alone', 'waggle', 'triggers'] as const) : (['triggers', 'waggle', 'alone'] as const);
      for (const companion of order) {
        const run = await runWriter(shape, companion, { seconds });
        (companion === 'alone' ? alone : companion === 'waggle' ? waggle : triggers).push(run);
      }
    }
    const ratio = (runs: readonly WriterRun[]): number[] => runs.map((run, index) => run.rowsPerSecond / alone[index]!.rowsPerSecond);
    rows.push([
      SHAPE_TITLES[shape],
      interval(ratio(waggle)),
      interval(ratio(triggers)),
      `${thousands(rates(alone))} rows/s`,
      `${thousands(rates(waggle))} rows/s`,
      megabytes(Math.max(...waggle.map((run) => run.maxWalBytes))),
      megabytes(Math.max(...waggle.map((run) => run.walBytesAfter ?? 0))),
    ]);
    for (const [name, runs] of [
      ['alone', alone],
      ['with waggle', waggle],
    ] as const)
      times.push([SHAPE_TITLES[shape], name, ...commitTimes(runs), ...barrierTimes(runs)]);
  }
  say(table(rows));
  say('');
  say(table(times));
};

const ms = (all: readonly number[]): string => `${median(all).toFixed(median(all) < 1 ? 3 : 1)} ms`;

const commitTimes = (runs: readonly WriterRun[]): string[] =>
  (['p50', 'p99', 'p999', 'max'] as const).map((part) => ms(runs.map((run) => run[part])));

/** Medians over the runs; a run without a barrier has no part in the times. */
const barrierTimes = (runs: readonly WriterRun[]): string[] => {
  const times = runs.flatMap((run) => run.keeper?.barrierMs ?? []);
  const barriers = median(runs.map((run) => run.keeper?.barriers ?? 0));
  return [barriers.toFixed(0), ...(['p50', 'p99', 'max'] as const).map((part) => (times.length === 0 ? '' : ms(times.map((run) => run[part]))))];
};

const benchDecode = async (): Promise<void> => {
  say(`\n## Capture from a backlog (tail, diff, mirror, log; one thread) beside the writer's own speed\n`);
  const rows = [['shape', 'capture / writer', 'capture', 'writer (default checkpoints)', 'CPU of capture a row']];
  const transactions = { 'inserts-1000': 300, 'inserts-1': 300_000, 'updates-100': 1500 };
  for (const shape of SHAPES) {
    const ratios: number[] = [];
    const captured: number[] = [];
    const written: number[] = [];
    const cpu: number[] = [];
    for (let round = 0; round < pairs; round += 1) {
      const writer = await runWriter(shape, 'alone', { seconds });
      const decode = await runDecode(shape, transactions[shape]);
      const speed = decode.rows / decode.captureSeconds;
      ratios.push(speed / writer.rowsPerSecond);
      captured.push(speed);
      written.push(writer.rowsPerSecond);
      cpu.push((decode.captureCpuSeconds / decode.rows) * 1e6);
    }
    rows.push([
      SHAPE_TITLES[shape],
      spread(ratios),
      `${thousands(median(captured))} rows/s`,
      `${thousands(median(written))} rows/s`,
      `${median(cpu).toFixed(1)} µs`,
    ]);
  }
  say(table(rows));
};

const benchLatency = async (): Promise<void> => {
  say('\n## Commit → line of `waggle tail`, 50 commits/s, and of a program that only watches the file\n');
  const rows = [['', 'commits', 'p50', 'p90', 'p99', 'longest']];
  const { tail, probe } = await runLatency(250, 2);
  for (const [name, latencies] of [
    ['waggle tail', tail],
    ['bare watch and read', probe],
  ] as const) {
    const at = (part: number): string => `${latencies[Math.floor(latencies.length * part)]!.toFixed(2)} ms`;
    rows.push([name, String(latencies.length), at(0.5), at(0.9), at(0.99), `${latencies.at(-1)!.toFixed(2)} ms`]);
  }
  say(table(rows));
};

const benchIdle = async (): Promise<void> => {
  say('\n## Daemon and keeper beside a hive that nobody writes\n');
  const idle = await runIdle(IDLE_SECONDS);
  say(
    `${((idle.cpuSeconds / idle.seconds) * 100).toFixed(2)} % of a core over ${idle.seconds.toFixed(0)} s; ${megabytes(idle.rssBytes)} in ${idle.processes} processes`,
  );
};

const benchMemory = async (): Promise<void> => {
  say('\n## Most memory that daemon and keeper took\n');
  const runs = await largeHive(5e9);
  for (const what of ['capture alone', 'with a sink'] as const) runs.push(await largeTransaction(1e9, what), await largeBacklog(10e6, what));
  say(
    table([
      ['', 'daemon', 'keeper', 'took'],
      ...runs.map((run) => [run.what, `${run.daemonMb} MB`, `${run.keeperMb} MB`, `${run.seconds.toFixed(0)} s`]),
    ]),
  );
};

const benchSinks = (): void => {
  say('\n## Log → database, beside a plain load of the same rows\n');
  for (const script of ['./sinks.ts', './sink-latency.ts', './webhook-sink.ts']) runScript(script);
};

const benchKafka = (): void => {
  say('\n## Log → Kafka, beside a plain producer of the same records\n');
  runScript('./kafka.ts');
};

const runScript = (script: string): void =>
  void execFileSync(process.execPath, [fileURLToPath(new URL(script, import.meta.url))], { stdio: 'inherit' });

const busy = loadavg()[0]!;
say(
  `${cpus().length} cores, load ${busy.toFixed(1)} at the start${busy > 1 ? ' (busy: believe ratios, and those with care)' : ''}, Node ${process.version}`,
);
if (wants('writer')) await benchWriter();
if (wants('decode')) await benchDecode();
if (wants('latency')) await benchLatency();
if (wants('idle')) await benchIdle();
if (wants('sinks')) benchSinks();
if (wants('kafka')) benchKafka();
// Takes a quarter of an hour and 30 GB of disk: only where it is asked for by name.
if (positionals.includes('memory')) await benchMemory();
