/** The short form of `npm run crash -- --faults 0 --io 0`, with the keeper among the victims. */
import { expect, it } from 'vitest';
import { runKills } from './kills.ts';

const SEED = Number(process.env['WAGGLE_CRASH_SEED'] ?? Math.floor(Math.random() * 1_000_000));

it(`loses nothing and doubles nothing over 6 kills of daemon, keeper and application (seed ${SEED})`, { timeout: 180_000 }, async () => {
  const { proof, ...kills } = await runKills(6, SEED);
  console.log(`seed ${SEED}: ${JSON.stringify({ ...kills, proof })}`);
  expect(proof.matched).toBeGreaterThan(0);
});
