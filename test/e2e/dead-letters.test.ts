/** What the user sees of refused rows and of a target that is not as it should be, through the real command line. */
import Database from 'better-sqlite3';
import { Client } from 'pg';
import { expect, it } from 'vitest';
import { DaemonScene } from '../helpers/daemon-scene.ts';
import { postgresBinaries, serversRequired, startPostgres } from '../helpers/postgres-server.ts';
import { sinkStatus } from '../helpers/settled.ts';
import { until } from '../helpers/until.ts';
import { waggle } from '../helpers/waggle-command.ts';

const hasPostgres = serversRequired() || (await postgresBinaries()) !== null;

const openHive = (scene: DaemonScene): Database.Database => {
  const hive = new Database(scene.hive);
  hive.exec(
    "PRAGMA journal_mode = WAL; CREATE TABLE t (id TEXT PRIMARY KEY, v); INSERT INTO t VALUES ('a', 'first'), (NULL, 'SECRET'), (NULL, 'SECRET')",
  );
  return hive;
};

it('rows with NULL in their key are kept aside, the others flow on; waggle dead-letters tells of them', { timeout: 60_000 }, async () => {
  await using scene = new DaemonScene({ hive: 'app.sqlite', sinks: { copy: '{ type: sqlite, file: copy.sqlite }' } });
  const hive = openHive(scene);
  const run = (...args: string[]): ReturnType<typeof waggle> => waggle([...args, '-c', scene.config]);
  const daemon = await scene.startReady();
  await scene.settled();
  hive.exec("INSERT INTO t VALUES ('b', 'second')");
  await scene.settled();
  const copy = new Database(scene.path('copy.sqlite'), { readonly: true });
  expect(copy.prepare('SELECT id, v FROM t ORDER BY id').raw().all()).toEqual([
    ['a', 'first'],
    ['b', 'second'],
  ]);
  const listed = run('dead-letters', 'list');
  expect(listed.stdout.split('\n').filter((line) => /copy {2}t {2}r null .*a key is NULL.*\[SINK_ROW_REFUSED\]/.test(line)).length).toBe(2);
  expect(listed.stdout + daemon.stderr).not.toContain('SECRET');
  expect(JSON.parse(run('dead-letters', 'show', 'copy', '1').stdout)).toMatchObject([{ id: 1, table: 't', after: { id: null, v: 'SECRET' } }]);
  expect(run('status').stdout).toMatch(/copy: 2 dead letters, the first .* ago: .*key is NULL/);
  expect(JSON.parse(run('status', '--json').stdout).sinks).toMatchObject([{ name: 'copy', state: 'streaming', deadLetters: { letters: 2 } }]);
  expect(run('verify', 'copy')).toMatchObject({ status: 0, stdout: expect.stringMatching(/4 rows {2}the same; 2 dead letters/) });

  // A row that the hive no longer has needs no letter.
  hive.exec('DELETE FROM t WHERE rowid = (SELECT max(rowid) FROM t WHERE id IS NULL)');
  await scene.settled();
  expect(run('dead-letters', 'list').stdout.split('\n').length).toBe(2);
  expect(run('dead-letters', 'discard', 'copy', '9')).toMatchObject({ status: 2, stderr: expect.stringContaining('[NOT_FOUND]') });
  expect(run('dead-letters', 'discard', 'copy', 'x')).toMatchObject({ status: 2, stderr: expect.stringContaining('[USAGE]') });
  expect(run('dead-letters', 'discard', 'copy')).toMatchObject({ status: 0, stdout: '1 dead letter discarded\n' });
  expect(run('dead-letters', 'list').stdout).toBe('no dead letters\n');
  copy.close();
  hive.close();
});

