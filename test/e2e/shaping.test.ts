/** Real Hive, the real daemon, shaped tables in SQLite and Postgres. What they must hold is asked of the hive in SQL. */
import { createHmac } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { MongoClient } from 'mongodb';
import { createConnection, type RowDataPacket } from 'mysql2/promise';
import { Client } from 'pg';
import { expect, it } from 'vitest';
import { DaemonScene, EQUAL } from '../helpers/daemon-scene.ts';
import { HiveApplication } from '../helpers/hive-application.ts';
import { mariadbBinary, startMariadb } from '../helpers/mariadb-server.ts';
import { mongoServerPossible, startMongoServer } from '../helpers/mongo-server.ts';
import { postgresBinaries, serversRequired, startPostgres } from '../helpers/postgres-server.ts';
import { sinkStatus } from '../helpers/settled.ts';
import { startTcpProxy } from '../helpers/tcp-proxy.ts';
import { until } from '../helpers/until.ts';
import { waggle } from '../helpers/waggle-command.ts';

const SEED = Number(process.env['WAGGLE_E2E_SEED'] ?? 11);
const hasPostgres = serversRequired() || (await postgresBinaries()) !== null;
const hasMariadb = serversRequired() || (await mariadbBinary()) !== null;
const hasMongo = serversRequired() || mongoServerPossible();
const MASK_KEY = 'a long and random text';

const SHAPING = `mask_key: "\${MASK_KEY}", transform: { module: shape.ts }, tables: {
  include: [accounts, posts, sessions],
  "*": { to: "app_*", columns: { types: { "*At": timestamptz } } },
  accounts: {
    key: [handle], where: "verified == 1",
    columns: {
      exclude: [avatar, "ronin.*By", "ronin.updatedAt"], rename: { "ronin.createdAt": created_at },
      types: { "*At": timestamptz, verified: boolean, settings: json }, mask: { email: hash, name: { truncate: 3 } }, add: { tenant: $hive, big: false } } },
  posts: { deleted: soft, columns: { include: [id, title, likes, publishedAt] } },
  sessions: { history: true } }`.replaceAll('\n', ' ');

const MODULE = `export default (row: Record<string, unknown>, { table }: { table: string }) =>
  table === 'app_accounts' ? { big: Number(row['age']) > 1e9 ? 1 : 0 } : {};\n`;

type Row = Record<string, unknown>;

const inHive = (path: string, sql: string): Row[] => {
  const database = new Database(path, { readonly: true });
  try {
    return database.prepare<[], Row>(sql).all();
  } finally {
    database.close();
  }
};

const ACCOUNTS = `SELECT id, "ronin.createdAt" AS created_at, handle, email, substr(name, 1, 3) AS name, verified, age, settings, 'main' AS tenant,
  age > 1e9 AS big FROM accounts WHERE verified = 1 ORDER BY handle`;

const expectedAccounts = (hive: string): Row[] =>
  inHive(hive, ACCOUNTS).map((row) => ({
    ...row,
    big: row['big'] ?? 0,
    email: createHmac('sha256', MASK_KEY).update(String(row['email'])).digest('hex'),
  }));

/** Of a history: the last row of each session, as it is alive. */
const LIVING = `SELECT h.id, h.url FROM app_sessions h WHERE h.waggle_op <> 'd' AND NOT EXISTS
  (SELECT 1 FROM app_sessions l WHERE l.id = h.id AND l.waggle_seq > h.waggle_seq) ORDER BY h.id`;

