/** `waggle sink --from kafka` into each kind of target: emptied tables over several partitions, a killed member, refused rows, several hives. */
import Database from 'better-sqlite3';
import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { GroupStatus } from '../../src/stream/kafka/member-status.ts';
import { DaemonScene, EQUAL } from '../helpers/daemon-scene.ts';
import { KafkaProbe } from '../helpers/kafka-probe.ts';
import { kafkaPossible, type KafkaServer, startKafka } from '../helpers/kafka-server.ts';
import { MEMBER_TARGETS, type MemberTarget } from '../helpers/member-targets.ts';
import { postgresBinaries, serversRequired, startPostgres } from '../helpers/postgres-server.ts';
import { until } from '../helpers/until.ts';
import { waggle } from '../helpers/waggle-command.ts';
import { WaggleProcess } from '../helpers/waggle-process.ts';

const DEADLINE_MS = 120_000;
const required = serversRequired();
const hasKafka = required || kafkaPossible();
const hasPostgres = required || (await postgresBinaries()) !== null;

describe.skipIf(!hasKafka)('members of a consumer group', { timeout: 2 * DEADLINE_MS }, () => {
  let kafka: KafkaServer;
  let probe: KafkaProbe;

  beforeAll(async () => {
    kafka = await startKafka();
    probe = await KafkaProbe.open(kafka.broker);
  }, DEADLINE_MS);

  afterAll(async () => {
    await probe?.[Symbol.asyncDispose]();
    await kafka?.stop();
  });

  const sceneOf = (name: string, { stream, target }: { stream: string; target: string }): DaemonScene =>
    new DaemonScene({
      hive: 'hive.sqlite',
      lines: [`name: ${name}`, 'capture: { delete_all: event }'],
      sinks: { stream: `{ type: kafka, brokers: "${kafka.broker}", ${stream} }`, target: `{ ${target}, enabled: false }` },
    });

  const openHive = (scene: DaemonScene): Database.Database => {
    const db = new Database(scene.hive);
    db.exec(`PRAGMA journal_mode = WAL;
      CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, score REAL);
      CREATE TABLE tags (kind TEXT, id TEXT, v TEXT, PRIMARY KEY (kind, id))`);
    return db;
  };

  const addTags = (db: Database.Database, kind: string, count: number): void => {
    const insert = db.prepare('INSERT INTO tags VALUES (?, ?, ?)');
    db.transaction(() => {
      for (let id = 0; id < count; id += 1) insert.run(kind, `tag ${id}`, `é${id}`);
    })();
  };

  const member = (scene: DaemonScene): WaggleProcess => new WaggleProcess(['sink', 'target', '--from', 'stream', '-c', scene.config]);

  const statusOf = (scene: DaemonScene): GroupStatus => {
    const { stdout, stderr, status } = waggle(['sink', 'target', '--from', 'stream', '--status', '--json', '-c', scene.config]);
    expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
    return JSON.parse(stdout) as GroupStatus;
  };

  const equal = async (scene: DaemonScene, target: MemberTarget, members: readonly WaggleProcess[]): Promise<void> => {
    await scene.settled(['stream'], DEADLINE_MS);
    let last = '';
    await until(
      'equal tables',
      async () => {
        // Not all tables may be there yet.
        const difference = await target.compare(scene).catch((error: unknown) => String(error));
        last = JSON.stringify(difference);
        return typeof difference !== 'string' && difference.missing === EQUAL.missing && difference.surplus === EQUAL.surplus;
      },
      { deadlineMs: DEADLINE_MS, everyMs: 300, told: () => last + members.map(({ stderr }) => stderr.slice(-1500)).join('\n--\n') },
    );
    for (const each of members) expect(each.exit).toBe(null);
  };

  it.each(['mysql', 'mongodb', 'sqlite'].filter((kind) => required || MEMBER_TARGETS[kind]!.possible))(
    '%s: rows, an emptied table, a new column, a killed member: equal tables',
    async (kind) => {
      await using target = await MEMBER_TARGETS[kind]!.open();
      await using scene = sceneOf(`to-${kind}`, { stream: 'topics: { partitions: 3 }', target: target.sink });
      using db = closing(openHive(scene));
      addTags(db.open, 'old', 120);
      db.open.exec(
        "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 90) INSERT INTO people SELECT i, 'p' || i, i / 4.0 FROM n",
      );
      await using _daemon = await scene.startReady();
      await scene.settled(['stream'], DEADLINE_MS);
      await using one = member(scene);
      await using two = member(scene);
      await equal(scene, target, [one, two]);
      // Somewhere in these a member dies.
      db.open.exec("DELETE FROM people WHERE id % 7 = 0; UPDATE people SET name = 'x' || id, score = score + 1 WHERE id % 2 = 0");
      await one.kill();
      db.open.exec('DELETE FROM tags');
      addTags(db.open, 'new', 40);
      db.open.exec(
        'ALTER TABLE people ADD COLUMN age INTEGER DEFAULT 5; UPDATE people SET age = id WHERE id % 3 = 0; DELETE FROM people WHERE id = 3',
      );
      await using three = member(scene);
      await equal(scene, target, [two, three]);
      const status = await until(
        'a group of two',
        () => {
          const found = statusOf(scene);
          return found.state === 'Stable' && found.members === 2 && found;
        },
        { deadlineMs: DEADLINE_MS, everyMs: 300 },
      );
      expect(status.partitions.map(({ topic, partition, error }) => [topic, partition, error])).toEqual(
        ['people', 'tags'].flatMap((table) => [0, 1, 2].map((partition) => [`to-${kind}.${table}`, partition, null])),
      );
      expect(new Set(status.partitions.map(({ member: owner }) => owner)).size).toBe(2);
      expect(status.partitions.reduce((sum, { behind }) => sum + behind, 0)).toBe(0);
      const emptied = (await probe.read([`to-${kind}.tags`])).filter(({ headers }) => headers['op'] === 't');
      expect(emptied.map(({ partition }) => partition)).toEqual([0, 1, 2]);
    },
  );

  it.skipIf(!hasPostgres)('keeps a row that the target refuses as a dead letter, and goes on', async () => {
    await using postgres = await startPostgres();
    const client = new Client({ connectionString: postgres.url });
    await client.connect();
    await client.query('CREATE TABLE tags (kind text, id text, v varchar(5), PRIMARY KEY (kind, id))');
    await using scene = sceneOf('letters', { stream: 'topics: { partitions: 1 }', target: `type: postgres, url: "${postgres.url}"` });
    using db = closing(openHive(scene));
    addTags(db.open, 'old', 3);
    db.open.prepare('INSERT INTO tags VALUES (?, ?, ?)').run('old', 'bad', 'secret that is too long');
    addTags(db.open, 'new', 3);
    await using _daemon = await scene.startReady();
    await using one = member(scene);
    const rows = async (): Promise<number> => Number((await client.query<{ count: string }>('SELECT count(*) FROM tags')).rows[0]!.count);
    const told = { deadlineMs: DEADLINE_MS, told: () => one.stderr.slice(-3000) };
    await until('the others', async () => (await rows()) === 6, told);
    const letters = await probe.read(['letters.waggle-dead-letters']);
    expect(letters.map(({ key, headers }) => [key, headers])).toEqual([
      [
        '{"kind":"old","id":"bad"}',
        expect.objectContaining({
          op: 'r',
          'waggle.sink': 'target',
          'waggle.topic': 'letters.tags',
          'waggle.partition': '0',
          'waggle.offset': '3',
          'waggle.code': 'SINK_ROW_REFUSED',
        }),
      ],
    ]);
    expect(letters[0]!.value).toContain('secret that is too long');
    expect(one.stderr).not.toContain('secret');
    db.open.exec("UPDATE tags SET v = 'short' WHERE id = 'bad'");
    await until('the mended row', async () => (await rows()) === 7, told);
    expect(one.exit).toBe(null);
    await client.end();
  });

  it.skipIf(!hasPostgres)('ends with what the target refuses where it is to stop, and the status still says why', async () => {
    await using postgres = await startPostgres();
    const client = new Client({ connectionString: postgres.url });
    await client.connect();
    await client.query('CREATE TABLE tags (kind text, id text, v varchar(1), PRIMARY KEY (kind, id))');
    await client.end();
    await using scene = sceneOf('strict', { stream: 'topics: { partitions: 1 }', target: `type: postgres, url: "${postgres.url}", on_error: stop` });
    using db = closing(openHive(scene));
    addTags(db.open, 'old', 3);
    await using _daemon = await scene.startReady();
    await scene.settled(['stream'], DEADLINE_MS);
    await using one = member(scene);
    await until('its end', () => one.exit, { deadlineMs: DEADLINE_MS, told: () => one.stderr.slice(-3000) });
    expect(one.exit).toEqual({ code: 1, signal: null });
    expect(one.stderr).toMatch(/\[SINK_ROW_REFUSED\]/);
    const status = statusOf(scene);
    expect(status.members).toBe(0);
    expect(status.partitions).toEqual([
      {
        topic: 'strict.tags',
        partition: 0,
        member: null,
        offset: '0',
        behind: expect.any(Number),
        error: expect.stringMatching(/^SINK_ROW_REFUSED postgres .*tags/),
      },
    ]);
    expect(status.partitions[0]!.behind).toBeGreaterThanOrEqual(3);
    expect(waggle(['sink', 'target', '--from', 'stream', '--status', '-c', scene.config]).stdout).toMatch(
      /^group strict\.waggle\.target: \w+, 0 members\nTOPIC .*\nstrict\.tags +0 +none +0 +\d+\nstrict\.tags, partition 0: SINK_ROW_REFUSED /,
    );
  });

  it('puts several hives into one target, and does not take the rows of one for those of another', async () => {
    await using a = sceneOf('a', { stream: 'prefix: both, topics: { partitions: 2 }', target: 'type: sqlite, file: copy.sqlite' });
    await using b = sceneOf('b', { stream: 'prefix: both, topics: { partitions: 2 }', target: 'type: sqlite, file: copy.sqlite' });
    using first = closing(openHive(a));
    using second = closing(openHive(b));
    addTags(first.open, 'a', 30);
    addTags(second.open, 'b', 30);
    await using _one = await a.startReady();
    await using _two = await b.startReady();
    await a.settled(['stream'], DEADLINE_MS);
    await b.settled(['stream'], DEADLINE_MS);
    await using fed = member(a);
    const kinds = (): string[] => {
      using copy = closing(new Database(a.path('copy.sqlite'), { readonly: true }));
      return copy.open.prepare<[], string>("SELECT kind || ' ' || count(*) FROM tags GROUP BY kind ORDER BY kind").pluck().all();
    };
    const told = { deadlineMs: DEADLINE_MS, told: () => fed.stderr.slice(-3000) };
    const until2 = (expected: readonly string[]): Promise<unknown> =>
      until(
        String(expected),
        () => {
          try {
            return String(kinds()) === String(expected);
          } catch {
            return false;
          }
        },
        told,
      );
    await until2(['a 30', 'b 30']);
    first.open.exec('DELETE FROM tags');
    addTags(first.open, 'c', 10);
    await until2(['a 30', 'b 30', 'c 10']);
    expect(fed.lines.filter(({ hive }) => hive === 'a').map(({ code, table }) => [code, table])).toEqual([
      ['SINK_TABLE_MISFIT', 'tags'],
      ['SINK_TABLE_MISFIT', 'tags'],
    ]);
    second.open.exec("DELETE FROM tags WHERE id = 'tag 3'");
    await until2(['a 30', 'b 29', 'c 10']);
    expect(fed.exit).toBe(null);
  });

  it('refuses topics in which the changes of a row have no order', async () => {
    await using scene = sceneOf('any', {
      stream: 'topic: any-rows, partition: transaction, topics: { partitions: 2 }',
      target: 'type: sqlite, file: copy.sqlite',
    });
    using db = closing(openHive(scene));
    addTags(db.open, 'old', 3);
    await using _daemon = await scene.startReady();
    await scene.settled(['stream'], DEADLINE_MS);
    await using refused = member(scene);
    expect(await refused.exited).toEqual({ code: 1, signal: null });
    expect(refused.stderr).toMatch(/topic any-rows: the changes of a row stand in any of its 2 partitions.*\[SINK_TABLE_MISFIT\]/);
  });
});

const closing = (open: Database.Database): Disposable & { readonly open: Database.Database } => ({ open, [Symbol.dispose]: () => open.close() });
