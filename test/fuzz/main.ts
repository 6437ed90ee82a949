/**
 * The differential fuzz, without an end or for so long. SQLite is the oracle: see round.ts.
 *
 *     npm run fuzz -- [--seconds N] [--seed S] [--rounds N] [--transactions N a round] [--keep]
 *
 * Ends at the first round that fails, with its seed, the first wrong transaction and the place of its files; exit status 1.
 */
import { parseArgs } from 'node:util';
import { runRound } from './round.ts';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string' },
    seed: { type: 'string' },
    rounds: { type: 'string' },
    transactions: { type: 'string', default: '1200' },
    keep: { type: 'boolean', default: false },
  },
});
const firstSeed = Number(values.seed ?? Math.floor(Date.now() / 1000));
const rounds = Number(values.rounds ?? Infinity);
const endAtMs = performance.now() + Number(values.seconds ?? Infinity) * 1000;

let transactions = 0;
let changes = 0;
console.log(`fuzz from seed ${firstSeed}; not reached from JavaScript: incremental blob writes, SQLITE_FCNTL_RESERVE_BYTES`);
try {
  for (let round = 0; round < rounds && performance.now() < endAtMs; round += 1) {
    const result = await runRound({ seed: firstSeed + round, transactions: Number(values.transactions), keep: values.keep });
    const { plan } = result;
    transactions += result.transactions;
    changes += result.changes;
    const drivers = plan.writers.map((writer) => (writer.driver === 'node:sqlite' ? 'n' : 'b')).join('');
    const ops = Object.entries(result.ops).map(([op, count]) => `${op} ${count}`);
    console.log(
      `seed ${plan.seed}: ${result.transactions} transactions in ${result.seconds.toFixed(1)} s (${plan.pageSize}-${plan.reservedBytes} ${plan.autoVacuum} ${plan.encoding} writers ${drivers}; ${ops.join(', ')}); ${transactions} in all`,
    );
  }
  console.log(`no fault in ${transactions} transactions, ${changes} changes`);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  console.error(`run it alone: npm run fuzz -- --rounds 1 --seed <its seed>; ${transactions} transactions before were right`);
  process.exit(1);
}
