/**
 * How fast the database connectors take rows, held against the best plain load of the same rows that fits into a script, and against one statement a
 * change. Everything in turns in the same run, medians.
 *
 *     node bench/sinks.ts [--rows N] [--rounds N] [--only NAME]
 *
 * `ours` is all that stands between hive and target but capture itself: the log (or the mirror, for a first fill), the runner, the mapping, the
 * connector. `alone` is the connector, given the same changes ready made. Times are from an open connection to the last commit. Floors begin with
 * rows in memory. Changes are 60 inserts, 30 updates and 10 deletes of 100, in transactions of 100.
 */
import { cpus, loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import type { Sink, SinkChange } from '../src/pipeline/sink.ts';
import { batchOf, checkpointAt, contextOf, forSink, remove, upsert } from '../test/connectors/sink-changes.ts';
import { mariadbBinary } from '../test/helpers/mariadb-server.ts';
import { mongoServerPossible } from '../test/helpers/mongo-server.ts';
import { postgresBinaries } from '../test/helpers/postgres-server.ts';
import { openMariadb } from './sinks/mariadb.ts';
import { openMongodb } from './sinks/mongodb.ts';
import { openPglite } from './sinks/pglite.ts';
import { openPostgres } from './sinks/postgres.ts';
import { Scene } from './sinks/scene.ts';
import { openSqlite } from './sinks/sqlite.ts';
import type { BenchTarget } from './sinks/target.ts';
import { type BenchChange, type BenchRow, chunksOf, sinkTableOf, Workload } from './sinks/workload.ts';
import { interval, median, table } from './table.ts';

const { values } = parseArgs({
  options: { rows: { type: 'string', default: '200000' }, rounds: { type: 'string', default: '5' }, only: { type: 'string' } },
});
const rounds = Number(values.rounds);
/** Changes in a part of a batch, as the runner makes them. */
const PART = 5000;
/** One at a time takes long; its rate is the same for fewer. */
const MOST_ONE_BY_ONE = 2000;

type Contest = 'fill' | 'mixed';
const CONTESTANTS = ['floor', 'ours', 'alone', 'one'] as const;
type Contestant = (typeof CONTESTANTS)[number];

/** Rows (or changes) a millisecond, a round each. */
class Rates {
  readonly #rates = new Map<string, number[]>();

  add(contest: Contest, who: Contestant, rate: number): void {
    const name = `${contest} ${who}`;
    this.#rates.set(name, [...(this.#rates.get(name) ?? []), rate]);
  }

  of(contest: Contest, who: Contestant): readonly number[] {
    return this.#rates.get(`${contest} ${who}`) ?? [];
  }

  ratio(contest: Contest, to: Contestant): number[] {
    return this.of(contest, 'ours').map((rate, round) => rate / this.of(contest, to)[round]!);
  }
}

const timed = async (work: () => Promise<unknown>): Promise<number> => {
  const start = performance.now();
  await work();
  return performance.now() - start;
};

/** The connector without all that stands before it. */
class SinkAlone {
  readonly #sink: Sink;
  #seq = 0;

  constructor(sink: Sink) {
    this.#sink = sink;
  }

  open(): Promise<unknown> {
    return this.#sink.open(contextOf('alone'));
  }

  fill(name: string, rows: readonly BenchRow[]): Promise<number> {
    const target = sinkTableOf(name);
    return this.#apply(rows.map((row) => upsert(target, this.#shaped(row), 'r')));
  }

  mixed(name: string, changes: readonly BenchChange[]): Promise<number> {
    const target = sinkTableOf(name);
    return this.#apply(changes.map(({ op, row }) => (op === 'd' ? remove(target, [row[0]]) : upsert(target, this.#shaped(row), op))));
  }

  close(): Promise<void> {
    return this.#sink.close();
  }

  async #apply(changes: readonly SinkChange[]): Promise<number> {
    const batches = chunksOf(changes, PART);
    return timed(async () => {
      for (const part of batches) await this.#sink.apply(batchOf([part], checkpointAt((this.#seq += part.length))));
    });
  }

  #shaped([id, createdAt, handle, age, score, verified, settings]: BenchRow): readonly (string | number | bigint)[] {
    return forSink(this.#sink, [id, createdAt, handle, BigInt(age), score, BigInt(verified), settings]) as (string | number | bigint)[];
  }
}

