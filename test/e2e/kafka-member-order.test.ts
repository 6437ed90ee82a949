/** What `waggle sink --from kafka` applies in the order of the hive: schema changes between rows of before and of behind, and whole transactions. */
import Database from 'better-sqlite3';
import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DaemonScene, EQUAL } from '../helpers/daemon-scene.ts';
import { kafkaPossible, type KafkaServer, startKafka } from '../helpers/kafka-server.ts';
import { MEMBER_TARGETS, type MemberTarget } from '../helpers/member-targets.ts';
import { postgresBinaries, serversRequired, startPostgres } from '../helpers/postgres-server.ts';
import { megabytes, peakMemoryBytes } from '../helpers/process-memory.ts';
import { until } from '../helpers/until.ts';
import { waggle } from '../helpers/waggle-command.ts';
import { WaggleProcess } from '../helpers/waggle-process.ts';

const DEADLINE_MS = 120_000;
const required = serversRequired();
const hasKafka = required || kafkaPossible();
const hasPostgres = required || (await postgresBinaries()) !== null;

describe.skipIf(!hasKafka)('a member', { timeout: 2 * DEADLINE_MS }, () => {
  let kafka: KafkaServer;

  beforeAll(async () => {
    kafka = await startKafka();
  }, DEADLINE_MS);

  afterAll(async () => {
    await kafka?.stop();
  });

  const sceneOf = (name: string, { stream = '', target }: { stream?: string; target: string }): DaemonScene =>
    new DaemonScene({
      hive: 'hive.sqlite',
      lines: [`name: ${name}`],
      sinks: { stream: `{ type: kafka, brokers: "${kafka.broker}", ${stream} }`, target: `{ ${target}, enabled: false }` },
    });

  const openHive = (scene: DaemonScene): Disposable & { readonly db: Database.Database } => {
    const db = new Database(scene.hive);
    db.exec('PRAGMA journal_mode = WAL');
    return { db, [Symbol.dispose]: () => db.close() };
  };

  const member = (scene: DaemonScene): WaggleProcess => new WaggleProcess(['sink', 'target', '--from', 'stream', '-c', scene.config]);

  const equal = async (scene: DaemonScene, target: MemberTarget, one: WaggleProcess): Promise<void> => {
    await scene.settled(['stream'], DEADLINE_MS);
    let last = '';
    await until(
      'equal tables',
      async () => {
        const difference = await target.compare(scene).catch((error: unknown) => String(error));
        last = JSON.stringify(difference);
        return typeof difference !== 'string' && difference.missing === EQUAL.missing && difference.surplus === EQUAL.surplus;
      },
      { deadlineMs: DEADLINE_MS, everyMs: 200, told: () => last + one.stderr.slice(-3000) },
    );
    expect(one.exit).toBe(null);
  };

  const PEOPLE = `
    CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, score REAL);
    CREATE TABLE old_tags (id INTEGER PRIMARY KEY, tag TEXT);
    WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 60) INSERT INTO people SELECT i, 'p' || i, i / 4.0 FROM n;
    INSERT INTO old_tags VALUES (1, 'a'), (2, 'b')`;

  it.each(
    [
      ['postgres', 'one topic for all'],
      ['mysql', 'one topic for all'],
      ['mongodb', 'one topic a table'],
      ['sqlite', 'one topic a table'],
    ].filter(([kind = '']) => required || MEMBER_TARGETS[kind]!.possible),
  )('follows renamed, dropped and new columns and tables into %s: %s', async (kind = '', topics = '') => {
    const single = topics === 'one topic for all';
    await using target = await MEMBER_TARGETS[kind]!.open();
    const name = `forms-${kind}${single ? '-single' : ''}`;
    await using scene = sceneOf(name, { stream: single ? `topic: ${name}-rows` : '', target: target.sink });
    using hive = openHive(scene);
    hive.db.exec(PEOPLE);
    await using daemon = await scene.startReady();
    await using one = member(scene);
    await equal(scene, target, one);
    expect(await one.stop()).toEqual({ code: 0, signal: null });
    // Behind these, rows of before and of behind stand in one batch.
    for (const step of [
      "UPDATE people SET name = 'before' WHERE id = 1",
      'ALTER TABLE people RENAME COLUMN name TO title',
      'ALTER TABLE people ADD COLUMN age INTEGER DEFAULT 5',
      "UPDATE people SET title = 'between' WHERE id = 2",
      'ALTER TABLE people DROP COLUMN score',
      'ALTER TABLE people ADD COLUMN score TEXT',
      "UPDATE people SET score = 'new' WHERE id = 3",
      'ALTER TABLE old_tags RENAME TO tags',
      "INSERT INTO tags VALUES (3, 'c')",
    ])
      hive.db.exec(step);
    await using two = member(scene);
    await equal(scene, target, two);
    expect(await target.columns(scene, 'people')).toEqual(['age', 'id', 'score', 'title']);
    // There and back, and away for good; a restart of the publisher knows where it was.
    expect(await daemon.stop()).toEqual({ code: 0, signal: null });
    await using _again = await scene.startReady();
    hive.db.exec(
      "ALTER TABLE people RENAME COLUMN title TO name; ALTER TABLE people RENAME COLUMN name TO title; UPDATE people SET title = 'back' WHERE id = 4",
    );
    await equal(scene, target, two);
    hive.db.exec('ALTER TABLE people RENAME COLUMN title TO label; UPDATE people SET age = 7 WHERE id = 5');
    await equal(scene, target, two);
    expect(await target.columns(scene, 'people')).toEqual(['age', 'id', 'label', 'score']);
    expect(two.lines.filter(({ code }) => code !== undefined)).toEqual([]);
  });

  it('warns of a renamed column that it cannot follow over several partitions, and is told all rows by resync', async () => {
    await using target = await MEMBER_TARGETS['sqlite']!.open();
    await using scene = sceneOf('apart', { stream: 'topics: { partitions: 2 }', target: target.sink });
    using hive = openHive(scene);
    hive.db.exec(PEOPLE);
    await using _daemon = await scene.startReady();
    await using one = member(scene);
    await equal(scene, target, one);
    hive.db.exec('ALTER TABLE people ADD COLUMN age INTEGER; UPDATE people SET age = 1');
    await equal(scene, target, one);
    expect(one.lines.filter(({ code }) => code !== undefined)).toEqual([]);
    hive.db.exec('ALTER TABLE people RENAME COLUMN name TO title; UPDATE people SET age = 2 WHERE id < 30');
    const warnings = await until(
      'both partitions to warn',
      () => {
        const found = one.lines.filter(({ code }) => code === 'SINK_TABLE_MISFIT');
        return found.length === 2 && found;
      },
      { deadlineMs: DEADLINE_MS, told: () => one.stderr.slice(-3000) },
    );
    expect(warnings).toMatchObject(
      [1, 2].map(() => ({ topic: 'apart.people', table: 'people', columns: ['title'], hint: expect.stringMatching(/resync/) })),
    );
    expect(waggle(['resync', 'stream', 'people', '-c', scene.config])).toMatchObject({ status: 0 });
    await equal(scene, target, one);
  });

  /** At length: WAGGLE_LARGE_MB=1000. */
  const LARGE_MB = Number(process.env['WAGGLE_LARGE_MB'] ?? 40);
  const LIMIT_MB = 300;

  it.skipIf(!hasPostgres)(
    `applies each transaction of the hive whole, one of ${LARGE_MB} MB among them, with less than ${LIMIT_MB} MB`,
    { timeout: DEADLINE_MS + LARGE_MB * 1000 },
    async () => {
      await using postgres = await startPostgres();
      const client = new Client({ connectionString: postgres.url });
      await client.connect();
      await client.query(HISTORY);
      await using scene = sceneOf('whole', {
        stream: 'topic: whole-rows, fill: false, tables: { "*": { columns: { add: { txid: $txid } } } }',
        target: `type: postgres, url: "${postgres.url}"`,
      });
      using hive = openHive(scene);
      hive.db.exec('CREATE TABLE a (id INTEGER PRIMARY KEY, v TEXT); CREATE TABLE b (id INTEGER PRIMARY KEY, v TEXT)');
      await using _daemon = await scene.startReady();
      const inserts = ['a', 'b'].map((table) => hive.db.prepare(`INSERT INTO ${table} (v) VALUES (?)`));
      /** Of rows of 1 kB, in both tables. */
      const write = hive.db.transaction((rows: number) => {
        for (let row = 0; row < rows; row += 1) inserts[row % 2]!.run(`${row} ${'x'.repeat(1000)}`);
      });
      const sizes = Array.from({ length: 60 }, (_, index) => 2 + ((index * 37) % 211));
      sizes.splice(30, 0, LARGE_MB * 1000);
      for (const rows of sizes) write(rows);
      await scene.settled(['stream'], DEADLINE_MS + LARGE_MB * 500);
      await using one = member(scene);
      const all = sizes.reduce((sum, rows) => sum + rows, 0);
      await until(
        'all rows',
        async () => Number((await client.query<{ sum: string | null }>('SELECT sum(rows) FROM applied')).rows[0]!.sum) === all,
        { deadlineMs: DEADLINE_MS + LARGE_MB * 500, everyMs: 300, told: () => one.stderr.slice(-3000) },
      );
      const { rows } = await client.query<{ rows: string; xids: string }>(
        'SELECT sum(rows)::text AS rows, count(DISTINCT xid)::text AS xids FROM applied GROUP BY txid ORDER BY min(xid)',
      );
      // Each of them whole, by one transaction of Postgres; several may come in one.
      expect(rows.map((each) => [Number(each.rows), Number(each.xids)]).sort(byRows)).toEqual(sizes.map((size) => [size, 1]).sort(byRows));
      const peak = megabytes(peakMemoryBytes([one.pid]));
      console.log(`memory of the member: ${peak} MB at most`);
      expect(peak).toBeLessThan(LIMIT_MB);
      expect(one.lines.filter(({ code }) => code !== undefined)).toEqual([]);
      expect(one.exit).toBe(null);
      await client.end();
    },
  );
});

const byRows = ([a = 0]: readonly number[], [b = 0]: readonly number[]): number => a - b;

/** How many rows of which transaction of the hive each transaction of Postgres wrote. */
const HISTORY = `
  CREATE TABLE a (id bigint PRIMARY KEY, v text, txid text);
  CREATE TABLE b (id bigint PRIMARY KEY, v text, txid text);
  CREATE TABLE applied (txid text, xid bigint, rows bigint);
  CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO applied SELECT txid, txid_current(), count(*) FROM written GROUP BY txid; RETURN NULL; END $$;
  CREATE TRIGGER note AFTER INSERT ON a REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION note();
  CREATE TRIGGER note AFTER INSERT ON b REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION note()`;
