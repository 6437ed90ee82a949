/**
 * `npm run demo`: the main job from one end to the other. A real Hive, written by Hive's own package, is captured by the real
 * daemon and streamed into SQLite, PGlite, a file of JSON lines (and Postgres, when DATABASE_URL names one), while daemon and
 * application are killed; then everything is compared. Nothing is canned; exit status 1 if anything does not compare.
 *
 *     npm run demo -- --seed 7     the same choices again (instants of kills are time: they depend on the machine)
 *     npm run demo -- --keep       leaves the files
 *     npm run demo -- --tamper     damages the copy before it is compared: must fail
 */
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { endKeeper } from '../test/helpers/end-keeper.ts';
import { HiveApplication } from '../test/helpers/hive-application.ts';
import { dropSchema } from '../test/helpers/postgres-text.ts';
import { Random } from '../test/helpers/random.ts';
import { untilSettled } from '../test/helpers/settled.ts';
import { WaggleProcess } from '../test/helpers/waggle-process.ts';
import { compareAll, type Comparison, tamper } from './demo/comparison.ts';
import { killBoth, type Killing } from './demo/killing.ts';
import { type Latency, measureLatency } from './demo/latency.ts';
import { printTable, say, secondsSoFar } from './demo/progress.ts';
import { measureWriter, type WriterRatio, type WriterSpeed } from './demo/writer-ratio.ts';
import { Workspace } from './demo/workspace.ts';

const FIRST_OPS = 500;
const PROBES = 300;
const PROBE_INTERVAL_MS = 20;
const WRITING = { turns: 5, forMs: 400 };

const { values } = parseArgs({
  options: { seed: { type: 'string' }, keep: { type: 'boolean' }, tamper: { type: 'boolean' }, help: { type: 'boolean' } },
});

const demo = async (seed: number, workspace: Workspace): Promise<boolean> => {
  const random = new Random(seed);
  const place = { hive: workspace.hive, stateDir: workspace.state, sinks: workspace.sinks };
  say(`seed ${seed}; files in ${workspace.dir}`);
  const first = await HiveApplication.run({ dir: workspace.app, ops: FIRST_OPS, seed, oracle: workspace.nextOracle(), exit: 'kill' });
  const rows = Object.values(first.rows).reduce((sum, count) => sum + count, 0);
  say(`a real Hive, ${FIRST_OPS} operations old, ${rows} rows in it; its application was killed and starts again`);
  say(`waggle run, into ${workspace.sinks.length} sinks (${workspace.sinks.join(', ')}), while the application writes`);
  const killing = await killBoth(workspace, random);
  await using daemon = killing.daemon;
  await untilSettled(place);
  say('all sinks have caught up');

  const latency = await measureLatency(workspace.hive, workspace.copy, PROBES, PROBE_INTERVAL_MS);
  say(
    `${latency.commits} commits at ${1000 / PROBE_INTERVAL_MS}/s seen in the SQLite copy: p50 ${ms(latency.p50Ms)}, p99 ${ms(latency.p99Ms)}, longest ${ms(latency.maxMs)}`,
  );
  const writer = await measureWriter(workspace, WRITING);
  say(
    `a writer at full speed, transactions/s: ${thousands(writer.alone)} alone, ${thousands(writer.captured.perSecond)} captured, ${thousands(writer.allSinks.perSecond)} with all sinks on the same machine`,
  );

  await untilSettled(place);
  await using stopping = new WaggleProcess(['stop', '--all', '-c', workspace.config]);
  const [exit, stopped] = await Promise.all([daemon.exited, stopping.exited]);
  say(`waggle stop --all: ${stopping.stdout.trim().replaceAll('\n', '; ')} (exit status of the daemon ${exit.code})`);
  if (values.tamper === true) tamper(workspace);
  const comparison = await compareAll(workspace, {
    untold: killing.untold * UNTOLD_PER_KILL,
    probes: { latency_probe: PROBES, writer_probe: writer.rows },
  });
  const faults = [...comparison.faults];
  if (exit.code !== 0) faults.push(`the daemon ended with ${exit.signal ?? exit.code}`);
  if (stopped.code !== 0) faults.push(`waggle stop ended with ${stopped.signal ?? stopped.code}: ${stopping.stderr.trim()}`);
  if (comparison.history.recovered > 0) faults.push(`${comparison.history.recovered} recovered transactions, although the keeper lived on`);
  printTable(tableOf({ killing, latency, writer, comparison }));
  for (const fault of faults) console.log(`NOT EQUAL: ${fault}`);
  console.log(faults.length === 0 ? `Everything compared equal, in ${secondsSoFar().toFixed(0)} s.` : `Failed; seed ${seed}.`);
  return faults.length === 0;
};

/** A killed application can have committed one transaction that it could not write down any more. */
const UNTOLD_PER_KILL = 1;

const tableOf = ({
  killing,
  latency,
  writer,
  comparison,
}: {
  killing: Killing;
  latency: Latency;
  writer: WriterRatio;
  comparison: Comparison;
}): [string, string][] => {
  const { history } = comparison;
  return [
    ['transactions captured', `${history.transactions.length} with ${history.changes} changes`],
    ['  of them recovered', `${history.recovered} (the keeper lives on when the daemon is killed)`],
    ['commit → sink (SQLite copy)', `p50 ${ms(latency.p50Ms)}, p99 ${ms(latency.p99Ms)} (${latency.commits} commits)`],
    ["writer's speed with / without", ratios(writer.captured)],
    ['  with all sinks beside it, too', `${ratios(writer.allSinks)} (they share ${availableParallelism()} cores with the writer)`],
    ['kills survived', `${killing.kills} of the daemon; ${killing.lives} lives of the application`],
    ['rows compared', String(comparison.rowsCompared)],
    ['lost', String(comparison.lost)],
    ['duplicated', String(comparison.duplicated)],
  ];
};

const ratios = ({ ratio, ratios: all }: WriterSpeed): string => `${ratio.toFixed(2)} (median of ${all.map((one) => one.toFixed(2)).join(' ')})`;
const thousands = (value: number): string => `${(value / 1000).toFixed(1)} k`;
const ms = (value: number): string => `${value.toFixed(1)} ms`;

if (values.help === true) {
  console.log('npm run demo [-- --seed N] [--keep] [--tamper]');
} else {
  const workspace = new Workspace();
  let equal = false;
  try {
    equal = await demo(values.seed === undefined ? Math.floor(Math.random() * 1_000_000) : Number(values.seed), workspace);
  } finally {
    await endKeeper(workspace.state);
    if (workspace.databaseUrl !== null) await dropSchema(workspace.databaseUrl, workspace.schema);
    if (values.keep === true || !equal) say(`files kept in ${workspace.dir}`);
    else workspace[Symbol.dispose]();
  }
  process.exitCode = equal ? 0 : 1;
}
