/** The connector `kafka` against a real broker. */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import kafkajs from 'kafkajs';
import murmur2OfKafkajs from 'kafkajs/src/producer/partitioners/default/murmur2.js';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectFormat } from '../../connectors/kafka/connect-format.ts';
import { plainFormat } from '../../connectors/kafka/formats.ts';
import { keyPartitioner } from '../../connectors/kafka/key-partitioner.ts';
import { murmur2, partitionOf } from '../../connectors/kafka/murmur2.ts';
import { type KafkaOptions, options } from '../../connectors/kafka/options.ts';
import { createSink } from '../../connectors/kafka/sink.ts';
import { TopicNames } from '../../connectors/kafka/topic-names.ts';
import type { SchemaEvent } from '../../src/change/envelope-object.ts';
import { EnvelopeEncoder } from '../../src/change/envelope.ts';
import { parseChange } from '../../src/change/parse-change.ts';
import type { Sink, SinkChange, SinkContext, SinkTable } from '../../src/pipeline/sink.ts';
import { freePort } from '../helpers/free-port.ts';
import { KafkaProbe, type TopicRecord } from '../helpers/kafka-probe.ts';
import { kafkaPossible, type KafkaServer, startKafka } from '../helpers/kafka-server.ts';
import { serversRequired } from '../helpers/postgres-server.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';
import { until } from '../helpers/until.ts';
import { batchOf, brokenBatch, checkpointAt, contextOf, remove, schemaChange, sinkTable, truncate, upsert } from './sink-changes.ts';

const absent = !kafkaPossible() && !serversRequired();
const directory = temporaryDirectory();
afterAll(() => directory[Symbol.dispose]());

const accounts = sinkTable('accounts', [
  { name: 'id', type: 'INTEGER', key: true, alwaysInteger: true },
  { name: 'name', type: 'TEXT' },
]);

const inTransaction = (changes: readonly SinkChange[], frame: number, firstSeq: number): SinkChange[] => {
  const lastSeq = firstSeq + changes.length - 1;
  const transaction = {
    txid: `1:${frame}`,
    epoch: 1,
    frame,
    firstSeq,
    lastSeq,
    timestampUs: 1_700_000_000_000_000 + frame,
    origin: null,
    recovered: false,
  };
  return changes.map((change, index) => ({ ...change, source: { ...change.source, seq: firstSeq + index, transaction } }));
};

const existing = (table: SinkTable, values: readonly (number | string)[]): SinkChange => {
  const change = upsert(table, values, 'r');
  return { ...change, source: { ...change.source, seq: null, transaction: null, snapshot: { seq: 9, txid: '1:9', timestampUs: 5 } } };
};

describe('names and hashes', () => {
  it('hashes keys as every client of Kafka does', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        const key = Buffer.from(bytes);
        expect(murmur2(key)).toBe(murmur2OfKafkajs(key));
      }),
    );
  });

  it('tells the partition of a row by its key alone, as it was published', () => {
    const table = sinkTable('t', [
      { name: 'a', type: 'TEXT', key: true },
      { name: 'b', type: 'INTEGER', key: true },
      { name: 'v', type: 'TEXT' },
    ]);
    const encoder = new EnvelopeEncoder({ hive: 'app', version: '1' });
    for (const schemas of [false, true]) {
      const format = schemas ? connectFormat(encoder, { prefix: 'p', label: 'kafka' }) : plainFormat(encoder);
      const partitioner = keyPartitioner({ prefix: 'p', schemas });
      const places = new Set<number | null>();
      fc.assert(
        fc.property(fc.string({ unit: 'grapheme' }), fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), (a, b) => {
          const place = partitioner(remove(table, [a, b]), 7);
          expect(place).toBe(a.includes('\uFFFD') ? null : partitionOf(Buffer.from(format.row(upsert(table, [a, b, 'v'])).key), 7));
          places.add(place);
        }),
      );
      expect(places.size).toBeGreaterThan(3);
      expect(partitioner(remove(table, [null, 1n]), 7)).toBe(null);
    }
  });

  it('makes every name a legal one, tells long ones apart, and refuses two tables for one topic', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', minLength: 1, maxLength: 300 }), (table) => {
        expect(new TopicNames('app', null).ofTable(table)).toMatch(/^app\.[A-Za-z0-9._-]{1,245}$/);
      }),
    );
    const names = new TopicNames('app', null);
    const long = 'x'.repeat(300);
    expect(names.ofTable(`${long}a`)).not.toBe(names.ofTable(`${long}b`));
    expect(names.ofTable('my table')).toBe('app.my_table');
    expect(() => names.ofTable('my-table!')).not.toThrow();
    expect(() => names.ofTable('my?table')).toThrow(
      expect.objectContaining({ code: 'SINK_TABLE_MISFIT', message: expect.stringMatching(/my table/) }),
    );
    expect(() => names.ofTable('schema')).toThrow(
      expect.objectContaining({ code: 'SINK_TABLE_MISFIT', message: expect.stringMatching(/waggle itself/) }),
    );
    names.forget('my table');
    expect(names.ofTable('my?table')).toBe('app.my_table');
  });
});

