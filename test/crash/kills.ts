/**
 * Real SIGKILLs at random instants: of the daemon, of the keeper and of the application, a real Hive that goes on writing. Then
 * the log is held against Hive's own oracle, and two sinks against the hive. The seed fixes every choice; where a kill hits
 * depends on the machine, too.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { systemErrorCode } from '../../src/support/errors.ts';
import { DaemonScene, EQUAL } from '../helpers/daemon-scene.ts';
import { HiveApplication } from '../helpers/hive-application.ts';
import { beginningOf, type Proof, proveHistory } from '../helpers/hive-proof.ts';
import { replayJsonl } from '../helpers/jsonl-replay.ts';
import { Random } from '../helpers/random.ts';
import { difference, readSqliteRows } from '../helpers/row-sets.ts';
import type { WaggleProcess } from '../helpers/waggle-process.ts';

const OPS_PER_SECOND = 180;
/** Beside other long runs a capture that gives way to everybody else is late. */
const DEADLINE_MS = 600_000;
/** More than any life lasts. */
const OPS = 1_000_000;

export interface KillReport {
  readonly daemon: number;
  readonly keeper: number;
  readonly application: number;
  readonly proof: Proof;
}

/** So many kills on one hive. Throws what does not hold. */
export const runKills = async (kills: number, seed: number): Promise<KillReport> => {
  const random = new Random(seed);
  const sinks = { copy: '{ type: sqlite, file: copy.sqlite }', changes: '{ type: jsonl, file: changes.jsonl }' };
  await using scene = new DaemonScene({ sinks });
  await HiveApplication.run({ dir: scene.app, ops: 40, seed });
  let daemon = await scene.startReady();
  const beginning = beginningOf(scene.hive, scene.log);
  const oracles: string[] = [];
  const startApplication = (): HiveApplication => {
    const oracle = scene.path(`oracle-${oracles.length}.ndjson`);
    oracles.push(oracle);
    return HiveApplication.start({ dir: scene.app, ops: OPS, seed: random.int(2 ** 31), rate: OPS_PER_SECOND, ddlAt: 60, oracle, exit: 'exit' });
  };
  let application = startApplication();
  const done = { daemon: 0, keeper: 0, application: 0 };
  try {
    while (done.daemon + done.keeper + done.application < kills) {
      // One in four is killed before it is ready, wherever it stands then.
      if (random.chance(0.75)) await daemon.untilReady();
      await delay(random.int(random.chance(0.2) ? 1000 : 150));
      if (daemon.exit !== null) throw new Error(`the daemon ended by itself: ${daemon.stderr.slice(-3000)}`);
      const victim = random.next();
      if (victim < 0.3) {
        await daemon.kill();
        done.daemon += 1;
        if (random.chance(0.3)) await delay(random.int(300));
        daemon = scene.start();
      } else if (victim < 0.88) {
        if (await killKeeper(daemon)) done.keeper += 1;
      } else {
        await application.kill();
        done.application += 1;
        application = startApplication();
      }
    }
    await daemon.untilReady();
    // The last life shall have written something.
    await delay(500);
  } finally {
    await application.kill();
  }
  await scene.settled(undefined, DEADLINE_MS);
  assert.deepEqual(await daemon.stop(), { code: 0, signal: null });

  // A life that was killed before its first transaction has told nothing.
  const proof = proveHistory({
    hive: scene.hive,
    log: scene.log,
    beginning,
    oracles: oracles.filter((path) => existsSync(path)),
    untold: done.application + 1,
  });
  assert.partialDeepStrictEqual(scene.compareCopy(scene.path('copy.sqlite')), EQUAL);
  const replay = replayJsonl(scene.path('changes.jsonl'));
  const text = readSqliteRows(scene.hive, 'text');
  assert.deepEqual(replay.faults, []);
  assert.equal(replay.lastSeq, proof.changes);
  assert.partialDeepStrictEqual(difference(text, replay.rowsLike(text)), EQUAL);
  return { ...done, proof };
};

/** The keeper that the daemon named last; false: it has gone meanwhile. */
const killKeeper = async (daemon: WaggleProcess): Promise<boolean> => {
  await daemon.untilReady();
  const begun = (): number => daemon.lines.filter((line) => line['keeper'] !== undefined && line['position'] !== undefined).length;
  const before = begun();
  try {
    process.kill(Number(daemon.ready!['keeper']), 'SIGKILL');
  } catch (error) {
    if (systemErrorCode(error) !== 'ESRCH') throw error;
    return false;
  }
  // With the next one the daemon tells that capture has begun again.
  await daemon.line('another keeper', () => begun() > before, DEADLINE_MS);
  return true;
};