it.skipIf(!hasPostgres)('fills and follows shaped tables, over kills of the daemon', { timeout: 120_000 }, async () => {
  await using postgres = await startPostgres();
  await using scene = new DaemonScene({
    sinks: { copy: `{ type: sqlite, file: copy.sqlite, ${SHAPING} }`, server: `{ type: postgres, url: "${postgres.url}", ${SHAPING} }` },
  });
  writeFileSync(scene.path('shape.ts'), MODULE);
  const env = { MASK_KEY };
  await HiveApplication.run({ dir: scene.app, ops: 80, seed: SEED });
  let daemon = await scene.startReady({ env });
  const streaming = (): Promise<unknown> =>
    until('both sinks to stream', () => scene.sinks.every((name) => sinkStatus(scene.state, name)?.state === 'streaming'));
  await streaming();
  const application = HiveApplication.start({ dir: scene.app, ops: 500, seed: SEED + 1, rate: 150, exit: 'exit' });
  for (let kills = 0; kills < 3; kills += 1) {
    await delay(700);
    await daemon.kill();
    daemon = await scene.startReady({ env });
  }
  await application.ended;
  await streaming();
  await scene.settled();
  for (const sink of scene.sinks) {
    const verified = waggle(['verify', sink, '-c', scene.config], { env });
    expect(verified).toMatchObject({ status: 0, stdout: expect.stringContaining('no difference') });
  }
  expect(await daemon.stop()).toEqual({ code: 0, signal: null });

  const accounts = expectedAccounts(scene.hive);
  const posts = inHive(scene.hive, 'SELECT id, title, likes, "publishedAt" AS at FROM posts ORDER BY id');
  const sessions = inHive(scene.hive, 'SELECT id, url FROM sessions ORDER BY id');
  expect(accounts.length * posts.length * sessions.length).toBeGreaterThan(0);

  const copy = (sql: string): Row[] => inHive(scene.path('copy.sqlite'), sql);
  expect(copy('SELECT * FROM app_accounts ORDER BY handle')).toEqual(accounts);
  expect(copy('SELECT id, title, likes, publishedAt AS at FROM app_posts WHERE deleted_at IS NULL ORDER BY id')).toEqual(posts);
  expect(copy(LIVING)).toEqual(sessions);

  const client = new Client({ connectionString: postgres.url });
  // A failed assertion stops the server under it.
  client.on('error', () => {});
  await client.connect();
  const server = async (sql: string): Promise<Row[]> => (await client.query<Row>(sql)).rows;
  const types = await server(
    "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'app_accounts' AND data_type NOT IN ('text', 'bigint') ORDER BY 1",
  );
  expect(types.map((column) => [column['column_name'], column['data_type']])).toEqual([
    ['age', expect.stringMatching(/numeric|double/)],
    ['big', 'boolean'],
    ['created_at', 'timestamp with time zone'],
    ['settings', 'jsonb'],
    ['verified', 'boolean'],
  ]);
  const utc = `to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS created_at`;
  const rows = await server(
    `SELECT id, handle, email, name, verified::int, age::float8, settings, tenant, big::int, ${utc} FROM app_accounts ORDER BY handle COLLATE "C"`,
  );
  expect(rows).toEqual(accounts.map((row) => ({ ...row, settings: JSON.parse(String(row['settings'])) })));
  expect(await server('SELECT count(*)::int AS n FROM app_posts WHERE deleted_at IS NULL')).toEqual([{ n: posts.length }]);
  // What was deleted stays, and none of it is in the hive.
  const gone = await server('SELECT id FROM app_posts WHERE deleted_at IS NOT NULL ORDER BY id COLLATE "C"');
  expect(gone).toEqual(copy('SELECT id FROM app_posts WHERE deleted_at IS NOT NULL ORDER BY id'));
  expect(gone.length).toBeGreaterThan(0);
  expect(gone.filter(({ id }) => posts.some((post) => post['id'] === id))).toEqual([]);
  const history = 'SELECT count(*) AS n FROM app_sessions';
  expect(Number((await server(history))[0]!['n'])).toBe(copy(history)[0]!['n']);
  expect(await server(LIVING.replace('ORDER BY h.id', 'ORDER BY h.id COLLATE "C"'))).toEqual(sessions);
  await client.end();
});