describe.skipIf(absent)(`kafka${absent ? ' (no Java and Maven: skipped)' : ''}`, { timeout: 60_000 }, () => {
  let server: KafkaServer;
  let probe: KafkaProbe;
  let counter = 0;

  beforeAll(async () => {
    server = await startKafka();
    probe = await KafkaProbe.open(server.broker);
  }, 120_000);

  afterAll(async () => {
    await probe?.[Symbol.asyncDispose]();
    await server?.stop();
  });

  interface Scene extends AsyncDisposable {
    readonly prefix: string;
    readonly sink: Sink;
    readonly context: SinkContext;
    /** A sink of another runner: with a copy of the state directory, or with one of its own. */
    another(state: 'copy' | 'own'): { sink: Sink; context: SinkContext };
    read(topic?: string): Promise<TopicRecord[]>;
  }

  const scene = (extra: object = {}, logger = pino({ level: 'silent' })): Scene => {
    counter += 1;
    const prefix = `t${counter}`;
    const parsed = options.parse({ brokers: [server.broker], prefix, ...extra });
    const made: Sink[] = [];
    const make = (): Sink => {
      const sink = createSink(parsed);
      made.push(sink);
      return sink;
    };
    const stateDir = join(directory.path, prefix);
    mkdirSync(stateDir);
    const context = { ...contextOf('stream', stateDir), logger };
    return {
      prefix,
      sink: make(),
      context,
      another: (state) => {
        const dir = join(directory.path, `${prefix}-${made.length}`);
        if (state === 'copy') cpSync(stateDir, dir, { recursive: true });
        else mkdirSync(dir);
        return { sink: make(), context: { ...context, stateDir: dir } };
      },
      read: async (topic) =>
        probe.read(topic === undefined ? (await probe.topics()).filter((name) => name.startsWith(`${prefix}.`)) : [`${prefix}.${topic}`]),
      [Symbol.asyncDispose]: async () => {
        await Promise.all(made.map((sink) => sink.close()));
      },
    };
  };

  const failure = (code: string, message: RegExp, hint = /./): unknown =>
    expect.objectContaining({ code, message: expect.stringMatching(message), hint: expect.stringMatching(hint) });

  it('publishes changes in order with their key, tombstones, headers, the marks of their transactions, and the checkpoint', async () => {
    await using s = scene();
    expect(await s.sink.open(s.context)).toBe(null);
    const first = inTransaction([upsert(accounts, [1, 'a'], 'c'), upsert(accounts, [2, 'b'], 'c')], 1, 1);
    const second = inTransaction([upsert(accounts, [1, 'A']), remove(accounts, [2])], 2, 3);
    await s.sink.apply(batchOf([[existing(accounts, [7, 'old']), ...first], second], { ...checkpointAt(4), fill: 'cursor' }));
    const rows = await s.read('accounts');
    expect(
      rows.map(({ key, headers, value }) => [
        key,
        headers['op'],
        headers['seq'],
        headers['txid'],
        value === null ? null : parseChange({ value })?.after,
      ]),
    ).toEqual([
      ['{"id":7}', 'r', undefined, '1:9', { id: 7, name: 'old' }],
      ['{"id":1}', 'c', '1', '1:1', { id: 1, name: 'a' }],
      ['{"id":2}', 'c', '2', '1:1', { id: 2, name: 'b' }],
      ['{"id":1}', 'u', '3', '1:2', { id: 1, name: 'A' }],
      ['{"id":2}', 'd', '4', '1:2', null],
      ['{"id":2}', 'd', '4', '1:2', null],
    ]);
    expect(rows.map(({ value }) => value === null)).toEqual([false, false, false, false, false, true]);
    expect((await s.read('transaction')).map(({ key, value }) => [key, JSON.parse(value!)])).toEqual(
      ['1:1', '1:2'].flatMap((id) => [
        [`{"id":"${id}"}`, { status: 'BEGIN', id, event_count: null, data_collections: null, ts_ms: 1_700_000_000_000 }],
        [
          `{"id":"${id}"}`,
          { status: 'END', id, event_count: 2, data_collections: [{ data_collection: 'accounts', event_count: 2 }], ts_ms: 1_700_000_000_000 },
        ],
      ]),
    );
    expect(await s.sink.open(s.context)).toEqual({ ...checkpointAt(4), fill: 'cursor' });
  });

  it('describes each form of a table once, before its first row, also over restarts', async () => {
    await using s = scene();
    await s.sink.open(s.context);
    await s.sink.apply(batchOf([inTransaction([upsert(accounts, [1, 'a'], 'c')], 1, 1)], checkpointAt(1)));
    await s.sink.open(s.context);
    await s.sink.apply(batchOf([inTransaction([upsert({ ...accounts }, [2, 'a'], 'c')], 2, 2)], checkpointAt(2)));
    const wider = sinkTable('accounts', [
      { name: 'id', type: 'INTEGER', key: true, alwaysInteger: true },
      { name: 'name', type: 'TEXT' },
      { name: 'age', type: 'INTEGER' },
    ]);
    await s.sink.apply(batchOf([inTransaction([schemaChange(accounts, wider), upsert(wider, [3, 'a', 5], 'c')], 3, 3)], checkpointAt(4)));
    await s.sink.apply(batchOf([inTransaction([truncate(wider), schemaChange(wider, null)], 4, 5)], checkpointAt(6)));
    const records = await s.read('schema');
    const told = records.map((record) => parseChange(record) as SchemaEvent);
    expect(told.map(({ op, seq, columns }) => [op, seq, columns?.map(({ name }) => name)])).toEqual([
      ['s', null, ['id', 'name']],
      ['s', 3, ['id', 'name', 'age']],
      ['s', 6, undefined],
    ]);
    const versions = (await s.read('accounts')).map(({ headers }) => headers['schema']);
    const [old, wide] = records.map(({ headers }) => headers['schema']);
    expect(versions).toEqual([old, old, wide, wide]);
    expect(old).not.toBe(wide);
    expect(records.map(({ headers }) => headers['previous'])).toEqual([undefined, old, undefined]);
  });

  it('marks the last record of each transaction in each partition', async () => {
    await using s = scene({ topics: { partitions: 2 } });
    await s.sink.open(s.context);
    const first = inTransaction(
      Array.from({ length: 20 }, (_, id) => upsert(accounts, [id, 'a'], 'c')),
      1,
      1,
    );
    const second = inTransaction([upsert(accounts, [1, 'A']), remove(accounts, [1])], 2, 21);
    await s.sink.apply(batchOf([[existing(accounts, [77, 'old'])], first, second], checkpointAt(22)));
    const ends = new Map<string, boolean[]>();
    for (const { partition, headers } of await s.read('accounts')) {
      const place = `${partition} ${headers['txid']}`;
      ends.set(place, [...(ends.get(place) ?? []), headers['last'] === 'true']);
    }
    expect([...ends.keys()].filter((place) => place.endsWith('1:9'))).toHaveLength(1);
    for (const [place, marks] of ends) expect([place, marks.indexOf(true)]).toEqual([place, place.endsWith('1:9') ? -1 : marks.length - 1]);
    // Behind a deleted row it is the tombstone.
    expect([...ends].filter(([place]) => place.endsWith('1:2')).map(([, marks]) => marks)).toEqual([[false, false, true]]);
    expect([...ends].filter(([place]) => place.endsWith('1:1'))).toHaveLength(2);
  });

  it('shows nothing of a batch that broke off, and goes on from the checkpoint before it', async () => {
    await using s = scene();
    await s.sink.open(s.context);
    await s.sink.apply(batchOf([inTransaction([upsert(accounts, [1, 'a'], 'c')], 1, 1)], checkpointAt(1)));
    // Large enough to be on its way already.
    const large = Array.from({ length: 6000 }, () => upsert(accounts, [2, 'x'.repeat(400)], 'u'));
    await expect(s.sink.apply(brokenBatch([inTransaction(large, 2, 2)], checkpointAt(6001)))).rejects.toThrow(/broke off/);
    expect(await s.sink.open(s.context)).toEqual(checkpointAt(1));
    await s.sink.apply(batchOf([inTransaction([upsert(accounts, [2, 'b'], 'c')], 2, 2)], checkpointAt(2)));
    expect((await s.read('accounts')).map((record) => parseChange(record)?.after)).toEqual([
      { id: 1, name: 'a' },
      { id: 2, name: 'b' },
    ]);
  });

  it('keeps the order of each key over several partitions, in a batch of many requests', async () => {
    await using s = scene({ compression: 'gzip', topics: { partitions: 3 } });
    await s.sink.open(s.context);
    const text = 'y'.repeat(400);
    const parts = Array.from({ length: 10 }, (_, part) =>
      Array.from({ length: 1500 }, (_row, row) => upsert(accounts, [row % 100, `${part * 1500 + row} ${text}`])),
    );
    let seq = 1;
    await s.sink.apply(
      batchOf(
        parts.map((part, index) => {
          const changes = inTransaction(part, index + 1, seq);
          seq += part.length;
          return changes;
        }),
        checkpointAt(15_000),
      ),
    );
    const records = await s.read('accounts');
    expect(records.length).toBe(15_000);
    const partitions = new Map<string, number>();
    const last = new Map<string, number>();
    for (const { key, partition, headers } of records) {
      expect(partitions.get(key!) ?? partition).toBe(partition);
      expect(Number(headers['seq'])).toBeGreaterThan(last.get(key!) ?? 0);
      partitions.set(key!, partition);
      last.set(key!, Number(headers['seq']));
    }
    expect(new Set(partitions.values())).toEqual(new Set([0, 1, 2]));
    expect((await s.read('transaction')).length).toBe(20);
  });

  it('tells every partition that a table was emptied', async () => {
    await using s = scene({ topics: { partitions: 2, compact: true } });
    await s.sink.open(s.context);
    await s.sink.apply(batchOf([inTransaction([upsert(accounts, [1, 'a'], 'c'), truncate(accounts)], 1, 1)], checkpointAt(2)));
    const told = (await s.read('accounts')).filter(({ headers }) => headers['op'] === 't');
    expect(told.map(({ partition, key }) => [partition, key])).toEqual([
      [0, '{"waggle_truncate":"accounts"}'],
      [1, '{"waggle_truncate":"accounts"}'],
    ]);
    expect(JSON.parse((await s.read('transaction'))[1]!.value!)).toMatchObject({ event_count: 3 });
  });

  it('keeps transactions together in one topic', async () => {
    await using s = scene({ topic: 'all-rows', partition: 'transaction', topics: { partitions: 4 } });
    await s.sink.open(s.context);
    const other = sinkTable('other', [{ name: 'id', type: 'INTEGER', key: true, alwaysInteger: true }]);
    const parts = Array.from({ length: 12 }, (_, index) =>
      inTransaction([upsert(accounts, [index, 'a'], 'c'), upsert(other, [index], 'c')], index + 1, index * 2 + 1),
    );
    await s.sink.apply(batchOf(parts, checkpointAt(24)));
    const records = await probe.read(['all-rows']);
    expect(records.length).toBe(24);
    const pairs = Array.from({ length: 12 }, (_, index) => records.slice(index * 2, index * 2 + 2));
    for (const [one, two] of pairs)
      expect([two!.partition, two!.headers['txid'], Number(two!.headers['seq'])]).toEqual([
        one!.partition,
        one!.headers['txid'],
        Number(one!.headers['seq']) + 1,
      ]);
    expect(new Set(records.map(({ partition }) => partition)).size).toBeGreaterThan(1);
  });

  it('fences the older of two publishers on copies of one state directory, and nobody with another one', async () => {
    await using s = scene();
    await s.sink.open(s.context);
    await s.sink.apply(batchOf([inTransaction([upsert(accounts, [1, 'a'], 'c')], 1, 1)], checkpointAt(1)));
    const stranger = s.another('own');
    // What it is told lets it empty what it did not write.
    expect(await stranger.sink.open(stranger.context)).toEqual(checkpointAt(1));
    await s.sink.apply(batchOf([inTransaction([upsert(accounts, [2, 'b'], 'c')], 2, 2)], checkpointAt(2)));
    const copy = s.another('copy');
    expect(await copy.sink.open(copy.context)).toEqual(checkpointAt(2));
    await expect(s.sink.apply(batchOf([inTransaction([upsert(accounts, [9, 'zombie'], 'c')], 3, 3)], checkpointAt(3)))).rejects.toEqual(
      failure('SINK_FENCED', /copy of this state directory/),
    );
    await copy.sink.apply(batchOf([inTransaction([upsert(accounts, [3, 'c'], 'c')], 3, 3)], checkpointAt(3)));
    expect((await s.read('accounts')).map(({ key }) => key)).toEqual(['{"id":1}', '{"id":2}', '{"id":3}']);
  });

  it('waits for the end of a transaction of somebody else rather than to believe an older checkpoint', async () => {
    await using s = scene();
    await s.sink.open(s.context);
    await s.sink.apply(batchOf([inTransaction([upsert(accounts, [1, 'a'], 'c')], 1, 1)], checkpointAt(1)));
    const producer = probe.kafka.producer({ transactionalId: `${s.prefix}-other`, createPartitioner: kafkajs.Partitioners.DefaultPartitioner });
    await producer.connect();
    const open = await producer.transaction();
    await open.send({ topic: `${s.prefix}.waggle-checkpoint`, messages: [{ key: 'other', value: 'something' }] });
    await s.sink.apply(batchOf([inTransaction([upsert(accounts, [2, 'b'], 'c')], 2, 2)], checkpointAt(2)));
    let opened = false;
    const opening = s.sink.open(s.context).finally(() => (opened = true));
    await until('the reader to be in its group', async () => {
      const { groups } = await probe.admin.listGroups();
      // Those of earlier openings may still be there, empty.
      const readers = groups.map(({ groupId }) => groupId).filter((id) => id.startsWith(`${s.prefix}.waggle-checkpoint`));
      return readers.length > 0 && (await probe.admin.describeGroups(readers)).groups.some(({ state }) => state === 'Stable');
    });
    // Somebody who begins later has come to the end of what can be read: by then it would have, too.
    await s.read('schema');
    expect(opened).toBe(false);
    await open.abort();
    expect(await opening).toEqual(checkpointAt(2));
    await producer.disconnect();
  });

  it('stops where the checkpoint is gone that Kafka had acknowledged', async () => {
    await using s = scene();
    await s.sink.open(s.context);
    await s.sink.apply(batchOf([inTransaction([upsert(accounts, [1, 'a'], 'c')], 1, 1)], checkpointAt(1)));
    await s.sink.close();
    await probe.admin.deleteTopics({ topics: [`${s.prefix}.waggle-checkpoint`] });
    for (let tries = 0; tries < 2; tries += 1)
      await expect(s.sink.open(s.context)).rejects.toEqual(failure('SINK_CHECKPOINT_LOST', /acknowledged seq 1/, /publisher\.json/));
    rmSync(join(s.context.stateDir, 'publisher.json'));
    expect(await s.sink.open(s.context)).toBe(null);
  });

  it('makes a topic again that was deleted, and says so', async () => {
    const lines: { topic?: string; hint?: string }[] = [];
    await using s = scene({}, pino({ level: 'warn' }, { write: (line: string) => void lines.push(JSON.parse(line)) }));
    await s.sink.open(s.context);
    await s.sink.apply(batchOf([inTransaction([upsert(accounts, [1, 'a'], 'c')], 1, 1)], checkpointAt(1)));
    const topic = `${s.prefix}.accounts`;
    await probe.admin.deleteTopics({ topics: [topic] });
    await until('the topic to be gone', async () => !(await probe.topics()).includes(topic));
    const batch = (): ReturnType<typeof batchOf> => batchOf([inTransaction([upsert(accounts, [2, 'b'], 'c')], 2, 2)], checkpointAt(2));
    await expect(s.sink.apply(batch())).rejects.toEqual(expect.objectContaining({ retryable: true, message: expect.stringMatching(/not there/) }));
    expect(await s.sink.open(s.context)).toEqual(checkpointAt(1));
    await s.sink.apply(batch());
    expect((await s.read('accounts')).map(({ key }) => key)).toEqual(['{"id":2}']);
    expect(lines).toEqual([expect.objectContaining({ topic, hint: expect.stringMatching(/waggle resync/) })]);
  });

  it('names the row that is larger than its topic takes, and takes it where it is not', async () => {
    const large = upsert(accounts, [2, 'z'.repeat(1_200_000)], 'c');
    const batch = (): ReturnType<typeof batchOf> => batchOf([inTransaction([upsert(accounts, [1, 'a'], 'c'), large], 1, 1)], checkpointAt(2));
    await using plain = scene();
    await plain.sink.open(plain.context);
    await expect(plain.sink.apply(batch())).rejects.toEqual(
      expect.objectContaining({
        code: 'SINK_ROW_REFUSED',
        message: expect.stringMatching(/larger than the topic takes/),
        change: expect.objectContaining({ key: [2] }),
      }),
    );
    expect(await plain.sink.open(plain.context)).toBe(null);
    // Compressed it is small; what cannot be compressed is refused by the broker.
    await using packed = scene({ compression: 'zstd' });
    await packed.sink.open(packed.context);
    await packed.sink.apply(batch());
    expect((await packed.read('accounts')).map(({ key, value }) => [key, value!.length > 1_000_000])).toEqual([
      ['{"id":1}', false],
      ['{"id":2}', true],
    ]);
    const noise = Array.from({ length: 1_500_000 }, () => String.fromCharCode(33 + Math.floor(Math.random() * 90))).join('');
    await expect(packed.sink.apply(batchOf([inTransaction([upsert(accounts, [3, noise], 'c')], 2, 3)], checkpointAt(3)))).rejects.toEqual(
      expect.objectContaining({ code: 'SINK_ROW_REFUSED', change: expect.objectContaining({ key: [3] }) }),
    );
    await using wide = scene({ topics: { config: { 'max.message.bytes': 3_000_000 } } });
    await wide.sink.open(wide.context);
    await wide.sink.apply(batch());
    expect((await wide.read('accounts')).length).toBe(2);
  });

  it('says that it lives, while nothing else happens', async () => {
    await using s = scene({ heartbeat: '50ms' });
    await s.sink.open(s.context);
    await s.sink.apply(batchOf([inTransaction([upsert(accounts, [1, 'a'], 'c')], 1, 1)], checkpointAt(1)));
    const beats = await until('three heartbeats', async () => {
      const records = await s.read('heartbeat');
      return records.length >= 3 && records;
    });
    expect(JSON.parse(beats.at(-1)!.value!)).toMatchObject({ hive: 'hive', seq: 1, txid: '1:1' });
    await s.sink.apply(batchOf([inTransaction([upsert(accounts, [2, 'b'], 'c')], 2, 2)], checkpointAt(2)));
    expect((await s.read('accounts')).length).toBe(2);
  });

  describe('what is wrong, in one line', () => {
    const open = async (extra: Partial<KafkaOptions> & object): Promise<unknown> => {
      await using s = scene(extra);
      return await s.sink.open(s.context).then(
        () => null,
        (error: unknown) => error,
      );
    };

    it('unreachable brokers', async () => {
      const port = await freePort();
      expect(await open({ brokers: [`127.0.0.1:${port}`] })).toEqual(
        failure('SINK_UNREACHABLE', new RegExp(`^kafka 127.0.0.1:${port}: [^\\n]+$`), /keeps trying/),
      );
    });

    it('a wrong password, and no SASL where it is needed', async () => {
      const sasl = { mechanism: 'plain', username: 'waggle', password: 'hunter2' } as const;
      const refused = await open({ brokers: [server.saslBroker], sasl });
      expect(refused).toEqual(failure('SINK_DENIED', /user or password/, /sasl/));
      expect(JSON.stringify(refused) + String(refused)).not.toContain('hunter2');
      expect(await open({ brokers: [server.saslBroker] })).toEqual(failure('SINK_UNREACHABLE', /^kafka /));
    });

    it('a certificate that nobody vouches for; one that is vouched for is taken, with SASL', async () => {
      const files = ['key.pem', 'ca.pem', 'both.pem'].map((name) => join(directory.path, name));
      const [key, ca, both] = files as [string, string, string];
      execFileSync(
        'openssl',
        [
          'req',
          '-x509',
          '-newkey',
          'rsa:2048',
          '-nodes',
          '-days',
          '2',
          '-subj',
          '/CN=broker',
          '-addext',
          'subjectAltName=IP:127.0.0.1',
          '-keyout',
          key,
          '-out',
          ca,
        ],
        { stdio: 'ignore' },
      );
      writeFileSync(both, readFileSync(key, 'utf8') + readFileSync(ca, 'utf8'), { mode: 0o600 });
      await using secure = await startKafka(['super.users=User:ANONYMOUS;User:waggle'], { pem: both });
      const sasl = { mechanism: 'plain', username: 'waggle', password: 'right' } as const;
      const brokers = [secure.tlsBroker!];
      expect(await open({ brokers, sasl, tls: true })).toEqual(failure('SINK_DENIED', /certificate is not to be trusted/, /tls\.ca/));
      expect(await open({ brokers, sasl: { ...sasl, password: 'wrong' }, tls: { ca } })).toEqual(failure('SINK_DENIED', /user or password/, /sasl/));
      await using s = scene({ brokers, sasl, tls: { ca } });
      expect(await s.sink.open(s.context)).toBe(null);
      await s.sink.apply(batchOf([inTransaction([upsert(accounts, [1, 'a'], 'c')], 1, 1)], checkpointAt(1)));
      expect(await s.sink.open(s.context)).toEqual(checkpointAt(1));
    });

    it('no rights', async () => {
      const sasl = { mechanism: 'plain', username: 'stranger', password: 'right' } as const;
      expect(await open({ brokers: [server.saslBroker], sasl })).toEqual(failure('SINK_DENIED', /right on/, /ACL/));
    });

    const { AclOperationTypes, AclPermissionTypes, AclResourceTypes, ResourcePatternTypes } = kafkajs;
    const acl = (resourceType: number, permissionType: number, resourceName: string, resourcePatternType: number) => ({
      resourceType,
      resourceName,
      resourcePatternType,
      principal: 'User:waggle',
      host: '*',
      operation: AclOperationTypes.ALL,
      permissionType,
    });

    /** All that waggle needs. */
    const allow = async (prefix: string): Promise<void> => {
      const types = [AclResourceTypes.TOPIC, AclResourceTypes.GROUP, AclResourceTypes.TRANSACTIONAL_ID];
      await probe.admin.createAcls({ acl: types.map((type) => acl(type, AclPermissionTypes.ALLOW, `${prefix}.`, ResourcePatternTypes.PREFIXED)) });
    };

    const deny = async (topic: string): Promise<void> => {
      await probe.admin.createAcls({ acl: [acl(AclResourceTypes.TOPIC, AclPermissionTypes.DENY, topic, ResourcePatternTypes.LITERAL)] });
    };

    it.each(['scram-sha-256', 'scram-sha-512'] as const)('a wrong password by %s; the right one is taken', async (mechanism) => {
      const brokers = [server.saslBroker];
      const refused = await open({ brokers, sasl: { mechanism, username: 'waggle', password: 'hunter2' } });
      expect(refused).toEqual(failure('SINK_DENIED', /user or password/, /sasl/));
      expect(JSON.stringify(refused) + String(refused)).not.toContain('hunter2');
      await using s = scene({ brokers, sasl: { mechanism, username: 'waggle', password: 'salted' } });
      await allow(s.prefix);
      expect(await s.sink.open(s.context)).toBe(null);
      await s.sink.apply(batchOf([inTransaction([upsert(accounts, [1, 'a'], 'c')], 1, 1)], checkpointAt(1)));
      expect(await s.sink.open(s.context)).toEqual(checkpointAt(1));
    });

    it('rights for all but one topic', async () => {
      await using s = scene({ brokers: [server.saslBroker], sasl: { mechanism: 'plain', username: 'waggle', password: 'right' } });
      await allow(s.prefix);
      await deny(`${s.prefix}.secret`);
      expect(await s.sink.open(s.context)).toBe(null);
      await s.sink.apply(batchOf([inTransaction([upsert(accounts, [1, 'a'], 'c')], 1, 1)], checkpointAt(1)));
      const secret = sinkTable('secret', [{ name: 'id', type: 'INTEGER', key: true }]);
      await expect(s.sink.apply(batchOf([inTransaction([upsert(secret, [1], 'c')], 2, 2)], checkpointAt(2)))).rejects.toEqual(
        failure('SINK_DENIED', /topic/, /ACL/),
      );
      expect(await s.sink.open(s.context)).toEqual(checkpointAt(1));
    });

    it('another number of partitions, a topic that may not be made, settings that the broker refuses, more copies than brokers', async () => {
      const apply = async (extra: object): Promise<unknown> => {
        await using s = scene(extra);
        await s.sink.open(s.context);
        return await s.sink.apply(batchOf([inTransaction([upsert(accounts, [1, 'a'], 'c')], 1, 1)], checkpointAt(1))).then(
          () => null,
          (error: unknown) => error,
        );
      };
      await probe.admin.createTopics({ topics: [{ topic: 'made.accounts', numPartitions: 2 }] });
      expect(await apply({ prefix: 'made', topics: { partitions: 3 } })).toEqual(
        failure('SINK_TABLE_MISFIT', /has 2 partitions, not 3/, /topics\.partitions/),
      );
      expect(await apply({ prefix: 'made' })).toBe(null);
      expect(await apply({ topics: { config: { 'retention.ms': 'soon' } } })).toEqual(failure('SINK_TABLE_MISFIT', /settings/, /topics\.config/));
      expect(await open({ topics: { ...options.parse({ brokers: 'a:1' }).topics, create: false } })).toEqual(
        failure('SINK_TABLE_MISFIT', /does not exist/, /create/),
      );
      expect(await open({ topics: { ...options.parse({ brokers: 'a:1' }).topics, replication: 3 } })).toEqual(
        failure('SINK_TABLE_MISFIT', /copies/, /replication/),
      );
    });
  });
});
