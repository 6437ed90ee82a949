/** Power losses and failing I/O in any number: what `npm run crash` and its short form in the suite have in common. */
import { join } from 'node:path';
import { Random } from '../helpers/random.ts';
import { Application } from './application.ts';
import type { Durability } from '../helpers/capture-run.ts';
import { compileShim, type FaultKind } from './disk-shim.ts';
import { FailingIo, FAULT_KINDS } from './failing-io.ts';
import { deathPoints, PowerLoss } from './power-loss.ts';
import { record, type Recording } from './recording.ts';
import type { Loss } from './simulated-disk.ts';

export interface FaultRunOptions {
  /** An empty directory. */
  readonly dir: string;
  readonly seed: number;
  /** Deaths of the machine at least, and operations that fail. */
  readonly powerLosses: number;
  readonly failingIo: number;
  /** Transactions of each recording. */
  readonly transactions: number;
  readonly say: (text: string) => void;
}

export interface FaultCounts {
  recordings: number;
  /** By durability and by what was lost. */
  readonly deaths: Record<string, number>;
  restarts: number;
  /** Restarts that logged a net effect, or began the log anew (durability os alone). */
  recovered: number;
  newLogs: number;
  /** Operations that failed, by kind; and how many of them capture went on after by itself. */
  readonly failed: Record<string, number>;
  survived: number;
  recoveredAfterFault: number;
}

const LOSSES: readonly Loss[] = ['nothing', 'all', 'contents', 'names', 'some', 'torn', 'torn'];
/** Fewer failing operations are a sample. */
const SWEEP_FROM = 100;
/** A restart costs as much as some dozen proofs of what stands there: every n-th death is followed by one. */
const RESTART_EVERY = 32;

/** Throws at the first fault after which something does not hold; the message says how to have it again. */
export const runFaults = async ({ dir, seed, powerLosses, failingIo, transactions, say }: FaultRunOptions): Promise<FaultCounts> => {
  const library = compileShim(dir);
  const random = new Random(seed);
  const counts: FaultCounts = {
    recordings: 0,
    deaths: {},
    restarts: 0,
    recovered: 0,
    newLogs: 0,
    failed: {},
    survived: 0,
    recoveredAfterFault: 0,
  };
  // No recording's seed: what it writes after a restart shall not be what was written before.
  await using application = new Application(seed + 1_000_000_000);
  let [deaths, failures] = [0, 0];
  while (deaths < powerLosses || failures < failingIo) {
    // The stricter one twice as often.
    const durability: Durability = counts.recordings % 3 === 2 ? 'os' : 'fsync';
    const recording = await record({ library, dir: join(dir, 'recording'), durability, seed: seed + counts.recordings, transactions });
    counts.recordings += 1;
    const points = deathPoints(recording);
    const count = Math.min(points.length, powerLosses - deaths);
    const step = points.length / count;
    const power = new PowerLoss(recording, application);
    for (let index = 0; index < count; index += 1) {
      const at = points[Math.floor((index + random.next()) * step)]!;
      const state = random.pick(LOSSES);
      const restart = (deaths + 1) % RESTART_EVERY === 0;
      const hive: Loss = restart && random.chance(0.4) ? random.pick(['all', 'some', 'torn']) : 'nothing';
      const death = { at, state, hive, seed: random.int(2 ** 31) };
      const report = await power.die(death, { restart }).catch((error: unknown) => {
        throw new Error(`seed ${seed}, recording ${counts.recordings} (${durability}), ${JSON.stringify(death)}`, { cause: error });
      });
      deaths += 1;
      counts.deaths[`${durability} ${state}`] = (counts.deaths[`${durability} ${state}`] ?? 0) + 1;
      counts.restarts += Number(report.isRestarted);
      counts.recovered += report.recovered;
      counts.newLogs += Number(report.isNewLog);
      if (deaths % 500 === 0) say(`${deaths} deaths of the machine, ${counts.restarts} restarts`);
    }
    if (failures < failingIo) failures += await sweep({ recording, application, library, dir, random, counts, limit: failingIo - failures, say });
  }
  return counts;
};

/** The n-th operation fails, for n = 1, 2, 3, … of a kind, until a run passes without it. Gives the number of faults. */
const sweep = async (parts: {
  recording: Recording;
  application: Application;
  library: string;
  dir: string;
  random: Random;
  counts: FaultCounts;
  limit: number;
  say: (text: string) => void;
}): Promise<number> => {
  const { recording, application, library, dir, random, counts, limit, say } = parts;
  // Somewhere behind the beginning: the state directory as a killed capture leaves it.
  const points = deathPoints(recording);
  const at = points[Math.floor(points.length * (0.2 + random.next() * 0.7))]!;
  using io = new FailingIo({ recording, application, library, control: join(dir, 'faults'), at });
  // A place at which nothing proves what a killed keeper let go of gives a net effect by itself.
  const { recovered } = await io.run(0, 'EIO');
  const done = { faults: 0 };
  const fail = async (kind: FaultKind, n: number): Promise<boolean> => {
    const report = await io.run(n, kind).catch((error: unknown) => {
      throw new Error(`recording ${counts.recordings} up to operation ${at}, operation ${n} of the state directory: ${kind}`, { cause: error });
    });
    // Where capture went on by itself, nobody missed anything; only a keeper without its notes cannot prove that.
    const mayHaveGap = recovered > 0 || report.error !== null || /ledger|frames|spool/.test(report.what);
    if (report.recovered > 0 && !mayHaveGap) throw new Error(`${kind} at operation ${n} (${report.what}): a net effect although capture went on`);
    if (!report.hasFired) return false;
    done.faults += 1;
    counts.failed[kind] = (counts.failed[kind] ?? 0) + 1;
    counts.survived += Number(report.error === null);
    counts.recoveredAfterFault += report.recovered;
    if (done.faults % 50 === 0) say(`${done.faults} failing operations (${kind} at ${n}: ${report.what})`);
    return true;
  };
  // A few are spread over all kinds and operations.
  if (limit < SWEEP_FROM) {
    while (done.faults < limit) await fail(FAULT_KINDS[done.faults % FAULT_KINDS.length]!, 1 + random.int(90));
    return done.faults;
  }
  for (const kind of FAULT_KINDS) for (let n = 1; done.faults < limit && (await fail(kind, n)); n += 1);
  return done.faults;
};