it.skipIf(!hasMariadb || !hasMongo)('shapes tables for MariaDB and MongoDB, with types of theirs', { timeout: 150_000 }, async () => {
  await using mariadb = await startMariadb();
  await using mongo = await startMongoServer('rs');
  await using scene = new DaemonScene({
    sinks: { maria: `{ type: mysql, url: "${mariadb.url}", ${SHAPING} }`, documents: `{ type: mongodb, url: "${mongo.url}", ${SHAPING} }` },
  });
  writeFileSync(scene.path('shape.ts'), MODULE);
  const env = { MASK_KEY };
  await HiveApplication.run({ dir: scene.app, ops: 80, seed: SEED });
  const daemon = await scene.startReady({ env });
  await until('both sinks to stream', () => scene.sinks.every((name) => sinkStatus(scene.state, name)?.state === 'streaming'));
  await HiveApplication.run({ dir: scene.app, ops: 200, seed: SEED + 1, exit: 'exit' });
  await scene.settled();
  for (const sink of scene.sinks)
    expect(waggle(['verify', sink, '-c', scene.config], { env })).toMatchObject({ status: 0, stdout: expect.stringContaining('no difference') });
  expect(await daemon.stop()).toEqual({ code: 0, signal: null });

  const accounts = expectedAccounts(scene.hive).map((row): Row => ({ ...row, settings: JSON.parse(String(row['settings'])) as unknown }));
  const posts = inHive(scene.hive, 'SELECT id FROM posts ORDER BY id').map(({ id }) => id);
  const sessions = inHive(scene.hive, 'SELECT id FROM sessions ORDER BY id').map(({ id }) => id);
  const gone = (ids: readonly unknown[]): unknown[] => ids.filter((id) => posts.includes(id));

  const connection = await createConnection({ uri: mariadb.url, dateStrings: true });
  const select = async (sql: string): Promise<Row[]> => (await connection.query<RowDataPacket[]>(sql))[0];
  const types = await select("SHOW COLUMNS FROM app_accounts WHERE Type IN ('tinyint(1)', 'datetime(6)')");
  expect(new Set(types.map((column) => column['Field']))).toEqual(new Set(['big', 'created_at', 'verified']));
  const utc = "CONCAT(SUBSTR(DATE_FORMAT(created_at, '%Y-%m-%dT%H:%i:%s.%f'), 1, 23), 'Z') AS created_at";
  const rows = await select(
    `SELECT id, handle, email, name, verified, CAST(age AS CHAR) AS age, CAST(settings AS CHAR) AS settings, tenant, big, ${utc} FROM app_accounts ORDER BY handle`,
  );
  expect(
    rows.map((row) => ({ ...row, settings: JSON.parse(String(row['settings'])), age: row['age'] === null ? null : Number(row['age']) })),
  ).toEqual(accounts);
  const idsIn = async (condition: string): Promise<unknown[]> =>
    (await select(`SELECT id FROM app_posts WHERE ${condition} ORDER BY id`)).map(({ id }) => id);
  expect(await idsIn('deleted_at IS NULL')).toEqual(posts);
  const deleted = await idsIn('deleted_at IS NOT NULL');
  expect(deleted.length).toBeGreaterThan(0);
  expect(gone(deleted)).toEqual([]);
  expect((await select(LIVING)).map(({ id }) => id)).toEqual(sessions);
  await connection.end();

  await using client = new MongoClient(mongo.url);
  const db = client.db();
  const documents = await db
    .collection('app_accounts')
    .find({}, { projection: { _id: 0 } })
    .sort({ handle: 1 })
    .toArray();
  const asRow = (document: Row): Row => ({ ...document, created_at: (document['created_at'] as Date).toISOString() });
  expect(documents.map(asRow)).toEqual(accounts.map((row) => ({ ...row, verified: true, big: Boolean(row['big']) })));
  const left = await db.collection('app_posts').find({ deleted_at: null }).sort({ id: 1 }).toArray();
  expect(left.map(({ id }) => id as unknown)).toEqual(posts);
  const marked = await db
    .collection('app_posts')
    .find({ deleted_at: { $type: 'date' } })
    .sort({ id: 1 })
    .toArray();
  expect(marked.map(({ id }) => id as unknown)).toEqual(deleted);
});

