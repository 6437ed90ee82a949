import { setTimeout as delay } from 'node:timers/promises';
import { type Db, type Decimal128, type Document, Double, Long, MongoClient, MongoServerError } from 'mongodb';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { toSinkError } from '../../connectors/mongodb/errors.ts';
import { collectionName } from '../../connectors/mongodb/names.ts';
import { createSink } from '../../connectors/mongodb/sink.ts';
import type { Value } from '../../src/change/table.ts';
import type { Sink, SinkChange, SinkRowChange } from '../../src/pipeline/sink.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { type MongoServer, mongoServerPossible, startMongoServer } from '../helpers/mongo-server.ts';
import { serversRequired } from '../helpers/postgres-server.ts';
import { startTcpProxy } from '../helpers/tcp-proxy.ts';
import { auditConformance } from './audit-conformance.ts';
import { conformance } from './conformance.ts';
import type { ConformanceTarget } from './conformance/target.ts';
import { mongoRows, showInMongo } from './mongo-rows.ts';
import { applyPassing } from './refused-rows.ts';
import { batchOf, checkpointAt, type ColumnSpec, contextOf, remove, sinkTable, upsert } from './sink-changes.ts';

const absent = !mongoServerPossible() && !serversRequired();

describe.skipIf(absent).each(['rs', 'standalone'] as const)(
  `mongodb (%s)${absent ? ' (no Java and Maven: skipped)' : ''}`,
  { timeout: 60_000 },
  (kind) => {
    let server: MongoServer;
    let client: MongoClient;
    let db: Db;
    beforeAll(async () => {
      server = await startMongoServer(kind);
      client = new MongoClient(server.url);
      db = client.db('waggle');
    }, 120_000);
    afterAll(async () => {
      await client?.close();
      await server?.stop();
    });

    const target: ConformanceTarget = {
      createSink: () => createSink({ url: server.url }),
      drop: async (table) => void (await db.collection(collectionName(table.name)).drop()),
      rows: (table) => mongoRows(db, table),
      show: showInMongo,
    };

    conformance(async () => target, { holdsNul: true, atomic: kind === 'rs', rekeys: true, users: null, partRows: kind === 'rs' ? 1000 : 30 });
    // The server names the document that it refuses; a collection has no columns that could be missing.
    auditConformance(async () => target, { without: ['rehearses a batch and leaves nothing of it', 'tells of a missing column'] });

    let counter = 0;
    const fresh = (name: string): string => `${name}_own_${(counter += 1)}`;
    const opened = async (name = fresh('sink'), url = server.url): Promise<Sink> => {
      const sink = createSink({ url });
      await sink.open(contextOf(name));
      return sink;
    };
    const failure = async (call: Promise<unknown>): Promise<WaggleError> => {
      const error: unknown = await call.then(
        () => null,
        (reason: unknown) => reason,
      );
      if (!(error instanceof WaggleError)) throw new Error(`no WaggleError: ${String(error)}`);
      expect(JSON.stringify([error.message, error.cause ?? null, error.stack])).not.toMatch(/SECRET|hunter2/);
      return error;
    };
    /** A change with a seq of our choice. */
    const at = (seq: number, change: SinkRowChange): SinkRowChange => ({ ...change, source: { ...change.source, seq } });
    const stored = (name: string, options: object = { useBigInt64: true }): Promise<Document[]> =>
      db
        .collection(name)
        .find({ '_waggle.deleted': { $exists: false } }, { ...options, projection: { _waggle: 0 } })
        .toArray();

    it('writes documents that are natural to query', async () => {
      const single = sinkTable(fresh('accounts'), [
        { name: 'id', key: true },
        { name: 'ronin.createdAt', type: 'DATETIME' },
        { name: 'ronin.by.name' },
      ]);
      const pair = sinkTable(fresh('links'), [
        { name: 'to', type: 'INTEGER', key: true },
        { name: 'from.id', key: true },
      ]);
      const sink = await opened();
      await sink.apply(batchOf([[upsert(single, ['acc_1', '2026-01-01', null]), upsert(pair, [2n, 'a'])]], checkpointAt(1)));
      await sink.close();
      expect(await stored(single.name)).toEqual([{ _id: 'acc_1', id: 'acc_1', ronin: { createdAt: '2026-01-01', by: { name: null } } }]);
      expect(await stored(pair.name)).toEqual([{ _id: { to: 2n, from_id: 'a' }, to: 2n, from: { id: 'a' } }]);
    });

    it('finds a place for every name of a column', async () => {
      const names = ['id', '_id', '_waggle', '$set', '', 'a..b', 'a.', 'ronin', 'ronin.createdAt', 'x.$y', '__proto__', 'nul\0'];
      const table = sinkTable(
        fresh('names'),
        names.map((name, index) => ({ name, key: index === 0 })),
      );
      const rows = [names.map((name) => `value of ${name}`), names.map((name) => `other of ${name}`)];
      const sink = await opened();
      await sink.apply(batchOf([rows.map((row) => upsert(table, row))], checkpointAt(1)));
      await sink.close();
      expect((await mongoRows(db, table)).map((row) => row.map((value) => value?.replace('string ', ''))).sort(byId)).toEqual(rows.sort(byId));
    });

    it('refuses a row that is larger than a document, and takes many that are together', async () => {
      const table = sinkTable(fresh('large'), [{ name: 'id', key: true }, { name: 'body' }]);
      const sink = await opened();
      await sink.apply(batchOf([Array.from({ length: 20 }, (_, id) => upsert(table, [String(id), 'ä'.repeat(1_000_000)]))], checkpointAt(1)));
      const error = await failure(sink.apply(batchOf([[upsert(table, ['x', 'SECRET'.repeat(3_000_000)])]], checkpointAt(2))));
      expect(error).toMatchObject({ code: 'SINK_ROW_REFUSED', message: expect.stringMatching(new RegExp(`${table.name}, column body`)) });
      await sink.close();
      expect(await db.collection(table.name).countDocuments()).toBe(20);
    });

    it('tells what refuses a row of a collection with another unique index, without its values', async () => {
      const table = sinkTable(fresh('unique'), [{ name: 'id', key: true }, { name: 'email' }]);
      await db.createCollection(table.name);
      await db.collection(table.name).createIndex({ email: 1 }, { unique: true });
      const sink = await opened();
      await sink.apply(batchOf([[upsert(table, ['1', 'SECRET'])]], checkpointAt(1)));
      await sink.apply(batchOf([[remove(table, ['1'])], [upsert(table, ['2', 'other'])]], checkpointAt(2)));
      const error = await failure(sink.apply(batchOf([[upsert(table, ['3', 'other'])]], checkpointAt(3))));
      expect(error).toMatchObject({ code: 'SINK_ROW_REFUSED', retryable: false, message: expect.stringContaining(table.name) });
      await sink.close();
      expect((await stored(table.name)).map((document) => document['_id'])).toEqual(['2']);
    });

    it('names each row that is refused, and writes the others', async () => {
      const table = sinkTable(fresh('refusing'), [
        { name: 'id', type: 'INTEGER', key: true, alwaysInteger: true },
        { name: 'email' },
        { name: 'doc', kind: 'json' },
        { name: 'at', kind: 'timestamp' },
        { name: 'yes', kind: 'boolean' },
      ]);
      await db.createCollection(table.name);
      await db.collection(table.name).createIndex({ email: 1 }, { unique: true, name: 'email_unique' });
      const wrong: [number, number, Value, RegExp][] = [
        [3, 1, 'e1', /unique index.*11000/],
        [60, 1, 'e59', /unique index.*11000/],
        [61, 2, '{SECRET', /column doc: .*not valid JSON/],
        [62, 2, '{"a\\u0000b": 1}', /column doc: .*name/],
        [63, 2, '{"a": {"_bsontype": "ObjectId"}}', /column doc: .*name/],
        [64, 2, `${'['.repeat(200)}${']'.repeat(200)}`, /column doc: .*levels/],
        [65, 2, `${'['.repeat(100_000)}${']'.repeat(100_000)}`, /column doc: .*(levels|deeply)/],
        [66, 2, '12345678901234567890123456789012345678901234567890.5', /column doc: .*number/],
        [67, 2, '"\\ud800"', /column doc: .*half/],
        [68, 3, 'SECRET', /column at: .*timestamp/],
        [69, 4, 2n, /column yes: .*neither/],
        [70, 2, `"${'SECRET'.repeat(3_000_000)}"`, /column doc.*16 MiB|16 MiB.*column/],
        [71, 2, `[${'1,'.repeat(1_300_000)}1]`, /16 MiB/],
      ];
      const rows = Array.from({ length: 75 }, (_, id) => {
        const row: Value[] = [BigInt(id), `e${id}`, '{}', null, null];
        for (const [place, column, value] of wrong) if (place === id) row[column] = value;
        return upsert(table, row);
      });
      const name = fresh('sink');
      const sink = await opened(name);
      const refused = await applyPassing({ sink, name }, [rows.slice(0, 20), rows.slice(20)], checkpointAt(1));
      const found = refused
        .map(({ change, error }) => [Number('key' in change && change.key[0]), error.message] as const)
        .sort((a, b) => a[0] - b[0]);
      expect(found.join()).not.toContain('SECRET');
      expect(found).toEqual(wrong.map(([id, , , message]) => [id, expect.stringMatching(message)]));
      expect((await stored(table.name)).length).toBe(rows.length - wrong.length);
      await sink.close();
    });

    it('unique values change places', async () => {
      const table = sinkTable(fresh('places'), [{ name: 'id', type: 'INTEGER', key: true, alwaysInteger: true }, { name: 'email' }]);
      await db.createCollection(table.name);
      await db.collection(table.name).createIndex({ email: 1 }, { unique: true });
      const sink = await opened();
      const rows = Array.from({ length: 30 }, (_, index) => upsert(table, [BigInt(index), `e${index}`]));
      await sink.apply(batchOf([rows], checkpointAt(1)));
      // Each takes the value of the next one, which gives it up only afterwards; the last that of one that is deleted.
      const moved = rows.slice(0, -1).map((_, index) => upsert(table, [BigInt(index), `e${index + 1}`]));
      await sink.apply(batchOf([[...moved, remove(table, [29n])]], checkpointAt(2)));
      expect((await mongoRows(db, table)).sort(byNumber)).toEqual(moved.map((_, index) => [`int64 ${index}`, `string e${index + 1}`]));
      const swapped = sink.apply(batchOf([[upsert(table, [0n, 'e2']), upsert(table, [1n, 'e1'])]], checkpointAt(3)));
      const told = await swapped.then(
        () => 'done',
        (error: Error) => ('code' in error ? error.code : error),
      );
      // Without a transaction no document can step aside.
      expect(told).toBe(kind === 'rs' ? 'done' : 'SINK_ROW_REFUSED');
      await sink.close();
    });

    it('gives fields the types that the user says, and keeps the key as it is', async () => {
      const plain: ColumnSpec[] = [{ name: 'id', key: true }, { name: 'on.at', key: true }, { name: 'yes', type: 'BOOLEAN' }, { name: 'doc' }];
      const kinds = [undefined, 'timestamp', 'boolean', 'json'] as const;
      const table = sinkTable(
        fresh('kinds'),
        plain.map((column, index) => ({ ...column, ...(kinds[index] && { kind: kinds[index] }) })),
      );
      const json =
        '{"$set": {"a.b": [1, 1.0, 1.5, -0.0, 1e3, 12345678901234567890, 0.12345678901234567891]}, "1": null, "t": true, "e": {}, "__proto__": 1}';
      const sink = await opened();
      await sink.apply(
        batchOf(
          [[upsert(table, ['a', '2026-11-21T10:00:00.123456Z', 1n, json]), upsert(table, ['b', '2026-11-21T10:00:00Z', 0n, '"x"'])]],
          checkpointAt(1),
        ),
      );
      await sink.close();
      const documents = await stored(table.name, { promoteValues: false });
      const doc = documents[0]!['doc'] as Document;
      expect(Object.keys(doc)).toEqual(['1', '$set', 't', 'e', '__proto__']);
      expect(doc['$set']['a.b'].map((value: Long | Double | Decimal128) => `${value.constructor.name} ${value.toString()}`)).toEqual([
        'Long 1',
        'Double 1',
        'Double 1.5',
        'Double 0',
        'Double 1000',
        'Decimal128 12345678901234567890',
        'Decimal128 0.12345678901234567891',
      ]);
      expect(documents[0]).toMatchObject({
        _id: { id: 'a', on_at: '2026-11-21T10:00:00.123456Z' },
        on: { at: new Date('2026-11-21T10:00:00.123Z') },
        yes: true,
      });
      expect(documents[1]).toMatchObject({ on: { at: new Date('2026-11-21T10:00:00Z') }, yes: false, doc: 'x' });
    });

    it('compares what was written by others, too: a type that differs, another field, a field that is missing', async () => {
      const table = sinkTable(fresh('foreign'), [
        { name: 'id', type: 'INTEGER', key: true, alwaysInteger: true },
        { name: 'n', type: 'INTEGER' },
        { name: 'x.y' },
      ]);
      const collection = db.collection(table.name);
      await collection.insertMany([
        { _id: 1, id: Long.fromNumber(1), n: Long.fromNumber(5), x: { y: 'v', z: 1 }, more: 1 },
        { _id: 2, id: Long.fromNumber(2), n: 5, x: { y: 'v' } },
        { _id: 3, id: Long.fromNumber(3), n: new Double(5), x: { y: 'v' } },
        { _id: 4, id: Long.fromNumber(4), n: null },
      ] as never[]);
      const sink = await opened();
      const rows = [...[1n, 2n, 3n].map((id): Value[] => [id, 5n, 'v']), [4n, null, null], [5n, null, null]];
      expect(await sink.audit!.compare(table, rows)).toEqual({ missing: [4], changed: [1, 2] });
      expect(await sink.audit!.differences!(table, [rows[1]!, [4n, 1n, 'v'], rows[4]!])).toEqual([
        [{ column: 1, wanted: 5n, found: 5 }],
        [
          { column: 1, wanted: 1n, found: null },
          { column: 2, wanted: 'v', found: null },
        ],
        [],
      ]);
      expect(await sink.audit!.count(table)).toBe(4);
      expect((await sink.audit!.keys(table, null, 10)).map(String)).toEqual([['1'], ['2'], ['3'], ['4']].map(String));
      await collection.insertOne({ n: 1 });
      await expect(sink.audit!.keys(table, [3n], 10)).rejects.toMatchObject({ code: 'SINK_NOT_READABLE' });
      await sink.close();
    });

    it('classifies what stands between it and the server, and never shows the password', { timeout: 60_000 }, async () => {
      const opening = (url: string): Promise<WaggleError> => failure(createSink({ url }).open(contextOf('x')));
      expect(await opening('mongodb://user:hunter2@127.0.0.1:1/waggle?serverSelectionTimeoutMS=300')).toMatchObject({
        code: 'SINK_UNREACHABLE',
        retryable: true,
      });
      expect(await opening('mongodb://user:hunter2@no-such-host.invalid/waggle?serverSelectionTimeoutMS=300')).toMatchObject({
        code: 'SINK_UNREACHABLE',
      });
      expect(await opening(`${server.url}?nosuchoption=1`)).toMatchObject({ code: 'CONFIG_INVALID', retryable: false });
      for (const [code, expected] of [
        [13, 'SINK_DENIED'],
        [18, 'SINK_DENIED'],
        [112, 'SINK_BUSY'],
        [121, 'SINK_ROW_REFUSED'],
        [189, 'SINK_UNREACHABLE'],
      ] as const)
        expect(toSinkError(new MongoServerError({ code, message: 'SECRET' }), 'mongodb x/y')).toMatchObject({ code: expected });
    });

    it('lets a runner that comes in the middle of a batch take over, and stops the first', async () => {
      const table = sinkTable(fresh('taken'), [{ name: 'id', key: true }]);
      const name = fresh('sink');
      const [first, second] = [await opened(name), createSink({ url: server.url })];
      await first.apply(batchOf([[upsert(table, ['1'])]], checkpointAt(1)));
      const parts = async function* (): AsyncGenerator<SinkChange[]> {
        yield [upsert(table, ['2'])];
        expect(await second.open(contextOf(name))).toEqual(checkpointAt(1));
        yield [upsert(table, ['3'])];
      };
      const stopped = await failure(first.apply({ parts, checkpoint: checkpointAt(2) }));
      await first.close();
      // The end of its transaction alone does not say why.
      const told = kind === 'rs' ? await failure(first.open(contextOf(name))) : stopped;
      expect(told).toMatchObject({ code: 'SINK_FENCED', retryable: false });
      await second.apply(batchOf([[upsert(table, ['4'])]], checkpointAt(2)));
      await second.close();
      // What the first has written stays where nothing takes it back: it comes again.
      const ids = (await stored(table.name)).map((document) => document['_id']);
      expect(ids.filter((id) => id === '1' || id === '4')).toEqual(['1', '4']);
      expect(ids.length).toBe(kind === 'rs' ? 2 : 4);
    });

    it('is whole after connections were cut at any byte', { timeout: 120_000 }, async () => {
      await using proxy = await startTcpProxy({ host: '127.0.0.1', port: server.port });
      const sink = createSink({ url: `mongodb://127.0.0.1:${proxy.port}/waggle?directConnection=true&serverSelectionTimeoutMS=1000` });
      const failures = await applyThrough(sink, 20, (attempt) => {
        if (attempt % 2 === 0) proxy.cutAfter(Math.floor(Math.random() * 9000));
      });
      expect(failures).toBeGreaterThan(3);
    });

    /** Applies batch after batch through whatever `disturb` does. Then all rows must be of the last batch. Gives how many calls failed. */
    const applyThrough = async (
      sink: Sink,
      batches: number,
      disturb: (attempt: number) => Promise<void> | void,
      { reader = () => db, afterFailure = () => {} }: { readonly reader?: () => Db; readonly afterFailure?: () => Promise<void> | void } = {},
    ): Promise<number> => {
      const name = fresh('through');
      const table = sinkTable(name, [
        { name: 'id', type: 'INTEGER', key: true, alwaysInteger: true },
        { name: 'batch', type: 'INTEGER' },
      ]);
      let [seq, failures] = [0, 0];
      for (let attempt = 0; seq < batches; attempt += 1) {
        try {
          const checkpoint = await sink.open(contextOf(name));
          if (checkpoint !== null) seq = checkpoint.seq;
          await disturb(attempt);
          const next = seq + 1;
          const parts = Array.from({ length: 4 }, (_, part) =>
            Array.from({ length: 25 }, (_row, row) => at(next * 1000 + part * 25 + row, upsert(table, [BigInt(part * 25 + row), BigInt(next)]))),
          );
          await sink.apply(batchOf(parts, checkpointAt(next)));
          seq = next;
        } catch (error) {
          failures += 1;
          if (!(error instanceof WaggleError && error.retryable)) throw error;
          await afterFailure();
        } finally {
          await sink.close();
        }
      }
      const rows = await mongoRows(reader(), table);
      expect(rows.length).toBe(100);
      expect(new Set(rows.map((row) => row[1]))).toEqual(new Set([`int64 ${batches}`]));
      return failures;
    };

    it('is whole after the server was killed and started again under load', { timeout: 240_000 }, async () => {
      await using durable = await startMongoServer(kind, { durable: true });
      await using other = new MongoClient(durable.url);
      const kills = Number(process.env['WAGGLE_SERVER_KILLS'] ?? 2);
      let killed = 0;
      let [killing, isDead] = [Promise.resolve(), false];
      const sink = createSink({ url: `${durable.url}?serverSelectionTimeoutMS=1000` });
      const failures = await applyThrough(
        sink,
        kills * 10,
        async (attempt) => {
          // The death falls into the batch that goes on then, or this one meets a dead server. Only a failure brings it back: the driver would wait for it.
          await killing;
          if (attempt % 8 !== 3 || killed === kills) return;
          killed += 1;
          isDead = true;
          killing = delay(Math.random() * 60).then(() => durable.kill());
        },
        {
          reader: () => other.db('waggle'),
          afterFailure: async () => {
            await killing;
            if (isDead) await durable.start();
            isDead = false;
          },
        },
      );
      expect(killed).toBe(kills);
      expect(failures).toBeGreaterThanOrEqual(kills);
    });
  },
);

