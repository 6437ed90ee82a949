/**
 * Real Hive, the real daemon, each target: the daemon and the target's server are killed at random instants. At the end the target has the hive's rows,
 * and no change was applied twice: triggers write down which ones are (in MongoDB a history holds every one of them). At length: WAGGLE_KILLS=200
 * WAGGLE_SERVER_KILLS=20.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { DaemonScene, EQUAL } from '../helpers/daemon-scene.ts';
import { HiveApplication } from '../helpers/hive-application.ts';
import { readLogHistory } from '../helpers/log-history.ts';
import { serversRequired } from '../helpers/postgres-server.ts';
import { Random } from '../helpers/random.ts';
import { logHead, sinkStatus } from '../helpers/settled.ts';
import { until } from '../helpers/until.ts';
import type { WaggleProcess } from '../helpers/waggle-process.ts';
import { KILL_TARGETS, type KillTargetKind } from './kill-targets.ts';

const KILLS = Number(process.env['WAGGLE_KILLS'] ?? 3);
const SERVER_KILLS = Number(process.env['WAGGLE_SERVER_KILLS'] ?? Math.ceil(KILLS / 10));
const SEED = Number(process.env['WAGGLE_KILL_SEED'] ?? Math.floor(Math.random() * 1_000_000));
/** A hive that went on growing would have updates of its whole tables larger than what a life applies. */
const KILLS_A_ROUND = 10;
const ROUNDS = Math.ceil(KILLS / KILLS_A_ROUND);
/** One life of the application: long enough to be hit by kills. */
const LIFE_OPS = 400;
/** The next life waits while the slowest sink is so many changes behind: a target that lives in the daemon starts again with it. */
const MOST_BEHIND = 5000;
const DEADLINE_MS = 120_000;

for (const { name, possible, open } of KILL_TARGETS) {
  const absent = !serversRequired() && !(await possible());
  it.skipIf(absent)(`${name}, killed under a real Hive (seed ${SEED})`, { timeout: 120_000 + (KILLS + SERVER_KILLS) * 20_000 }, async () => {
    for (let round = 0; round < ROUNDS; round += 1) {
      await killRound(open, round);
      console.log(`${name}, seed ${SEED}: hive ${round + 1} of ${ROUNDS} is equal`);
    }
  });
}

/** One hive and one target, from the beginning to the proof. */
const killRound = async (open: KillTargetKind['open'], round: number): Promise<void> => {
  const seed = SEED + 2 * round;
  const [kills, serverKills] = [Math.ceil(KILLS / ROUNDS), Math.ceil(SERVER_KILLS / ROUNDS)];
  const random = new Random(seed);
  await using target = await open();
  await using scene = new DaemonScene({ sinks: target.sinks });
  await HiveApplication.run({ dir: scene.app, ops: 60, seed });
  let daemon = await scene.startReady();
  await scene.settled(undefined, DEADLINE_MS);
  await daemon.stop();
  const filledAt = logHead(scene.state)!;
  const tables = readLogHistory(scene.log).catalog.tables.map((table) => table.name);
  await target.watch(scene, tables);
  const typesBefore = (await target.types?.()) ?? {};
  daemon = await scene.startReady();
  await using lives = new AsyncDisposableStack();
  let born = 0;
  const begin = (): HiveApplication => {
    born += 1;
    return lives.use(
      HiveApplication.start({ dir: scene.app, ops: LIFE_OPS, seed: seed * 1000 + born, rate: 100, ...(born === 1 ? { ddlAt: 60 } : {}) }),
    );
  };
  let application = begin();
  const seqOf = (sink: string): number => sinkStatus(scene.state, sink)?.checkpoint?.seq ?? 0;
  const behind = (): number => logHead(scene.state)! - Math.min(...scene.sinks.map(seqOf));
  /** Each sink has applied something, or there is nothing more to apply. */
  const goesOn = async (): Promise<void> => {
    const before = new Map(scene.sinks.map((sink) => [sink, seqOf(sink)]));
    const isOver = (): boolean => !application.isRunning && behind() === 0;
    await until('the sinks to go on', () => isOver() || scene.sinks.every((sink) => seqOf(sink) > before.get(sink)!), {
      deadlineMs: DEADLINE_MS,
      told: () => daemon.stderr.slice(-3000),
    });
  };
  const victims = [...Array<'daemon'>(kills).fill('daemon'), ...Array<'server'>(target.restart === null ? 0 : serverKills).fill('server')];
  while (victims.length > 0) {
    const [victim] = victims.splice(random.int(victims.length), 1);
    if (!application.isRunning && behind() < MOST_BEHIND) {
      await application.ended;
      application = begin();
    }
    // Some are killed wherever their start stands, most while they apply.
    if (random.chance(0.75)) await goesOn();
    await delay(random.int(200));
    if (daemon.exit !== null) throw new Error(`the daemon ended by itself: ${daemon.stderr.slice(-3000)}`);
    if (victim === 'server') await target.restart?.();
    else daemon = await killed(daemon, scene);
  }
  await application.kill();
  await daemon.untilReady();
  await scene.settled(undefined, DEADLINE_MS);
  expect(await daemon.stop()).toEqual({ code: 0, signal: null });

  expect(await target.compare(scene)).toMatchObject(EQUAL);
  const changes = rowChanges(scene.log, filledAt);
  const typesNow = (await target.types?.()) ?? {};
  for (const [table, applied] of Object.entries(await target.applied(scene, tables))) {
    const rewritten = Object.entries(typesBefore[table] ?? {}).filter(
      ([column, type]) => /double|blob/.test(type) && typesNow[table]?.[column] !== type,
    );
    if (rewritten.length > 0) {
      console.log(`seed ${seed}: table ${table} proves its end state alone, because columns were rewritten: ${rewritten.join(', ')}`);
      continue;
    }
    const logged = changes.get(table) ?? [];
    const [known, done] = [new Set(logged), new Set(applied)];
    const unknown = applied.filter((seq) => !known.has(seq));
    const twice = applied.filter((seq, index) => seq === applied[index - 1]);
    const lacking = target.keepsAll ? logged.filter((seq) => !done.has(seq)) : [];
    expect({ table, unknown, twice, lacking }).toEqual({ table, unknown: [], twice: [], lacking: [] });
    expect(done.size > 0).toBe(known.size > 0);
  }
};

const killed = async (daemon: WaggleProcess, scene: DaemonScene): Promise<WaggleProcess> => {
  await daemon.kill();
  return scene.start();
};

/** Seqs of the changes of rows behind `after`, by table. */
const rowChanges = (log: string, after: number): Map<string, number[]> => {
  const byTable = new Map<string, number[]>();
  for (const { changes } of readLogHistory(log).transactions)
    for (const change of changes) {
      if (change.op === 's' || change.op === 't' || change.seq === null || change.seq <= after) continue;
      const seqs = byTable.get(change.table.name) ?? [];
      byTable.set(change.table.name, seqs);
      seqs.push(change.seq);
    }
  return byTable;
};
