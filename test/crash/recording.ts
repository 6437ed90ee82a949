/**
 * One run of application, capture and keeper, seen by the shim: every operation on the hive's and the state directory's files, in
 * order. It has all that happens to a state directory: first state, small and large batches, folds, hand-overs with and without
 * the spool, checkpoints of the log, a kill, an orderly end, commits while nobody captures, new starts.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Random } from '../helpers/random.ts';
import { Application } from './application.ts';
import { CaptureChild } from './capture-child.ts';
import type { Durability } from '../helpers/capture-run.ts';
import { DiskFaults, shimEnvironment } from './disk-shim.ts';
import { type DiskOperation, parseTrace } from './disk-trace.ts';
import type { Moment } from './oracle.ts';
import { HIVE, SCENE_DIRECTORIES } from './scene-paths.ts';

export interface Recording {
  readonly scene: string;
  readonly durability: Durability;
  readonly operations: readonly DiskOperation[];
  /** The hive as of each transaction, by its number; the first is what capture began with. */
  readonly moments: ReadonlyMap<number, Moment>;
  readonly first: Moment;
}

export interface RecordingOptions {
  readonly library: string;
  /** For scene, trace and control; emptied. */
  readonly dir: string;
  readonly durability: Durability;
  readonly seed: number;
  readonly transactions: number;
}

export const record = async ({ library, dir, durability, seed, transactions }: RecordingOptions): Promise<Recording> => {
  rmSync(dir, { recursive: true, force: true });
  const scene = join(dir, 'scene');
  for (const each of SCENE_DIRECTORIES) mkdirSync(join(scene, each), { recursive: true });
  const trace = join(dir, 'trace');
  writeFileSync(trace, '');
  using control = new DiskFaults(join(dir, 'control'));
  const environment = shimEnvironment({ library, dir: scene, control: control.path, trace });
  const random = new Random(seed);
  const moments: Moment[] = [];
  await using application = new Application(seed, environment);
  const write = async (count: number): Promise<void> => void moments.push(...(await application.write(count)));
  const start = async (): Promise<CaptureChild> => {
    const child = new CaptureChild({ scene, durability, environment });
    if (!(await child.ready())) throw new Error(`the recorded capture failed: ${await child.stop()}`);
    return child;
  };
  const stop = async (child: CaptureChild): Promise<void> => {
    const error = await child.stop();
    if (error !== null) throw new Error(`the recorded capture failed: ${error}`);
  };

  await application.open(join(scene, HIVE));
  await write(4);
  let capture = await start();
  const lives = 5;
  for (let life = 1; life <= lives; life += 1) {
    while (moments.length < (transactions * life) / lives) {
      await write(random.pick([1, 1, 1, 2, 9]));
      // A pause makes batches of single transactions, and lets the keeper hand over; without one it must spool.
      if (random.chance(0.6)) await delay(random.int(6));
      if (random.chance(0.03)) await application.checkpoint();
    }
    if (life === 3) await delay(700);
    if (life === lives) break;
    if (life % 2 === 0) await stop(capture);
    else await capture.kill();
    await write(random.int(4));
    capture = await start();
  }
  await stop(capture);
  await application.kill();
  return {
    scene,
    durability,
    operations: parseTrace(readFileSync(trace), scene),
    moments: new Map(moments.map((moment) => [moment.n, moment])),
    first: moments[3]!,
  };
};