describe.skipIf(absent)('mongodb without transactions', { timeout: 60_000 }, () => {
  it('never lets an older change overwrite a newer one, nor bring a deleted row back', async () => {
    await using server = await startMongoServer('standalone');
    await using client = new MongoClient(server.url);
    const table = sinkTable('guarded', [{ name: 'id', key: true }, { name: 'v' }]);
    const [early, late] = [createSink({ url: server.url }), createSink({ url: server.url })];
    // Two sinks of different names: nothing but the seq keeps them apart.
    await early.open(contextOf('early'));
    await late.open(contextOf('late'));
    const at = (seq: number, change: SinkRowChange): SinkRowChange => ({ ...change, source: { ...change.source, seq } });
    await late.apply(
      batchOf([[at(10, upsert(table, ['1', 'new'])), at(11, upsert(table, ['2', 'new']))], [at(12, remove(table, ['2']))]], checkpointAt(12)),
    );
    await early.apply(
      batchOf([[at(5, upsert(table, ['1', 'old'])), at(6, upsert(table, ['2', 'old'])), at(7, remove(table, ['1']))]], checkpointAt(7)),
    );
    expect(await mongoRows(client.db(), table)).toEqual([['string 1', 'string new']]);
    // Another term of the log: its seqs do not compare.
    await early.apply(
      batchOf([[at(8, upsert(table, ['1', 'other log'])), at(9, upsert(table, ['2', 'other log']))]], { ...checkpointAt(9), term: 'term-2' }),
    );
    expect((await mongoRows(client.db(), table)).map((row) => row[1])).toEqual(['string other log', 'string other log']);
    await Promise.all([early.close(), late.close()]);
  });
});

const byNumber = (a: readonly (string | null)[], b: readonly (string | null)[]): number => Number(a[0]!.slice(6)) - Number(b[0]!.slice(6));
const byId = (a: readonly unknown[], b: readonly unknown[]): number => String(a[0]).localeCompare(String(b[0]));