it.skipIf(!hasPostgres)(
  'a text that Postgres cannot hold is a dead letter, and missing once that is discarded; verify says so',
  { timeout: 60_000 },
  async () => {
    await using server = await startPostgres();
    await using scene = new DaemonScene({ hive: 'app.sqlite', sinks: { server: `{ type: postgres, url: "${server.url}" }` } });
    const hive = new Database(scene.hive);
    hive.exec("PRAGMA journal_mode = WAL; CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT); INSERT INTO t VALUES ('a', 'x'), ('b', 'y'), ('c', char(0))");
    const run = (...args: string[]): ReturnType<typeof waggle> => waggle([...args, '-c', scene.config]);
    const daemon = await scene.startReady();
    await scene.settled();
    hive.exec("UPDATE t SET v = 'y' || char(0) WHERE id = 'b'");
    await scene.settled();
    expect(run('dead-letters', 'list', 'server').stdout.split('\n').length).toBe(3);
    expect(run('verify', 'server')).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/^t +3 rows {2}the same; 2 dead letters$/m) as string,
    });
    run('dead-letters', 'discard', 'server');
    expect(run('verify', 'server', '--values').stdout.split('\n')).toEqual([
      expect.stringMatching(/^t +3 rows {2}1 missing, 1 changed$/),
      '  missing  t  id="c"',
      '  changed  t  id="b"',
      '           v',
      '             hive    "y\\u0000"',
      '             target  "y"',
      '2 differences',
      '',
    ]);
    await daemon.stop();
    hive.close();
  },
);

it.skipIf(!hasPostgres)(
  'a refused row is tried again when the target was mended; verify and resync, with a daemon and without',
  { timeout: 90_000 },
  async () => {
    await using server = await startPostgres();
    const admin = new Client({ connectionString: server.url });
    await admin.connect();
    await admin.query('CREATE TABLE t (id text PRIMARY KEY, v varchar(5))');
    await using scene = new DaemonScene({
      hive: 'app.sqlite',
      sinks: { server: `{ type: postgres, url: "${server.url}", tables: { include: [t] } }` },
    });
    const hive = new Database(scene.hive);
    hive.exec("PRAGMA journal_mode = WAL; CREATE TABLE t (id TEXT PRIMARY KEY, v); INSERT INTO t VALUES ('a', 'first'), ('b', 'is too long')");
    const run = (...args: string[]): ReturnType<typeof waggle> => waggle([...args, '-c', scene.config]);
    const daemon = await scene.startReady();
    await scene.settled();
    hive.exec("UPDATE t SET v = 'also too long' WHERE id = 'b'; INSERT INTO t VALUES ('c', 'third')");
    await scene.settled();
    const rows = async (): Promise<unknown[]> => (await admin.query({ text: 'SELECT id, v FROM t ORDER BY id', rowMode: 'array' })).rows as unknown[];
    expect(await rows()).toEqual([
      ['a', 'first'],
      ['c', 'third'],
    ]);
    await admin.query('ALTER TABLE t ALTER COLUMN v TYPE text');
    expect(run('dead-letters', 'retry', 'server').stdout).toMatch(/^1 dead letter will be tried again now/);
    await until('the letter to go', () => run('dead-letters', 'list').stdout === 'no dead letters\n');
    expect(await rows()).toContainEqual(['b', 'also too long']);

    expect(run('verify', 'server')).toMatchObject({ status: 0, stdout: expect.stringContaining('no difference') });
    await admin.query("UPDATE t SET v = 'other' WHERE id = 'a'; DELETE FROM t WHERE id = 'b'; INSERT INTO t VALUES ('z', 'surplus')");
    const found = run('verify', 'server');
    expect(found.status).toBe(1);
    for (const line of ['changed  t  id="a"', 'missing  t  id="b"', 'surplus  t  id="z"', '3 differences']) expect(found.stdout).toContain(line);
    expect(run('status').stdout).toMatch(/server: verified .* ago: 3 rows, 3 differences/);
    expect(run('verify', 'serve')).toMatchObject({ status: 2, stderr: expect.stringMatching(/\[NOT_FOUND\]\n {2}Did you mean server\?/) });
    const shown = run('verify', 'server', '--values').stdout;
    expect(shown).toContain('  changed  t  id="a"\n           v\n             hive    "first"\n             target  "other"\n');
    expect(run('status', '--json').stdout + found.stdout + daemon.stderr).not.toContain('other');
    expect(await daemon.stop()).toEqual({ code: 0, signal: null });

    const resync = run('resync', 'server', 't');
    expect(resync).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('3 differences, mended'),
      stderr: expect.stringContaining('no daemon runs'),
    });
    expect(await rows()).toEqual(hive.prepare('SELECT id, v FROM t ORDER BY id').raw().all());
    expect(sinkStatus(scene.state, 'server')?.state).toBe('closed');
    hive.close();
    await admin.end();
  },
);

