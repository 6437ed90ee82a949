/**
 * npm run crash -- [--faults N] [--io N] [--kills N] [--seed S]
 *
 * The crash matrix: the machine dies N times (--faults), operations fail (--io; default: a tenth of that), then real SIGKILLs of
 * daemon, keeper and application (--kills). Exit status 1 at the first thing that does not hold, with the seed that shows it again.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect, parseArgs } from 'node:util';
import { canShim } from './disk-shim.ts';
import { runFaults } from './fault-run.ts';
import { runKills } from './kills.ts';

/** Kills on one hive. */
const KILLS_A_ROUND = 50;
const TRANSACTIONS = 200;

const { values } = parseArgs({
  options: {
    faults: { type: 'string', default: '5000' },
    io: { type: 'string' },
    kills: { type: 'string', default: '1000' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 1_000_000)) },
  },
});
const [faults, kills, seed] = [Number(values.faults), Number(values.kills), Number(values.seed)];
const failingIo = values.io === undefined ? Math.round(faults / 10) : Number(values.io);
const say = (text: string): void => console.log(`${new Date().toISOString().slice(11, 19)} ${text}`);

const injectFaults = async (): Promise<void> => {
  if (!canShim()) throw new Error('faults of the disk need Linux and gcc; --faults 0 --io 0 leaves them out');
  const dir = mkdtempSync(join(tmpdir(), 'waggle-crash-'));
  try {
    const counts = await runFaults({ dir, seed, powerLosses: faults, failingIo, transactions: TRANSACTIONS, say });
    console.log(inspect(counts, { breakLength: 120 }));
    rmSync(dir, { recursive: true, force: true });
  } catch (error) {
    say(`what failed stands in ${dir}: recording/trace, recording/scene`);
    throw error;
  }
};

const kill = async (): Promise<void> => {
  const total = { daemon: 0, keeper: 0, application: 0, matched: 0, recovered: 0, covered: 0 };
  for (let done = 0; done < kills;) {
    const count = Math.min(KILLS_A_ROUND, kills - done);
    const { proof, ...killed } = await runKills(count, seed + done);
    done += count;
    total.daemon += killed.daemon;
    total.keeper += killed.keeper;
    total.application += killed.application;
    total.matched += proof.matched;
    total.recovered += proof.recovered;
    total.covered += proof.covered;
    say(`${done} kills: ${JSON.stringify(total)}`);
  }
};

say(`seed ${seed}: ${faults} deaths of the machine, ${failingIo} failing operations, ${kills} kills`);
try {
  if (faults + failingIo > 0) await injectFaults();
  if (kills > 0) await kill();
  say('nothing lost, nothing doubled, nothing rolled back is there');
} catch (error) {
  console.error(`FAILED with seed ${seed}:`, error);
  process.exitCode = 1;
}
