/**
 * The differential fuzz in its short form: at least 20,000 transactions of several writers, each held against what SQLite told its
 * writer. `npm run fuzz` goes on for as long as one likes.
 */
import { describe, expect, it } from 'vitest';
import { runRound } from './round.ts';

const TRANSACTIONS = 20_000;
const PER_ROUND = 2500;

describe('differential fuzz', () => {
  it(`${TRANSACTIONS} transactions`, { timeout: 1_200_000 }, async () => {
    let transactions = 0;
    let changes = 0;
    for (let seed = 1; transactions < TRANSACTIONS; seed += 1) {
      const result = await runRound({ seed, transactions: PER_ROUND });
      expect(result.transactions).toBeGreaterThan(PER_ROUND / 4);
      transactions += result.transactions;
      changes += result.changes;
    }
    console.log(`${transactions} transactions, ${changes} changes`);
  });
});
