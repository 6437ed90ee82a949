import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { Webhook } from 'standardwebhooks';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { options as schema } from '../../connectors/webhook/options.ts';
import { parseRetryAfter } from '../../connectors/webhook/errors.ts';
import { tellsError } from '../../connectors/webhook/error-body.ts';
import { createSink } from '../../connectors/webhook/sink.ts';
import { jsonValue } from '../../src/change/envelope.ts';
import { envelopeSchema } from '../../src/change/envelope-schema.ts';
import type { Value } from '../../src/change/table.ts';
import { type ColumnKind, RowRefusedError, type Sink, type SinkContext } from '../../src/pipeline/sink.ts';
import { freePort } from '../helpers/free-port.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';
import { WebhookReceiver } from '../helpers/webhook-receiver.ts';
import { conformance } from './conformance.ts';
import type { ConformanceTarget } from './conformance/target.ts';
import { batchOf, checkpointAt, contextOf, remove, schemaChange, sinkTable, truncate, upsert } from './sink-changes.ts';

const directory = temporaryDirectory();
afterAll(() => directory[Symbol.dispose]());

const context = (name: string): SinkContext => {
  const stateDir = join(directory.path, encodeURIComponent(name));
  mkdirSync(stateDir, { recursive: true });
  return contextOf(name, stateDir);
};

const make = (options: Record<string, unknown>): Sink => createSink(schema.parse(options));

/** The suite's sinks have no state directory of their own. */
const withStateDir = (place: string, sink: Sink): Sink => ({
  wants: sink.wants,
  open: ({ name }) => sink.open(context(`${place} ${name}`)),
  apply: (batch) => sink.apply(batch),
  close: () => sink.close(),
});

/** A receiver's own business: tables, their columns and the right to write them. And it keeps no checkpoint: at least once, nobody is fenced. */
const WITHOUT = [
  'follows ADD, RENAME and DROP COLUMN in the middle of a part',
  'ends in the same state when a batch is delivered again',
  'makes whole a batch that broke off',
  "refuses waggle's own table names",
  'says so when a table that it created has gone, instead of going on with an empty one',
  'lets a second runner take over and stops the first',
  'does not take the sink back from a second runner by opening again',
];
const NULL_KEY = 'refuses a key that is NULL, and passes over its delete';

describe.each(['envelope', 'hive', 'convex'] as const)('webhook, format %s', (format) => {
  let receiver: WebhookReceiver;
  beforeEach(async () => void (receiver = await WebhookReceiver.start()));
  afterEach(() => receiver[Symbol.asyncDispose]());

  const target = (concurrency: number): ConformanceTarget => ({
    createSink: () => withStateDir(`${format} ${concurrency}`, make({ url: receiver.url, format, concurrency, max_records: 7, truncate: true })),
    drop: async (table) => void receiver.db.prepare('DELETE FROM rows WHERE model = ?').run(table.name),
    rows: async (table) =>
      receiver.rows(
        table.name,
        table.columns.map((column) => column.name),
      ),
    show: (value: Value) => (value === null ? null : jsonValue(value)),
  });

  const without = format === 'envelope' ? [...WITHOUT, NULL_KEY] : WITHOUT;
  describe.each([1, 4])('%i at a time', (concurrency) => {
    conformance(async () => target(concurrency), { holdsNul: true, atomic: false, rekeys: true, users: null, without });
  });
});

const table = sinkTable('accounts', [
  { name: 'id', key: true },
  { name: 'n', type: 'INTEGER' },
]);

