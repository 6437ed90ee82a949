/** What is wrong with a sink of type kafka, as `waggle status` tells it; the other sinks go on, and nothing is lost once it is mended. */
import { readFileSync, writeFileSync } from 'node:fs';
import Database from 'better-sqlite3';
import { expect, it } from 'vitest';
import { DaemonScene, EQUAL } from '../helpers/daemon-scene.ts';
import { freePort } from '../helpers/free-port.ts';
import { KafkaProbe } from '../helpers/kafka-probe.ts';
import { kafkaPossible, startKafka } from '../helpers/kafka-server.ts';
import { serversRequired } from '../helpers/postgres-server.ts';
import { sinkStatus } from '../helpers/settled.ts';
import { until } from '../helpers/until.ts';
import { waggle } from '../helpers/waggle-command.ts';

const absent = !kafkaPossible() && !serversRequired();
const DEADLINE_MS = 60_000;

/** By the sink's name: code, what its message and its hint say. */
const WRONG: Readonly<Record<string, readonly [string, RegExp, RegExp]>> = {
  away: ['SINK_UNREACHABLE', /cannot be reached/, /keeps trying/],
  password: ['SINK_DENIED', /user or password/, /sasl/],
  rights: ['SINK_DENIED', /refuses a right/, /ACL/],
  partitions: ['SINK_TABLE_MISFIT', /has 2 partitions, not 3/, /topics\.partitions/],
};

it.skipIf(absent)('tells each in one line with a hint, and publishes everything when it is mended', { timeout: 240_000 }, async () => {
  await using kafka = await startKafka();
  await using probe = await KafkaProbe.open(kafka.broker);
  await probe.admin.createTopics({ topics: [{ topic: 'parts.notes', numPartitions: 2 }] });
  const sasl = (username: string, password: string): string => `sasl: { mechanism: plain, username: ${username}, password: "${password}" }`;
  await using scene = new DaemonScene({
    hive: 'hive.sqlite',
    sinks: {
      away: `{ type: kafka, brokers: "127.0.0.1:${await freePort()}" }`,
      password: `{ type: kafka, brokers: "${kafka.saslBroker}", prefix: p1, ${sasl('waggle', 'hunter2')} }`,
      rights: `{ type: kafka, brokers: "${kafka.saslBroker}", prefix: p2, ${sasl('stranger', 'right')} }`,
      partitions: `{ type: kafka, brokers: "${kafka.broker}", prefix: parts, topics: { partitions: 3 } }`,
      large: `{ type: kafka, brokers: "${kafka.broker}", prefix: large }`,
      copy: '{ type: sqlite, file: copy.sqlite }',
    },
  });
  const db = new Database(scene.hive);
  db.exec("PRAGMA journal_mode = WAL; CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT); INSERT INTO notes VALUES (1, 'there before')");
  const daemon = await scene.startReady();
  const insert = db.prepare('INSERT INTO notes (text) VALUES (?)');
  insert.run('before');
  insert.run('x'.repeat(1_500_000));
  insert.run('after');
  await scene.settled(['copy', 'large'], DEADLINE_MS);
  for (const [name, [code]] of Object.entries(WRONG))
    await until(name, () => sinkStatus(scene.state, name)?.error?.code === code, { deadlineMs: DEADLINE_MS, told: () => daemon.stderr.slice(-3000) });
  const told = waggle(['status', '-c', scene.config]);
  for (const [name, [code, message, hint]] of Object.entries(WRONG)) {
    const lines = told.stdout.split('\n');
    const at = lines.findIndex((line) => line.startsWith(`${name}: `) && line.includes(' since '));
    expect(lines.slice(at + 1, at + 3)).toEqual([
      expect.stringMatching(new RegExp(`^  .*${message.source}.* \\[${code}\\]$`)),
      expect.stringMatching(hint),
    ]);
  }
  expect(told.stdout + daemon.stderr).not.toContain('hunter2');
  // The row that no topic takes is kept, the others are published.
  expect(told.stdout).toMatch(/large: 1 dead letter, .*larger than the topic takes/);
  const keys = async (topic: string): Promise<(string | null)[]> => (await probe.read([topic])).map(({ key }) => key);
  expect(await keys('large.notes')).toEqual(['{"id":1}', '{"id":2}', '{"id":4}']);
  expect(scene.compareCopy(scene.path('copy.sqlite'))).toMatchObject(EQUAL);
  expect(await daemon.stop()).toEqual({ code: 0, signal: null });

  writeFileSync(scene.config, readFileSync(scene.config, 'utf8').replace('topics: { partitions: 3 }', 'topics: { partitions: 2 }'));
  const again = await scene.startReady();
  await scene.settled(['partitions'], DEADLINE_MS);
  expect(new Set(await keys('parts.notes'))).toEqual(new Set(['{"id":1}', '{"id":2}', '{"id":4}']));
  expect(sinkStatus(scene.state, 'partitions')).toMatchObject({ state: 'streaming', error: null });
  expect(await again.stop()).toEqual({ code: 0, signal: null });
  db.close();
});
