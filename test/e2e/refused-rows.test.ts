/** What `dead-letters.test.ts` shows with Postgres, against MariaDB and MongoDB: a refused row, its retry, verify and resync. */
import Database from 'better-sqlite3';
import { MongoClient } from 'mongodb';
import { createConnection, type RowDataPacket } from 'mysql2/promise';
import { expect, it } from 'vitest';
import { DaemonScene } from '../helpers/daemon-scene.ts';
import { mariadbBinary, startMariadb } from '../helpers/mariadb-server.ts';
import { mongoServerPossible, startMongoServer } from '../helpers/mongo-server.ts';
import { serversRequired } from '../helpers/postgres-server.ts';
import { sinkStatus } from '../helpers/settled.ts';
import { until } from '../helpers/until.ts';
import { waggle } from '../helpers/waggle-command.ts';

const hasMariadb = serversRequired() || (await mariadbBinary()) !== null;
const hasMongo = serversRequired() || mongoServerPossible();

/** A server whose table `t` refuses the values of row `b`. */
interface Refusing extends AsyncDisposable {
  /** Of the configuration. */
  readonly sink: string;
  rows(): Promise<[string, string][]>;
  /** Lets the values in. */
  mend(): Promise<void>;
  /** One row changed (`a`), one missing (`b`), one surplus (`z`). */
  spoil(): Promise<void>;
}

const refusingMariadb = async (): Promise<Refusing> => {
  const server = await startMariadb();
  const admin = await createConnection({ uri: server.url, multipleStatements: true });
  await admin.query('CREATE TABLE t (id varchar(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin PRIMARY KEY, v varchar(5))');
  return {
    sink: `type: mysql, url: "${server.url}"`,
    rows: async () =>
      (await admin.query<RowDataPacket[][]>({ sql: 'SELECT id, v FROM t ORDER BY id', rowsAsArray: true }))[0] as unknown as [string, string][],
    mend: async () => void (await admin.query('ALTER TABLE t MODIFY COLUMN v text')),
    spoil: async () =>
      void (await admin.query("UPDATE t SET v = 'other' WHERE id = 'a'; DELETE FROM t WHERE id = 'b'; INSERT INTO t VALUES ('z', 'surplus')")),
    [Symbol.asyncDispose]: async () => {
      await admin.end();
      await server.stop();
    },
  };
};

/** What refuses there is a unique index: two documents of somebody else have the values. */
const refusingMongo = async (kind: 'rs' | 'standalone'): Promise<Refusing> => {
  const server = await startMongoServer(kind);
  const admin = new MongoClient(server.url);
  const t = admin.db().collection<{ _id: string; id: string; v: string }>('t');
  await t.createIndex({ v: 1 }, { unique: true, name: 'values' });
  const others = ['is too long', 'also too long'].map((v) => ({ _id: `other ${v}`, id: '', v }));
  await t.insertMany(others);
  const theirs = { _id: { $in: others.map(({ _id }) => _id) } };
  return {
    sink: `type: mongodb, url: "${server.url}"`,
    rows: async () => {
      const found = await t
        .find({ id: { $gt: '' } })
        .sort({ id: 1 })
        .toArray();
      return found.map(({ id, v }): [string, string] => [id, v]);
    },
    mend: async () => {
      await t.deleteMany(theirs);
    },
    spoil: async () => {
      await t.updateOne({ _id: 'a' }, { $set: { v: 'other' } });
      await t.deleteOne({ _id: 'b' });
      await t.insertOne({ _id: 'z', id: 'z', v: 'surplus' });
    },
    [Symbol.asyncDispose]: async () => {
      await admin.close();
      await server.stop();
    },
  };
};

it.skipIf(!hasMariadb)('mysql: a refused row is tried again when the target was mended; verify and resync', { timeout: 90_000 }, async () => {
  await using target = await refusingMariadb();
  await refusedAndMended(target);
});

it.skipIf(!hasMongo).each(['rs', 'standalone'] as const)(
  'mongodb (%s): a refused row is tried again when the target was mended; verify and resync',
  { timeout: 120_000 },
  async (kind) => {
    await using target = await refusingMongo(kind);
    await refusedAndMended(target);
  },
);

/** With a daemon, then without. */
const refusedAndMended = async (target: Refusing): Promise<void> => {
  await using scene = new DaemonScene({ hive: 'app.sqlite', sinks: { server: `{ ${target.sink}, tables: { include: [t] } }` } });
  const hive = new Database(scene.hive);
  hive.exec("PRAGMA journal_mode = WAL; CREATE TABLE t (id TEXT PRIMARY KEY, v); INSERT INTO t VALUES ('a', 'first'), ('b', 'is too long')");
  const run = (...args: string[]): ReturnType<typeof waggle> => waggle([...args, '-c', scene.config]);
  const daemon = await scene.startReady();
  await scene.settled();
  hive.exec("UPDATE t SET v = 'also too long' WHERE id = 'b'; INSERT INTO t VALUES ('c', 'third')");
  await scene.settled();
  expect(await target.rows()).toEqual([
    ['a', 'first'],
    ['c', 'third'],
  ]);
  await target.mend();
  expect(run('dead-letters', 'retry', 'server').stdout).toMatch(/^1 dead letter will be tried again now/);
  await until('the letter to go', () => run('dead-letters', 'list').stdout === 'no dead letters\n');
  expect(await target.rows()).toContainEqual(['b', 'also too long']);

  expect(run('verify', 'server')).toMatchObject({ status: 0, stdout: expect.stringContaining('no difference') });
  await target.spoil();
  const found = run('verify', 'server');
  expect(found.status).toBe(1);
  for (const line of ['changed  t  id="a"', 'missing  t  id="b"', 'surplus  t  id="z"', '3 differences']) expect(found.stdout).toContain(line);
  expect(run('status').stdout).toMatch(/server: verified .* ago: 3 rows, 3 differences/);
  expect(run('verify', 'serve')).toMatchObject({ status: 2, stderr: expect.stringMatching(/\[NOT_FOUND\]\n {2}Did you mean server\?/) });
  expect(await daemon.stop()).toEqual({ code: 0, signal: null });

  const resync = run('resync', 'server', 't');
  expect(resync).toMatchObject({
    status: 0,
    stdout: expect.stringContaining('3 differences, mended'),
    stderr: expect.stringContaining('no daemon runs'),
  });
  expect(await target.rows()).toEqual(hive.prepare('SELECT id, v FROM t ORDER BY id').raw().all());
  expect(sinkStatus(scene.state, 'server')?.state).toBe('closed');
  hive.close();
};