describe('webhook', () => {
  let receiver: WebhookReceiver;
  let counter = 0;
  let name = '';
  beforeEach(async () => {
    receiver = await WebhookReceiver.start();
    name = `sink-${(counter += 1)}`;
  });
  afterEach(() => receiver[Symbol.asyncDispose]());

  const opened = async (options: Record<string, unknown> = {}): Promise<Sink> => {
    const sink = make({ url: receiver.url, ...options });
    await sink.open(context(name));
    return sink;
  };
  const rows = (from: number, to: number): ReturnType<typeof upsert>[] =>
    Array.from({ length: to - from }, (_, index) => upsert(table, [`a${from + index}`, from + index], 'c'));
  const ids = (): unknown[] => receiver.db.prepare('SELECT id FROM rows').pluck().all();

  describe('bodies', () => {
    it('hive: one record to /sync, several of one operation to /sync/batch, in the order of the log', async () => {
      const sink = await opened({ format: 'hive', headers: { 'X-Sync-Secret': 's3cret' } });
      const gone = { ...remove(table, ['a']), before: ['a', 2] };
      await sink.apply(batchOf([[upsert(table, ['a', 1], 'c'), upsert(table, ['b', 1], 'r'), upsert(table, ['a', 2]), gone]], checkpointAt(4)));
      const timestamp = '2023-11-14T22:13:20.000Z';
      expect(receiver.requests.map(({ path, body }) => [path, JSON.parse(body)])).toEqual([
        [
          '/in/sync/batch',
          {
            model: 'accounts',
            operation: 'create',
            records: [
              { data: { id: 'a', n: 1 }, recordId: 'a' },
              { data: { id: 'b', n: 1 }, recordId: 'b' },
            ],
            timestamp,
          },
        ],
        ['/in/sync', { model: 'accounts', operation: 'update', data: { id: 'a', n: 2 }, recordId: 'a', timestamp }],
        ['/in/sync', { model: 'accounts', operation: 'delete', data: { id: 'a', n: 2 }, recordId: 'a', timestamp }],
      ]);
      expect(receiver.requests.every(({ headers }) => headers['x-sync-secret'] === 's3cret')).toBe(true);
    });

    it.each(['envelope', 'hive', 'convex'])('%s: what the user says is boolean or JSON is so in JSON', async (format) => {
      const kinds = sinkTable('kinds', [
        { name: 'id', key: true },
        { name: 'yes' },
        { name: 'no' },
        { name: 'tags' },
        { name: 'none' },
        { name: 'at' },
      ]);
      const told = ['id', 'boolean', 'boolean', 'json', 'json', 'timestamp'].map((kind, index) => ({
        ...kinds.columns[index]!,
        ...(kind === 'id' ? {} : { kind: kind as ColumnKind }),
      }));
      const sink = await opened({ format });
      await sink.apply(
        batchOf([[upsert({ ...kinds, columns: told }, ['a', 1, 0n, '[1,{"b":null}]', null, '2026-11-21T10:00:00Z'])]], checkpointAt(1)),
      );
      const body = JSON.parse(receiver.requests[0]!.body);
      const row = { id: 'a', yes: true, no: false, tags: [1, { b: null }], none: null, at: '2026-11-21T10:00:00Z' };
      expect(format === 'envelope' ? body[0].after : body.data).toEqual(row);
      if (format === 'envelope') envelopeSchema.parse(body[0]);
    });

    it('convex: one change a request', async () => {
      const sink = await opened({ format: 'convex' });
      await sink.apply(batchOf([[upsert(table, ['a', 1], 'c'), upsert(table, ['a', 2]), remove(table, ['a'])]], checkpointAt(3)));
      expect(receiver.requests.map(({ path, body }) => [path, JSON.parse(body)])).toEqual([
        ['/in', { model: 'accounts', operation: 'add', data: { id: 'a', n: 1 }, hiveId: 'a' }],
        ['/in', { model: 'accounts', operation: 'set', data: { id: 'a', n: 2 }, hiveId: 'a' }],
        ['/in', { model: 'accounts', operation: 'remove', data: null, hiveId: 'a' }],
      ]);
    });

    it('envelope: events, schema changes among them, cut by number and by size', async () => {
      const sink = await opened({ max_records: 3 });
      await sink.apply(batchOf([[schemaChange(null, table), ...rows(0, 3), truncate(table)]], checkpointAt(5)));
      expect(receiver.requests.map(({ body }) => JSON.parse(body).map((event: { op: string }) => event.op))).toEqual([
        ['s', 'c', 'c'],
        ['c', 't'],
      ]);
      const small = await opened({ max_body: '700B' });
      receiver.requests.length = 0;
      await small.apply(batchOf([rows(0, 3)], checkpointAt(8)));
      expect(receiver.requests.map(({ body }) => JSON.parse(body).length)).toEqual([2, 1]);
    });

    it('hive: an emptied table is told only where the receiver is said to know it', async () => {
      const quiet = await opened({ format: 'hive' });
      await quiet.apply(batchOf([[truncate(table)]], checkpointAt(1)));
      expect(receiver.requests).toEqual([]);
      const telling = await opened({ format: 'hive', truncate: true });
      await telling.apply(batchOf([[truncate(table)]], checkpointAt(2)));
      expect(JSON.parse(receiver.requests[0]!.body)).toMatchObject({ model: 'accounts', operation: 'truncate', data: null, recordId: null });
    });
  });

  describe('signature', () => {
    const secret = `whsec_${Buffer.from('0123456789abcdef0123456789abcdef').toString('base64')}`;
    const headersOf = (index: number): Record<string, string> => receiver.requests[index]!.headers as Record<string, string>;

    it('is accepted by the library of Standard Webhooks, and by no other secret', async () => {
      const sink = await opened({ secret });
      await sink.apply(batchOf([[upsert(table, ['ä€😀', 1])]], checkpointAt(1)));
      const { body } = receiver.requests[0]!;
      expect(new Webhook(secret).verify(body, headersOf(0))).toEqual(JSON.parse(body));
      expect(() => new Webhook(secret.replace('M', 'N')).verify(body, headersOf(0))).toThrow('No matching signature');
      expect(() => new Webhook(secret).verify(`${body} `, headersOf(0))).toThrow('No matching signature');
    });

    it('takes any text as a secret', async () => {
      const sink = await opened({ secret: 'plain text' });
      await sink.apply(batchOf([rows(0, 1)], checkpointAt(1)));
      const webhook = new Webhook('plain text', { format: 'raw' });
      expect(() => webhook.verify(receiver.requests[0]!.body, headersOf(0))).not.toThrow();
    });

    it('gives what is sent again the same id, and other content another', async () => {
      const sink = await opened();
      const batch = [rows(0, 2)];
      receiver.behave = (_, index) => (index === 0 ? { cut: 'after' } : null);
      await expect(sink.apply(batchOf(batch, checkpointAt(2)))).rejects.toMatchObject({ code: 'SINK_UNREACHABLE' });
      await sink.open(context(name));
      await sink.apply(batchOf(batch, checkpointAt(2)));
      await sink.apply(batchOf([rows(2, 3)], checkpointAt(3)));
      const names = receiver.requests.map(({ headers }) => headers['webhook-id']);
      expect(names[0]).toMatch(/^log-1\.\d+-\d+\.[0-9a-f]{16}$/);
      expect(names[1]).toBe(names[0]);
      expect(names[2]).not.toBe(names[0]);
      expect(receiver.requests[1]!.body).toBe(receiver.requests[0]!.body);
    });
  });

  describe('delivery', () => {
    it('does not begin a failed batch from its first request again', async () => {
      const sink = await opened({ max_records: 1 });
      const batch = [rows(0, 4), [upsert(table, ['filled', 1], 'r')].map((row) => ({ ...row, source: { ...row.source, seq: null } }))];
      receiver.behave = (_, index) => (index === 4 ? { status: 503, body: 'SECRET' } : null);
      const refused = sink.apply(batchOf(batch, checkpointAt(4)));
      await expect(refused).rejects.toMatchObject({ code: 'SINK_BUSY', retryable: true, message: expect.not.stringContaining('SECRET') });
      await sink.close();
      expect(await sink.open(context(name))).toBeNull();
      await sink.apply(batchOf(batch, checkpointAt(4)));
      expect(receiver.requests.length).toBe(6);
      expect(ids().length).toBe(5);
      // Once it is through, the same changes are sent when somebody asks for them: a dead letter that is tried again.
      await sink.apply(batchOf([batch[0]!], checkpointAt(4)));
      expect(receiver.requests.length).toBe(10);
    });

    it('a row that gets another key in the target is two changes of one seq: the second is sent again, too', async () => {
      const sink = await opened({ format: 'hive' });
      const [gone, come] = [remove(table, ['old']), upsert(table, ['new', 1], 'c')];
      const moved = [gone, { ...come, source: gone.source }];
      receiver.behave = ({ body }, index) => (index === 1 && body.includes('"new"') ? { status: 503 } : null);
      await expect(sink.apply(batchOf([moved], checkpointAt(1)))).rejects.toMatchObject({ code: 'SINK_BUSY' });
      await sink.close();
      await sink.open(context(name));
      await sink.apply(batchOf([moved], checkpointAt(1)));
      expect(ids()).toEqual(['"new"']);
      expect(receiver.requests.length).toBe(3);
    });

    it('looks for the row that is refused, sends the others, and names it', async () => {
      const sink = await opened({ max_records: 50, format: 'hive' });
      receiver.behave = ({ body }) => (body.includes('"a17"') ? { status: 422 } : null);
      const refused: unknown = await sink.apply(batchOf([rows(0, 40)], checkpointAt(40))).catch((error: unknown) => error);
      expect(refused).toBeInstanceOf(RowRefusedError);
      expect(refused).toMatchObject({ code: 'SINK_ROW_REFUSED', change: { key: ['a17'] }, message: expect.not.stringContaining('a17') });
      expect(ids()).toHaveLength(17);
      // As the runner goes on: without it.
      await sink.close();
      await sink.open(context(name));
      receiver.requests.length = 0;
      const all = rows(0, 40);
      await sink.apply(batchOf([all.filter(({ key }) => key[0] !== 'a17')], checkpointAt(40)));
      expect(ids()).toHaveLength(39);
      await expect(sink.apply(batchOf([[all[17]!]], checkpointAt(40)))).rejects.toMatchObject({ change: { key: ['a17'] } });
    });

    it('sends several at a time, each row in its order', async () => {
      const sink = await opened({ format: 'convex', concurrency: 3 });
      // Whoever overtook its row's first change would be overwritten by it.
      receiver.behave = ({ body }) => (body.includes('"n":1}') ? { wait: delay(10) } : null);
      const keys = Array.from({ length: 12 }, (_, index) => `k${index}`);
      await sink.apply(batchOf([keys.flatMap((key) => [upsert(table, [key, 1], 'c'), upsert(table, [key, 2])])], checkpointAt(24)));
      expect(receiver.mostRunning).toBe(3);
      expect(receiver.rows('accounts', ['n'])).toEqual(keys.map(() => ['2']));
    });

    it('gives up a slow answer after its time', async () => {
      const sink = await opened({ timeout: '50ms' });
      const { promise, resolve } = Promise.withResolvers<void>();
      receiver.behave = () => ({ wait: promise });
      await expect(sink.apply(batchOf([rows(0, 1)], checkpointAt(1)))).rejects.toMatchObject({ code: 'SINK_UNREACHABLE', retryable: true });
      resolve();
      receiver.behave = () => null;
      await sink.apply(batchOf([rows(0, 1)], checkpointAt(1)));
      expect(ids()).toEqual(['{"id":"a0"}']);
    });

    it('gives up when the daemon does', async () => {
      const stop = new AbortController();
      const sink = make({ url: receiver.url });
      await sink.open({ ...context(name), signal: stop.signal });
      const { promise, resolve } = Promise.withResolvers<void>();
      receiver.behave = () => {
        stop.abort();
        return { wait: promise };
      };
      await expect(sink.apply(batchOf([rows(0, 1)], checkpointAt(1)))).rejects.toMatchObject({ code: 'SINK_UNREACHABLE' });
      resolve();
    });

    it('goes on when the server is there again', async () => {
      const sink = await opened();
      await sink.apply(batchOf([rows(0, 1)], checkpointAt(1)));
      await receiver.stop();
      await expect(sink.apply(batchOf([rows(1, 2)], checkpointAt(2)))).rejects.toMatchObject({ code: 'SINK_UNREACHABLE', retryable: true });
      await sink.close();
      await sink.open(context(name));
      await expect(sink.apply(batchOf([rows(1, 2)], checkpointAt(2)))).rejects.toMatchObject({ message: expect.stringContaining('nobody listens') });
      await receiver.listen();
      await sink.close();
      expect(await sink.open(context(name))).toEqual(checkpointAt(1));
      await sink.apply(batchOf([rows(1, 2)], checkpointAt(2)));
      expect(ids().length).toBe(2);
    });
  });

  describe('answers', () => {
    it.each([
      [400, 'SINK_ROW_REFUSED', false],
      [401, 'SINK_DENIED', false],
      [403, 'SINK_DENIED', false],
      [404, 'SINK_DENIED', false],
      [408, 'SINK_BUSY', true],
      [410, 'SINK_DENIED', false],
      [413, 'SINK_ROW_REFUSED', false],
      [422, 'SINK_ROW_REFUSED', false],
      [425, 'SINK_BUSY', true],
      [429, 'SINK_BUSY', true],
      [500, 'SINK_BUSY', true],
      [503, 'SINK_BUSY', true],
      [301, 'SINK_DENIED', false],
      [307, 'SINK_DENIED', false],
    ])('%i is %s', async (status, code, retryable) => {
      const sink = make({ url: `${receiver.url.replace('://', '://user:hunter2@')}/token-in-path`, secret: 'hunter2' });
      await sink.open(context(name));
      receiver.behave = () => ({ status, headers: { location: 'http://127.0.0.1:1/' }, body: '{"error":"SECRET"}' });
      const error: unknown = await sink.apply(batchOf([rows(0, 1)], checkpointAt(1))).catch((reason: unknown) => reason);
      expect(error).toMatchObject({ code, retryable, message: expect.stringContaining(String(status)) });
      const { message, hint } = error as { message: string; hint: string };
      expect(`${message} ${hint}`).not.toMatch(/hunter2|token-in-path|SECRET|\n/);
      expect(receiver.requests[0]!.headers.authorization).toBe(`Basic ${Buffer.from('user:hunter2').toString('base64')}`);
      await sink.close();
      expect(await sink.open(context(name))).toBeNull();
    });

    it('hands Retry-After on, in seconds or as a date', async () => {
      const sink = await opened();
      receiver.behave = () => ({ status: 429, headers: { 'retry-after': '7' } });
      await expect(sink.apply(batchOf([rows(0, 1)], checkpointAt(1)))).rejects.toMatchObject({ retryAfterMs: 7000 });
      const now = Date.parse('2026-11-21T10:00:00Z');
      expect(parseRetryAfter('Sat, 21 Nov 2026 10:01:30 GMT', now)).toBe(90_000);
      expect(parseRetryAfter('Sat, 21 Nov 2026 09:00:00 GMT', now)).toBe(0);
      expect(parseRetryAfter('999999999', now)).toBe(3_600_000);
      expect(parseRetryAfter('soon', now)).toBeNull();
    });

    it('takes a 2xx with an error in its body as a refusal, unless told not to', async () => {
      receiver.behave = () => ({ status: 200, body: '{"status":"error","errorMessage":"SECRET"}', apply: true });
      const sink = await opened();
      await expect(sink.apply(batchOf([rows(0, 1)], checkpointAt(1)))).rejects.toMatchObject({
        code: 'SINK_ROW_REFUSED',
        message: expect.not.stringContaining('SECRET'),
      });
      await (await opened({ error_body: false })).apply(batchOf([rows(0, 1)], checkpointAt(1)));
    });

    it.each([
      ['{"success":false}', true],
      ['{"ok":false,"rows":3}', true],
      ['{"error":"no"}', true],
      ['{"error":{"code":1}}', true],
      ['{"errors":[{"message":"no"}]}', true],
      [' {"status":"failed"}', true],
      ['{"success":true,"error":null,"errors":[]}', false],
      ['{"status":"success","value":null}', false],
      ['error', false],
      ['{"success":false', false],
      ['', false],
    ])('%s tells of an error: %s', (body, expected) => expect(tellsError(body)).toBe(expected));

    it('reads no more of an answer than it must', async () => {
      receiver.behave = () => ({ status: 200, body: `{"pad":"${'x'.repeat(1_000_000)}","error":"late"}`, apply: true });
      const sink = await opened();
      await sink.apply(batchOf([rows(0, 1)], checkpointAt(1)));
      await sink.apply(batchOf([rows(1, 2)], checkpointAt(2)));
      expect(ids().length).toBe(2);
    });

    it('takes a connection that is cut before its answer, or that speaks no HTTP, for one to try again', async () => {
      const sink = await opened();
      receiver.behave = () => ({ cut: 'before' });
      await expect(sink.apply(batchOf([rows(0, 1)], checkpointAt(1)))).rejects.toMatchObject({ code: 'SINK_UNREACHABLE', retryable: true });
      const port = await freePort();
      const server = createServer((socket) => socket.end('SSH-2.0-x\r\n')).listen(port, '127.0.0.1');
      const other = make({ url: `http://127.0.0.1:${port}/` });
      await other.open(context(name));
      await expect(other.apply(batchOf([rows(0, 1)], checkpointAt(1)))).rejects.toMatchObject({ code: 'SINK_UNREACHABLE' });
      server.close();
    });
  });

  it('refuses options that cannot be', () => {
    expect(schema.safeParse({ url: 'ftp://host/' }).success).toBe(false);
    expect(schema.safeParse({ url: 'https://host/', headers: { 'Content-Type': 'x' } }).success).toBe(false);
    expect(schema.safeParse({ url: 'https://host/', headers: { 'X-A': 'line\nbreak' } }).success).toBe(false);
    expect(schema.safeParse({ url: 'https://host/', concurrency: 0 }).success).toBe(false);
  });
});
