/**
 * Random schemas and operations; SQLite is the oracle: after each transaction the state that the changes lead to must be
 * the state that SQLite reads, and every before image must be the state before.
 *
 *     WAGGLE_SEED=123 npx vitest run test/diff/random-transactions.test.ts     one seed alone
 *     WAGGLE_SEEDS=5000 …                                                     more of them
 */
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import { RandomWorkload } from '../helpers/random-workload.ts';
import { ReplicaProbe } from '../helpers/replica-probe.ts';
import { TableModel } from '../helpers/table-model.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';

const only = process.env['WAGGLE_SEED'];
const count = Number(process.env['WAGGLE_SEEDS'] ?? 250);
const first = Number(process.env['WAGGLE_FIRST_SEED'] ?? 1);
const seeds = only === undefined ? Array.from({ length: count }, (_, index) => first + index) : [Number(only)];

const runSeed = async (seed: number): Promise<number> => {
  using directory = temporaryDirectory();
  const file = join(directory.path, 'db.sqlite');
  const db = new Database(file);
  try {
    const workload = new RandomWorkload(db, seed);
    db.pragma(`page_size = ${workload.random.pick([512, 1024, 4096, 4096])}`);
    if (workload.random.chance(0.2)) db.pragma(`auto_vacuum = ${workload.random.pick(['FULL', 'INCREMENTAL'])}`);
    if (workload.random.chance(0.2)) db.pragma(`encoding = '${workload.random.pick(['UTF-16le', 'UTF-16be'])}'`);
    db.pragma('journal_mode = WAL');
    db.pragma('synchronous = OFF');
    db.pragma('wal_autocheckpoint = 0');
    if (workload.random.chance(0.3)) db.pragma('cache_size = 10'); // spills inside transactions
    workload.createSchema();
    await using probe = new ReplicaProbe(file, directory.path);
    const model = TableModel.read(db, probe.replica.schema.catalog.tables);
    let transactions = 0;
    for (let round = 0; round < 60; round += 1) {
      workload.transaction();
      for (const changes of await probe.take()) {
        transactions += 1;
        model.apply(changes);
      }
      TableModel.read(db, probe.replica.schema.catalog.tables).assertEquals(model);
      expect(probe.replica.schema.tables.map((entry) => entry.table.name).toSorted()).toEqual(workload.tables());
    }
    return transactions;
  } finally {
    db.close();
  }
};

describe('random transactions on rowid tables', () => {
  it(`${seeds.length} seeds from ${seeds[0]}`, { timeout: 600_000 }, async () => {
    let transactions = 0;
    for (const seed of seeds) {
      try {
        transactions += await runSeed(seed);
      } catch (error) {
        throw new Error(`seed ${seed} fails (run it alone: WAGGLE_SEED=${seed}): ${error instanceof Error ? error.message : String(error)}`, { cause: error });
      }
    }
    console.log(`${seeds.length} seeds, ${transactions} transactions`);
    expect(transactions).toBeGreaterThan(seeds.length * 10);
  });
});
