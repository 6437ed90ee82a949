/** What stands in the topics, as an AsyncAPI 3.0 document (https://www.asyncapi.com/docs/reference/specification/v3.0.0): `schemas/asyncapi.json`. */
import { z } from 'zod';
import { rowEventSchema, schemaEventSchema, truncateEventSchema } from '../../src/change/envelope-schema.ts';
import { VERSION } from '../../src/support/version.ts';

const count = z.int().min(0);
const milliseconds = count.describe('Milliseconds since 1970.');

export const transactionRecordSchema = z
  .discriminatedUnion('status', [
    z.strictObject({ status: z.literal('BEGIN'), id: z.string(), event_count: z.null(), data_collections: z.null(), ts_ms: milliseconds }),
    z.strictObject({
      status: z.literal('END'),
      id: z.string().describe('epoch:frame of the commit, as `transaction.id` of its events.'),
      event_count: count.describe('Records of the transaction in the topics of tables, without tombstones.'),
      data_collections: z.array(z.strictObject({ data_collection: z.string().describe("The table's name."), event_count: count })),
      ts_ms: milliseconds.describe('When waggle saw the commit, milliseconds since 1970.'),
    }),
  ])
  .describe('As Debezium writes them.');

export const heartbeatRecordSchema = z.strictObject({
  hive: z.string(),
  seq: count.nullable().describe('The last one that was published.'),
  txid: z.string().nullable(),
  ts_ms: milliseconds,
});

const ofZod = (schema: z.ZodType): object => {
  const { $schema: _, ...rest } = z.toJSONSchema(schema);
  return rest;
};

const text = (description: string): object => ({ type: 'string', description });
const headers = (properties: Readonly<Record<string, object>>): object => ({ type: 'object', properties });
const message = (name: string, parts: { summary: string; payload: object; headers: object; key: object }): object => ({
  name,
  summary: parts.summary,
  contentType: 'application/json',
  headers: parts.headers,
  payload: parts.payload,
  bindings: { kafka: { key: parts.key, bindingVersion: '0.5.0' } },
});

const PLACE = { seq: text('Number of the change in the log; absent outside of it (op r).'), txid: text('epoch:frame of the commit.') };
const CHANGE_HEADERS = headers({
  ...PLACE,
  op: text('c, u, d, r or t, as in the value.'),
  schema: text("Version of the table's form: 16 hex digits. A record of `{prefix}.schema` with the same header describes it."),
  last: text('`true` on the last record of a transaction of the hive in its partition; absent else.'),
});
const ROW_KEY = { type: 'object', description: 'Columns of the key, as `key` of the event.' };

const MESSAGES: Readonly<Record<string, object>> = {
  row: message('row', {
    summary: 'A row was created, updated or deleted, or was there.',
    payload: ofZod(rowEventSchema),
    headers: CHANGE_HEADERS,
    key: ROW_KEY,
  }),
  truncate: message('truncate', {
    summary: 'All rows of the table are gone: in each partition, of the keys that belong there.',
    payload: ofZod(truncateEventSchema),
    headers: CHANGE_HEADERS,
    key: { type: ['null', 'object'] },
  }),
  tombstone: message('tombstone', {
    summary: 'Follows a deleted row: compaction may forget the key.',
    payload: { type: 'null' },
    headers: CHANGE_HEADERS,
    key: ROW_KEY,
  }),
  schema: message('schema', {
    summary: 'A table was created, altered or dropped; with `seq` null: the form of a table whose rows were met first. Never deleted by Kafka.',
    payload: ofZod(schemaEventSchema),
    headers: headers({
      ...PLACE,
      op: text('s'),
      schema: text('The version; absent when the table was dropped.'),
      previous: text('The version before, where the table was altered.'),
      table: text('The form, as JSON, for waggle itself.'),
    }),
    key: { type: 'object', description: '`hive`, `table` and `schema`.' },
  }),
  transaction: message('transaction', {
    summary: 'A transaction of the hive begins or ends.',
    payload: ofZod(transactionRecordSchema),
    headers: headers({ ...PLACE, hive: text("The hive's name.") }),
    key: { type: 'object', description: '`id` of the transaction.' },
  }),
  heartbeat: message('heartbeat', {
    summary: 'The publisher lives, and nothing was to be published.',
    payload: ofZod(heartbeatRecordSchema),
    headers: headers({}),
    key: { type: 'object', description: '`hive`.' },
  }),
};

const PREFIX = { description: "`prefix` of the sink; default: the hive's name." };

const channel = (address: string, names: readonly string[], parameters: Readonly<Record<string, object>> = { prefix: PREFIX }): object => ({
  address,
  parameters,
  messages: Object.fromEntries(names.map((name) => [name, { $ref: `#/components/messages/${name}` }])),
});

const CHANNELS: Readonly<Record<string, object>> = {
  rows: channel('{prefix}.{table}', ['row', 'truncate', 'tombstone'], {
    prefix: PREFIX,
    table: { description: "The table's name in the sink; characters that Kafka does not take are `_`." },
  }),
  schemas: channel('{prefix}.schema', ['schema']),
  transactions: channel('{prefix}.transaction', ['transaction']),
  heartbeats: channel('{prefix}.heartbeat', ['heartbeat']),
};

export const asyncApi = (): object => ({
  asyncapi: '3.0.0',
  info: {
    title: 'Waggle in Kafka',
    version: VERSION,
    description:
      'Row changes of a SQLite database. Read them with isolation level `read_committed`: records of a batch that was taken back are never to be seen then.',
  },
  defaultContentType: 'application/json',
  channels: CHANNELS,
  operations: Object.fromEntries(Object.keys(CHANNELS).map((name) => [name, { action: 'send', channel: { $ref: `#/channels/${name}` } }])),
  components: { messages: MESSAGES },
});
