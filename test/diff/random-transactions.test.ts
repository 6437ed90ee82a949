/**
 * Random schemas and operations; SQLite is the oracle: after each transaction the state that the changes lead to must be
 * the state that SQLite reads, and every before image must be the state before.
 *
 *     WAGGLE_SEED=123 npx vitest run test/diff/random-transactions.test.ts     one seed alone
 *     WAGGLE_SEEDS=5000 …                                                     more of them
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import { Random } from '../helpers/random.ts';
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
  const random = new Random(seed);
  createDatabase(file, random);
  const db = new Database(file);
  try {
    const workload = new RandomWorkload(db, seed);
    db.pragma('synchronous = OFF');
    db.pragma('wal_autocheckpoint = 0');
    if (random.chance(0.3)) db.pragma('cache_size = 10'); // spills inside transactions
    workload.createSchema();
    await using probe = new ReplicaProbe(file, directory.path, random.chance(0.5) ? 'event' : 'rows');
    const model = TableModel.read(db, probe.replica.schema.catalog.tables);
    let transactions = 0;
    for (let round = 0; round < 60; round += 1) {
      workload.transaction();
      for (const changes of await probe.take()) {
        transactions += 1;
        model.apply(changes);
      }
      probe.assertMap();
      // Before images are held against the model at each change, so a state that went wrong is seen in the end as well.
      if (round % 6 === 5 || only !== undefined) TableModel.read(db, probe.replica.schema.catalog.tables).assertEquals(model);
      expect(probe.replica.schema.tables.map((entry) => entry.table.name).toSorted()).toEqual(workload.tables());
    }
    return transactions;
  } finally {
    db.close();
  }
};

/** An empty database in WAL mode, of any page size, encoding, auto_vacuum, and with reserved bytes as Hive's files have them. */
const createDatabase = (file: string, random: Random): void => {
  const pageSize = random.pick([512, 512, 512, 1024, 1024, 4096, 4096, 16384, 65536]);
  {
    const db = new Database(file);
    db.pragma(`page_size = ${pageSize}`);
    if (random.chance(0.2)) db.pragma(`auto_vacuum = ${random.pick(['FULL', 'INCREMENTAL'])}`);
    if (random.chance(0.2)) db.pragma(`encoding = '${random.pick(['UTF-16le', 'UTF-16be'])}'`);
    db.pragma('user_version = 1');
    // Written with the first table, and only then.
    db.exec('CREATE TABLE first (x); DROP TABLE first; VACUUM');
    db.close();
  }
  if (random.chance(0.3)) reserveBytes(file, pageSize, random.pick([12, 12, 1, 7, 32]));
  const db = new Database(file);
  db.pragma('journal_mode = WAL');
  db.close();
};

/** In a database without a table: a byte of the header, and where page 1 begins its cells. */
const reserveBytes = (file: string, pageSize: number, bytes: number): void => {
  const content = readFileSync(file);
  content[20] = bytes;
  content.writeUInt16BE((pageSize - bytes) % 65536, 105);
  writeFileSync(file, content);
};

describe('random transactions', () => {
  it(`${seeds.length} seeds from ${seeds[0]}`, { timeout: Math.max(600_000, seeds.length * 3000) }, async () => {
    let transactions = 0;
    for (const seed of seeds) {
      try {
        transactions += await runSeed(seed);
      } catch (error) {
        throw new Error(`seed ${seed} fails (run it alone: WAGGLE_SEED=${seed}): ${error instanceof Error ? error.message : String(error)}`, {
          cause: error,
        });
      }
    }
    console.log(`${seeds.length} seeds, ${transactions} transactions`);
    expect(transactions).toBeGreaterThan(seeds.length * 10);
  });
});