it('a name that is not there stops its sink, with the nearest one; the others go on', { timeout: 60_000 }, async () => {
  await using scene = new DaemonScene({
    sinks: {
      copy: '{ type: sqlite, file: copy.sqlite }',
      wrong: '{ type: sqlite, file: wrong.sqlite, tables: { accounts: { columns: { exclude: [emial] } } } }',
    },
  });
  await HiveApplication.run({ dir: scene.app, ops: 20, seed: SEED });
  const daemon = await scene.startReady();
  const stopped = await until('the sink to stop', () => {
    const status = sinkStatus(scene.state, 'wrong');
    return status?.state === 'stopped' ? status : null;
  });
  expect(stopped.error?.message).toMatch(
    /waggle\.yaml:\d+:79: sinks\.wrong\.tables\.accounts\.columns\.exclude: the table accounts has no column emial; did you mean `email`\?$/,
  );
  expect(stopped.error?.code).toBe('CONFIG_INVALID');
  await until('the other to stream', () => sinkStatus(scene.state, 'copy')?.state === 'streaming');
  await daemon.stop();
});

it('an expression that is none ends the daemon before it begins, and names sink and line', { timeout: 60_000 }, async () => {
  await using scene = new DaemonScene({
    sinks: { copy: '{ type: sqlite, file: copy.sqlite }', wrong: '{ type: jsonl, file: wrong.jsonl, tables: { accounts: { where: "age >" } } }' },
  });
  await HiveApplication.run({ dir: scene.app, ops: 20, seed: SEED });
  const daemon = scene.start();
  expect(await daemon.exited).toEqual({ code: 2, signal: null });
  expect(daemon.stderr).toMatch(/waggle: \S+waggle\.yaml:\d+:\d+: sinks\.wrong\.tables\.accounts\.where: `age >`: .* \[CONFIG_INVALID\]\n/);
});

it('two sinks on one table are refused before any of them begins', { timeout: 60_000 }, async () => {
  const url = 'postgres://u:hunter2@127.0.0.1:1/db';
  await using scene = new DaemonScene({
    sinks: { one: `{ type: postgres, url: "${url}" }`, two: `{ type: postgres, url: "${url.replace('127.0.0.1', 'localhost')}", schema: public }` },
  });
  await HiveApplication.run({ dir: scene.app, ops: 20, seed: SEED });
  const daemon = scene.start();
  expect(await daemon.exited).toEqual({ code: 2, signal: null });
  expect(daemon.stderr).toContain('the sinks one and two would both write the table');
  expect(daemon.stderr).not.toContain('hunter2');
});

it.skipIf(!hasPostgres)(
  'two sinks on one table by two addresses of one server: the second stops before it writes, the first goes on',
  { timeout: 60_000 },
  async () => {
    await using server = await startPostgres();
    await using proxy = await startTcpProxy({ host: '127.0.0.1', port: server.port });
    const other = `postgres://postgres@127.0.0.1:${proxy.port}/postgres`;
    await using scene = new DaemonScene({
      sinks: {
        one: `{ type: postgres, url: "${server.url}" }`,
        two: `{ type: postgres, url: "${other}", schema: public }`,
        beside: `{ type: postgres, url: "${other}", schema: beside }`,
      },
    });
    await HiveApplication.run({ dir: scene.app, ops: 20, seed: SEED });
    const daemon = await scene.startReady();
    const stopped = await until('one of both to stop', () => ['one', 'two'].find((name) => sinkStatus(scene.state, name)?.state === 'stopped'));
    expect(sinkStatus(scene.state, stopped)).toMatchObject({
      checkpoint: null,
      error: { code: 'CONFIG_INVALID', message: expect.stringMatching(/^the sinks (one and two|two and one) would both write the table/) as string },
    });
    await scene.settled(['beside', stopped === 'one' ? 'two' : 'one']);
    await daemon.stop();
    expect(await scene.comparePostgres(server.url)).toMatchObject(EQUAL);
  },
);
