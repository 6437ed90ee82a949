/** What a seed decides of a round: the database's format, who writes it and how. The rest is each writer's own random stream. */
import { readFileSync, writeFileSync } from 'node:fs';
import Database from 'better-sqlite3';
import { Random } from '../helpers/random.ts';
import type { Driver } from './connection.ts';

export interface WriterPlan {
  readonly driver: Driver;
  readonly cachePages: number;
  readonly autoCheckpoint: number;
  readonly synchronous: 'OFF' | 'NORMAL' | 'FULL';
  /** Off (node:sqlite alone takes it), a commit with `synchronous = FULL` is padded to a sector with repeated frames. */
  readonly powersafeOverwrite: boolean;
  readonly secureDelete: 'OFF' | 'ON' | 'FAST';
  readonly foreignKeys: boolean;
  readonly recursiveTriggers: boolean;
  /** Share of transactions behind which it waits some milliseconds, so that the hive has pauses. */
  readonly pauses: number;
}

export interface RoundPlan {
  readonly seed: number;
  readonly pageSize: number;
  readonly reservedBytes: number;
  readonly autoVacuum: 'NONE' | 'FULL' | 'INCREMENTAL';
  readonly encoding: 'UTF-8' | 'UTF-16le' | 'UTF-16be';
  readonly maxWalBytes: number;
  /** Of a table of many columns. */
  readonly wideColumns: number;
  readonly tables: number;
  /** More than so many rows of a table are deleted again, so that a scan of all tables stays cheap. */
  readonly maxRows: number;
  readonly writers: readonly WriterPlan[];
}

export const planRound = (seed: number): RoundPlan => {
  const random = new Random(seed);
  return {
    seed,
    pageSize: random.pick([512, 512, 1024, 1024, 2048, 4096, 4096, 4096, 8192, 16384, 32768, 65536]),
    // 12: as Hive's files have them.
    reservedBytes: random.chance(0.35) ? random.pick([12, 12, 12, 1, 7, 32]) : 0,
    autoVacuum: random.pick(['NONE', 'NONE', 'FULL', 'INCREMENTAL']),
    encoding: random.chance(0.3) ? random.pick(['UTF-16le', 'UTF-16be']) : 'UTF-8',
    maxWalBytes: random.pick([256 << 10, 1 << 20, 16 << 20]),
    wideColumns: random.chance(0.15) ? random.pick([70, 130, 500]) : 0,
    tables: random.chance(0.04) ? 150 : 2 + random.int(4),
    maxRows: random.pick([60, 250, 250, 800]),
    writers: Array.from({ length: 2 + random.int(3) }, () => ({
      driver: random.chance(0.7) ? 'better-sqlite3' : 'node:sqlite',
      cachePages: random.pick([10, 10, 50, 2000]),
      autoCheckpoint: random.pick([0, 0, 10, 100, 1000]),
      synchronous: random.pick(['OFF', 'OFF', 'NORMAL', 'FULL']),
      powersafeOverwrite: random.chance(0.7),
      secureDelete: random.pick(['OFF', 'OFF', 'ON', 'FAST']),
      foreignKeys: random.chance(0.7),
      recursiveTriggers: random.chance(0.3),
      pauses: random.pick([0, 0, 0.01, 0.05]),
    })),
  };
};

/** An empty database in WAL mode, as the plan has it. */
export const createDatabase = (file: string, plan: RoundPlan): void => {
  {
    const db = new Database(file);
    db.pragma(`page_size = ${plan.pageSize}`);
    db.pragma(`auto_vacuum = ${plan.autoVacuum}`);
    db.pragma(`encoding = '${plan.encoding}'`);
    // Written with the first table, and only then.
    db.exec('CREATE TABLE first (x); DROP TABLE first; VACUUM');
    db.close();
  }
  if (plan.reservedBytes > 0) reserveBytes(file, plan);
  const db = new Database(file);
  db.pragma('journal_mode = WAL');
  db.close();
};

/** In a database without a table: a byte of the header, and where page 1 begins its cells (no call from JavaScript sets it). */
const reserveBytes = (file: string, { pageSize, reservedBytes }: RoundPlan): void => {
  const content = readFileSync(file);
  content[20] = reservedBytes;
  content.writeUInt16BE((pageSize - reservedBytes) % 65536, 105);
  writeFileSync(file, content);
};
