/** The event as a zod schema, of its JSON form. `schemas/` holds the JSON Schema that is generated from it. */
import { z } from 'zod';

const value = z
  .union([z.null(), z.number(), z.string(), z.boolean(), z.array(z.unknown()), z.record(z.string(), z.unknown())])
  .describe(
    'true and false, lists and objects: only in columns that the sink was told to have the type boolean or json. INTEGER and REAL: a number (INTEGER beyond 2^53 digit for digit; infinities: "Infinity", "-Infinity"). TEXT: a string. BLOB: base64.',
  );
const row = z.record(z.string(), value);
const count = z.int().min(0);
const timestampNs = z.number().min(0).describe('Nanoseconds since 1970.');

const times = {
  ts_ms: count.describe('When waggle saw the commit (for op r: read the row), milliseconds since 1970.'),
  ts_us: count,
  ts_ns: timestampNs,
};

const source = z.strictObject({
  version: z.string().describe("Waggle's version."),
  connector: z.literal('sqlite'),
  name: z.string().describe("The hive's name."),
  ...times,
  snapshot: z.enum(['true', 'false']).describe('true: an existing row, read outside the log.'),
  db: z.literal('main'),
  table: z.string(),
  sequence: z.string().describe('A JSON array: epoch and frame of the commit, as strings; 0 and 0 before the first transaction.'),
  txid: z.string().describe('epoch:frame of the commit.'),
  origin: z.string().nullable().describe('null for the application, else the peer it was replicated from.'),
  recovered: z.boolean().describe('true: the net effect of a time in which nothing held the WAL.'),
});

const frame = {
  seq: z.int().min(1).nullable().describe('Number of the change in the log, without gaps; null outside the log (op r).'),
  source,
  transaction: z
    .strictObject({
      id: z.string(),
      total_order: z.int().min(1),
      data_collection_order: z.int().min(1),
      last: z.literal(true).optional().describe('Present on the last change of a transaction.'),
    })
    .nullable(),
  ...times,
};

const nothing = { key: z.null(), before: z.null(), after: z.null() };

export const rowEventSchema = z.strictObject({
  op: z.enum(['c', 'u', 'd', 'r']),
  key: row.describe('Key columns; waggle_rowid for tables without a declared key, and beside keys that do not tell the row.'),
  before: row.nullable(),
  after: row.nullable(),
  ...frame,
});

export const truncateEventSchema = z.strictObject({
  op: z.literal('t').describe('All rows of the table are gone.'),
  ...nothing,
  after: row.nullable().describe('Where deletes are soft no row goes: all that have NULL in this one column get this value.'),
  ...frame,
});

const columns = z.array(z.strictObject({ name: z.string(), type: z.string(), key: count, not_null: z.boolean(), default: value })).nullable();

export const schemaEventSchema = z.strictObject({
  op: z.literal('s').describe('The table was created, altered or dropped.'),
  ...nothing,
  ddl: z.string().nullable().describe('The CREATE statement; null after a drop.'),
  columns,
  previous_columns: columns.describe('As of before; null if the table was created.'),
  ...frame,
  source: source.extend({ previous: z.string().nullable().describe("The table's name before; null if it was created.") }),
});

export const envelopeSchema = z
  .discriminatedUnion('op', [rowEventSchema, truncateEventSchema, schemaEventSchema])
  .meta({ title: 'Waggle event', description: "A row's change, in Debezium's envelope." });