/** In an order that changes with the round, so that a machine that slows down favours nobody. */
const inTurns = async (round: number, contests: readonly (() => Promise<void>)[]): Promise<void> => {
  for (const run of round % 2 === 0 ? contests : contests.toReversed()) await run();
};

const measure = async (target: BenchTarget): Promise<Rates> => {
  const count = Math.ceil(Number(values.rows) * target.share);
  const workload = new Workload(count);
  await using scene = await Scene.open(workload);
  const rates = new Rates();
  const note = (contest: Contest, who: Contestant, ms: number, of = count): void => rates.add(contest, who, of / ms);
  const sink = target.createSink();
  const alone = new SinkAlone(target.createSink());
  await alone.open();
  for (let round = 0; round < rounds; round += 1) {
    await inTurns(round, [
      async () => {
        const rows = workload.rows();
        note('fill', 'floor', await timed(() => target.load(`floor_${round}`, rows)));
      },
      async () => note('fill', 'ours', await scene.run(sink, `ours_${round}`)),
      async () => note('fill', 'alone', await alone.fill(`alone_${round}`, workload.rows())),
    ]);
    for (const name of ['floor', 'ours', 'alone']) await target.drop(`${name}_${round}`);
  }
  await target.load('floor', workload.rows());
  await target.load('one', workload.rows());
  await alone.fill('alone', workload.rows());
  await scene.run(sink, 'ours');
  for (let round = 0; round < rounds; round += 1) {
    const changes = workload.changes(count);
    const some = changes.slice(0, MOST_ONE_BY_ONE);
    await scene.write(changes);
    await inTurns(round, [
      async () => note('mixed', 'floor', await timed(() => target.mixed('floor', changes))),
      async () => note('mixed', 'ours', await scene.run(sink, 'ours')),
      async () => note('mixed', 'alone', await alone.mixed('alone', changes)),
      async () => note('mixed', 'one', await timed(() => target.oneByOne('one', some)), some.length),
    ]);
  }
  await alone.close();
  return rates;
};

const targets: readonly [name: string, possible: () => boolean | Promise<boolean>, open: () => Promise<BenchTarget>][] = [
  ['postgres', async () => (await postgresBinaries()) !== null, openPostgres],
  ['pglite', () => true, openPglite],
  ['sqlite', () => true, openSqlite],
  ['mariadb', async () => (await mariadbBinary()) !== null, openMariadb],
  ['mongodb', mongoServerPossible, openMongodb],
];

const header = ['', 'ours / floor', 'ours / one by one', 'floor', 'ours', 'alone', 'one by one'];
const CONTEST_TITLES: Record<Contest, string> = { fill: 'first fill', mixed: 'changes' };
const rows: string[][] = [];
const floors: string[] = [];
console.log(`${values.rows} rows of 7 columns, text key, ${rounds} rounds; ${cpus().length} cores, load ${loadavg()[0]!.toFixed(1)} at the start`);
for (const [name, possible, open] of targets) {
  if (values.only !== undefined && values.only !== name) continue;
  if (!(await possible())) {
    rows.push([`${name}: not installed`]);
    continue;
  }
  await using target = await open();
  const rates = await measure(target);
  const speed = (all: readonly number[]): string => (all.length === 0 ? '' : `${median(all).toPrecision(3)} k/s`);
  for (const contest of ['fill', 'mixed'] as const) {
    const one = rates.of('mixed', 'one');
    rows.push([
      `${name}, ${CONTEST_TITLES[contest]}`,
      interval(rates.ratio(contest, 'floor')),
      contest === 'mixed' ? `${(median(rates.of('mixed', 'ours')) / median(one)).toFixed(0)} ×` : '',
      ...(['floor', 'ours', 'alone'] as const).map((who) => speed(rates.of(contest, who))),
      contest === 'mixed' ? speed(one) : '',
    ]);
  }
  floors.push(`${name}: ${target.floors}${target.share === 1 ? '' : ` (${target.share} of the rows)`}`);
}
console.log(table([header, ...rows]));
console.log(floors.map((line) => `floor of ${line}`).join('\n'));
