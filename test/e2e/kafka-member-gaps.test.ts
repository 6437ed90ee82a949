/** Members and topics that no longer hold what they did: records that retention removed, a topic that was deleted and made again, one that got more partitions. */
import assert from 'node:assert/strict';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DaemonScene, EQUAL } from '../helpers/daemon-scene.ts';
import { KafkaProbe } from '../helpers/kafka-probe.ts';
import { kafkaPossible, type KafkaServer, startKafka } from '../helpers/kafka-server.ts';
import { serversRequired } from '../helpers/postgres-server.ts';
import { until } from '../helpers/until.ts';
import { waggle } from '../helpers/waggle-command.ts';
import { WaggleProcess } from '../helpers/waggle-process.ts';

const DEADLINE_MS = 120_000;

describe.skipIf(!serversRequired() && !kafkaPossible())('a member whose topic', { timeout: 2 * DEADLINE_MS }, () => {
  let kafka: KafkaServer;

  beforeAll(async () => {
    kafka = await startKafka();
  }, DEADLINE_MS);

  afterAll(async () => {
    await kafka?.stop();
  });

  /** A hive of one table, the topic `<name>.people` with all of its rows, and a SQLite copy that members feed. */
  class Gap implements AsyncDisposable {
    readonly topic: string;
    readonly scene: DaemonScene;
    readonly db: Database.Database;
    #member: WaggleProcess | null = null;

    constructor(name: string) {
      this.topic = `${name}.people`;
      this.scene = new DaemonScene({
        hive: 'hive.sqlite',
        lines: [`name: ${name}`],
        sinks: {
          stream: `{ type: kafka, brokers: "${kafka.broker}", prefix: ${name} }`,
          target: '{ type: sqlite, file: copy.sqlite, enabled: false }',
        },
      });
      this.db = new Database(this.scene.hive);
      this.db.exec('PRAGMA journal_mode = WAL; CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)');
      this.insert(1, 40);
    }

    insert(from: number, to: number): void {
      const insert = this.db.prepare("INSERT INTO people VALUES (?, 'p' || ?)");
      for (let id = from; id <= to; id += 1) insert.run(id, id);
    }

    start(): WaggleProcess {
      this.#member = new WaggleProcess(['sink', 'target', '--from', 'stream', '-c', this.scene.config]);
      return this.#member;
    }

    async stop(): Promise<void> {
      assert.deepEqual(await this.#member!.stop(), { code: 0, signal: null });
    }

    async equal(): Promise<void> {
      await this.scene.settled(['stream'], DEADLINE_MS);
      let last = '';
      await until(
        'equal tables',
        () => {
          try {
            const difference = this.scene.compareCopy(this.scene.path('copy.sqlite'));
            last = JSON.stringify(difference);
            return difference.missing === EQUAL.missing && difference.surplus === EQUAL.surplus;
          } catch (error) {
            last = String(error);
            return false;
          }
        },
        { deadlineMs: DEADLINE_MS, everyMs: 200, told: () => last + this.#member!.stderr.slice(-3000) },
      );
      assert.equal(this.#member!.exit, null);
    }

    resync(): void {
      const { stderr, status } = waggle(['resync', 'stream', '-c', this.scene.config]);
      assert.equal(status, 0, stderr);
    }

    async [Symbol.asyncDispose](): Promise<void> {
      this.db.close();
      await this.#member?.[Symbol.asyncDispose]();
      await this.scene[Symbol.asyncDispose]();
    }
  }

  it('no longer holds what it has not read says so, goes on, and is right again behind a resync', async () => {
    await using gap = new Gap('expired');
    await using _daemon = await gap.scene.startReady();
    gap.start();
    await gap.equal();
    await gap.stop();
    // As retention does to a member that was away for long.
    gap.db.exec("UPDATE people SET name = 'gone' WHERE id <= 10; DELETE FROM people WHERE id = 11");
    await gap.scene.settled(['stream'], DEADLINE_MS);
    await using probe = await KafkaProbe.open(kafka.broker);
    // kafkajs deletes only of topics that it has asked for before.
    await probe.admin.fetchTopicOffsets(gap.topic);
    await probe.admin.deleteTopicRecords({ topic: gap.topic, partitions: [{ partition: 0, offset: '-1' }] });
    gap.insert(41, 45);
    const member = gap.start();
    const told = await member.line('the gap', ({ code }) => code === 'SINK_CHECKPOINT_LOST', DEADLINE_MS);
    expect(told).toMatchObject({ topic: gap.topic, partition: 0, hint: expect.stringContaining('resync') });
    gap.resync();
    await gap.equal();
  });

  it('was deleted and made again says so, takes the new one from its beginning, and is right again behind a resync', async () => {
    await using gap = new Gap('remade');
    await using daemon = await gap.scene.startReady();
    gap.start();
    await gap.equal();
    await gap.stop();
    expect(await daemon.stop()).toEqual({ code: 0, signal: null });
    await using probe = await KafkaProbe.open(kafka.broker);
    await probe.admin.deleteTopics({ topics: [gap.topic] });
    gap.db.exec('DELETE FROM people WHERE id = 11');
    await using _again = await gap.scene.startReady();
    await gap.scene.settled(['stream'], DEADLINE_MS);
    const member = gap.start();
    await member.line('the new topic', ({ code, msg }) => code === 'SINK_CHECKPOINT_LOST' && /made again/.test(msg), DEADLINE_MS);
    gap.resync();
    await gap.equal();
  });

  it('is deleted while it runs finds that out, too', async () => {
    await using gap = new Gap('vanished');
    await using daemon = await gap.scene.startReady();
    const member = gap.start();
    await gap.equal();
    expect(await daemon.stop()).toEqual({ code: 0, signal: null });
    await using probe = await KafkaProbe.open(kafka.broker);
    await probe.admin.deleteTopics({ topics: [gap.topic] });
    gap.db.exec('DELETE FROM people WHERE id = 11');
    await using _again = await gap.scene.startReady();
    await member.line('the new topic', ({ code }) => code === 'SINK_CHECKPOINT_LOST', DEADLINE_MS);
    gap.resync();
    await gap.equal();
  });

  it('gets more partitions finds them by itself', async () => {
    await using gap = new Gap('raised');
    await using daemon = await gap.scene.startReady();
    gap.start();
    await gap.equal();
    expect(await daemon.stop()).toEqual({ code: 0, signal: null });
    await using probe = await KafkaProbe.open(kafka.broker);
    await probe.admin.createPartitions({ topicPartitions: [{ topic: gap.topic, count: 3 }] });
    await using _again = await gap.scene.startReady();
    gap.resync();
    gap.insert(41, 60);
    await gap.equal();
  });
});
