/** The short form of `npm run crash -- --kills 0`. WAGGLE_CRASH_SEED fixes every choice. */
import { expect, it } from 'vitest';
import { temporaryDirectory } from '../helpers/temporary.ts';
import { canShim } from './disk-shim.ts';
import { runFaults } from './fault-run.ts';

const SEED = Number(process.env['WAGGLE_CRASH_SEED'] ?? Math.floor(Math.random() * 1_000_000));
/** In CI a missing compiler is a failure, not a reason to leave the test out. */
const isRequired = process.env['WAGGLE_REQUIRE_SERVERS'] === '1';

it.skipIf(!canShim() && !isRequired)(
  `log, mirror and position agree after power losses and failing I/O at any operation (needs gcc; seed ${SEED})`,
  { timeout: 180_000 },
  async () => {
    using directory = temporaryDirectory();
    const counts = await runFaults({ dir: directory.path, seed: SEED, powerLosses: 200, failingIo: 8, transactions: 60, say: () => {} });
    console.log(`seed ${SEED}: ${JSON.stringify(counts)}`);
    const sum = (numbers: Record<string, number>): number => Object.values(numbers).reduce((total, count) => total + count, 0);
    expect([sum(counts.deaths), sum(counts.failed), counts.restarts]).toEqual([200, 8, 6]);
  },
);
