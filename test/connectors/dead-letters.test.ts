/**
 * Random transactions into real servers that refuse some of their rows, through the runner: only rows with letters may differ meanwhile, and when
 * nothing refuses them any more, a retry brings the target to the hive.
 */
import { MongoClient } from 'mongodb';
import { createConnection } from 'mysql2/promise';
import { expect, it } from 'vitest';
import { createSink as createMongoSink } from '../../connectors/mongodb/sink.ts';
import { createSink as createMysqlSink } from '../../connectors/mysql/sink.ts';
import { DeadLetterStore } from '../../src/pipeline/dead-letter-store.ts';
import type { SinkRunner } from '../../src/pipeline/runner.ts';
import type { Sink } from '../../src/pipeline/sink.ts';
import { systemClock } from '../../src/support/clock.ts';
import type { Value } from '../../src/change/table.ts';
import { mariadbBinary, startMariadb } from '../helpers/mariadb-server.ts';
import { mongoServerPossible, startMongoServer } from '../helpers/mongo-server.ts';
import { serversRequired } from '../helpers/postgres-server.ts';
import { Random } from '../helpers/random.ts';
import { RunnerScene } from '../helpers/runner-scene.ts';
import { until } from '../helpers/until.ts';
import { mongoRows, showInMongo } from './mongo-rows.ts';
import { EXACT, mysqlRows, showInMysql } from './mysql-rows.ts';
import { sinkTable } from './sink-changes.ts';

const noMariadb = (await mariadbBinary()) === null && !serversRequired();
const noMongo = !mongoServerPossible() && !serversRequired();

/** As the connectors name them. */
const TABLES = [
  sinkTable('items', [{ name: 'id' }, { name: 'name' }, { name: 'value' }]),
  sinkTable('pairs', [{ name: 'a' }, { name: 'b' }, { name: 'v' }]),
  sinkTable('notes', [{ name: 'waggle_rowid' }, { name: 'body' }, { name: 'n' }]),
];

/** A server of the user, with his own ideas of what may stand in a column. */
interface Server {
  createSink(): Sink;
  /** From now on it refuses some rows; the tables are there, and empty. */
  refuse(): Promise<void>;
  mend(): Promise<void>;
  /** Each row as one text. */
  rows(table: (typeof TABLES)[number]): Promise<string[]>;
  show(value: Value): string | null;
}

const text = (row: readonly (string | null)[]): string => JSON.stringify(row);

const refusedThenMended = async (server: Server, seed: number): Promise<void> => {
  using scene = new RunnerScene();
  const random = new Random(seed * 100);
  const start = (): ReturnType<RunnerScene['start']> =>
    scene.start({
      sink: server.createSink(),
      clock: systemClock,
      batch: { rows: 20, delayMs: 1 },
      deadLetters: { store: scene.letters, limit: 10_000 },
    });
  const caughtUp = (runner: SinkRunner): Promise<unknown> =>
    until('the sink to catch up', () => runner.status.state === 'streaming' && runner.status.checkpoint?.seq === scene.source.writer.headSeq, {
      everyMs: 2,
      told: () => JSON.stringify(runner.status),
    });
  let running = start();
  await caughtUp(running.runner);
  await server.refuse();
  for (let round = 0; round < 10; round += 1) {
    for (let index = 0; index < 10; index += 1) scene.source.commit(random, 1 + random.int(12));
    if (random.chance(0.3)) scene.source.recreate('items');
    if (random.chance(0.3)) scene.source.renumber();
    await caughtUp(running.runner);
    if (!random.chance(0.3)) continue;
    await running.stop();
    running = start();
  }
  await caughtUp(running.runner);
  const expected = (table: (typeof TABLES)[number]): string[] => scene.source.expected(table.name).map((row) => text(row.map(server.show)));
  const letters = scene.letters.list('test');
  expect(letters.length).toBeGreaterThan(0);
  for (const table of TABLES) {
    const there = new Set(await server.rows(table));
    const missing = expected(table).filter((row) => !there.has(row)).length;
    expect(missing).toBeLessThanOrEqual(letters.filter((letter) => letter.table === table.name).length);
  }
  await server.mend();
  {
    using store = DeadLetterStore.open(scene.lettersPath);
    expect(store.askRetry('test', null)).toBe(letters.length);
  }
  await until('the letters to go', () => scene.letters.count('test') === 0, { everyMs: 5 });
  await running.stop();
  for (const table of TABLES) expect((await server.rows(table)).sort()).toEqual(expected(table).sort());
};

it.skipIf(noMariadb).each([1, 2])('mysql: triggers and unique indexes of the user, seed %i', { timeout: 120_000 }, async (seed) => {
  await using mariadb = await startMariadb();
  const admin = await createConnection({ uri: mariadb.url, ...EXACT });
  const refusing = (when: string, table: string, column: string): string =>
    `CREATE TRIGGER ${table}_${when} BEFORE ${when} ON ${table} FOR EACH ROW IF NEW.${column} RLIKE '^text [4-9]' THEN SIGNAL SQLSTATE '45000'; END IF`;
  await refusedThenMended(
    {
      createSink: () => createMysqlSink({ url: mariadb.url }),
      refuse: async () => {
        for (const when of ['INSERT', 'UPDATE']) await admin.query(`${refusing(when, 'items', 'value')}; ${refusing(when, 'notes', 'n')}`);
        await admin.query('CREATE UNIQUE INDEX v_unique ON pairs (v(10))');
      },
      mend: async () => {
        for (const when of ['INSERT', 'UPDATE']) await admin.query(`DROP TRIGGER items_${when}; DROP TRIGGER notes_${when}`);
        await admin.query('DROP INDEX v_unique ON pairs');
      },
      rows: async (table) => (await mysqlRows(admin, table)).map(text),
      show: showInMysql,
    },
    seed,
  );
  await admin.end();
});

it.skipIf(noMongo).each([
  ['rs', 1],
  ['standalone', 2],
] as const)('mongodb (%s): unique indexes of the user, seed %i', { timeout: 120_000 }, async (kind, seed) => {
  await using mongo = await startMongoServer(kind);
  await using admin = new MongoClient(mongo.url);
  const db = admin.db();
  await refusedThenMended(
    {
      createSink: () => createMongoSink({ url: mongo.url }),
      refuse: async () => {
        for (const [table, field] of [
          ['items', 'value'],
          ['pairs', 'v'],
        ] as const)
          await db.collection(table).createIndex({ [field]: 1 }, { unique: true, name: 'user_index' });
      },
      mend: async () => {
        for (const table of ['items', 'pairs']) await db.collection(table).dropIndex('user_index');
      },
      rows: async (table) => (await mongoRows(db, table)).map(text),
      show: showInMongo,
    },
    seed,
  );
});