it.skipIf(!hasPostgres)('children of a refused parent are refused, too, and come with it when it is retried', { timeout: 90_000 }, async () => {
  await using server = await startPostgres();
  const admin = new Client({ connectionString: server.url });
  await admin.connect();
  await admin.query(`CREATE TABLE parents (id bigint PRIMARY KEY, v varchar(5));
    CREATE TABLE children (id bigint PRIMARY KEY, parent bigint REFERENCES parents, v text);
    CREATE TABLE grandchildren (id bigint PRIMARY KEY, child bigint REFERENCES children)`);
  await using scene = new DaemonScene({ hive: 'app.sqlite', sinks: { server: `{ type: postgres, url: "${server.url}" }` } });
  const hive = new Database(scene.hive);
  hive.exec(`PRAGMA journal_mode = WAL; CREATE TABLE parents (id INTEGER PRIMARY KEY, v TEXT);
    CREATE TABLE children (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parents, v TEXT);
    CREATE TABLE grandchildren (id INTEGER PRIMARY KEY, child INTEGER REFERENCES children)`);
  const run = (...args: string[]): ReturnType<typeof waggle> => waggle([...args, '-c', scene.config]);
  const daemon = await scene.startReady();
  await scene.settled();
  // One transaction, in which only one row is wrong by itself.
  hive.exec(`BEGIN; INSERT INTO parents VALUES (1, 'fits'), (2, 'is too long'), (3, 'fits');
    INSERT INTO children VALUES (10, 1, 'x'), (20, 2, 'x'), (21, 2, 'x'), (30, 3, 'x');
    INSERT INTO grandchildren VALUES (100, 10), (200, 20), (300, 30); COMMIT`);
  await scene.settled();
  const refused = run('dead-letters', 'list').stdout.split('\n').slice(0, -1);
  expect(refused.map((line) => /server {2}(\w+) {2}c (\d+)/.exec(line)?.slice(1, 3))).toEqual([
    ['parents', '2'],
    ['children', '20'],
    ['children', '21'],
    ['grandchildren', '200'],
  ]);
  expect(refused[1]).toMatch(/table children: the target refuses a row \(SQLSTATE 23503, constraint children_parent_fkey\)/);
  const ids = async (table: string): Promise<unknown[]> =>
    (await admin.query({ text: `SELECT id::int FROM ${table} ORDER BY id`, rowMode: 'array' })).rows.flat() as unknown[];
  expect([await ids('parents'), await ids('children'), await ids('grandchildren')]).toEqual([
    [1, 3],
    [10, 30],
    [100, 300],
  ]);
  await admin.query('ALTER TABLE parents ALTER COLUMN v TYPE text');
  expect(run('dead-letters', 'retry', 'server', /^\d+/.exec(refused[0]!)![0]).stdout).toMatch(/^1 dead letter will be tried/);
  await until('all letters to go', () => run('dead-letters', 'list').stdout === 'no dead letters\n');
  expect([await ids('parents'), await ids('children'), await ids('grandchildren')]).toEqual([
    [1, 2, 3],
    [10, 20, 21, 30],
    [100, 200, 300],
  ]);
  await daemon.stop();
  hive.close();
  await admin.end();
});
