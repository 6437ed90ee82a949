/** Records for Kafka Connect: what its JsonConverter makes of them is what the hive holds, or the row is refused. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { connectFormat, fieldTypeOf, fitted } from '../../connectors/kafka/connect-format.ts';
import { textOf } from '../../connectors/value-text.ts';
import { EnvelopeEncoder } from '../../src/change/envelope.ts';
import { parseChange } from '../../src/change/parse-change.ts';
import type { Value } from '../../src/change/table.ts';
import { RowRefusedError, type SinkRowChange } from '../../src/pipeline/sink.ts';
import { remove, sinkTable, truncate, upsert } from './sink-changes.ts';

interface Schema {
  readonly type: string;
  readonly optional: boolean;
  readonly name?: string;
  readonly field?: string;
  readonly fields?: readonly Schema[];
  readonly items?: Schema;
}

/** What org.apache.kafka.connect.json.JsonConverter (4.1) makes of a JSON value under a schema, its silent conversions included. BLOBs as base64. */
const connected = (schema: Schema, value: unknown, source: string): unknown => {
  if (value === null || value === undefined) return schema.optional ? null : Symbol('not optional');
  switch (schema.type) {
    case 'int64':
      return typeof value === 'number' ? BigInt(/^-?\d+$/.test(source) ? source : Math.trunc(value)) : 0n;
    case 'double':
      return typeof value === 'number' ? value : 0;
    case 'string':
    case 'bytes':
      return typeof value === 'string' ? value : null;
    case 'boolean':
      return value === true;
    default:
      throw new Error(`no type ${schema.type}`);
  }
};

const format = connectFormat(new EnvelopeEncoder({ hive: 'app', version: '0' }), { prefix: 'app', label: 'kafka' });

const table = sinkTable('values', [
  { name: 'id', type: 'INTEGER', key: true, alwaysInteger: true },
  { name: 'int', type: 'INTEGER' },
  { name: 'real', type: 'REAL' },
  { name: 'num', type: 'DECIMAL(10,2)' },
  { name: 'bool', type: 'BOOLEAN' },
  { name: 'date', type: 'DATETIME' },
  { name: 'text', type: 'TEXT' },
  { name: 'blob', type: 'BLOB' },
  { name: 'any', type: '' },
]);

/** What a reader gets of the row, or what refused it. */
const outcome = (change: SinkRowChange): unknown => {
  try {
    const sources = new Map<string, string>();
    const { schema, payload } = JSON.parse(format.row(change).value, (name, each: unknown, context?: { source?: string }) => {
      if (context?.source !== undefined) sources.set(name, context.source);
      return each;
    });
    const row = schema.fields.find(({ field }: Schema) => field === 'after') as Schema;
    return row.fields!.map((field) => connected(field, payload.after[field.field!], sources.get(field.field!) ?? ''));
  } catch (error) {
    if (!(error instanceof RowRefusedError)) throw error;
    return { code: error.code, change: error.change };
  }
};

/** What the value is to a reader of the column: itself, or the conversion that is documented. */
const readBack = (value: Value, index: number): unknown => {
  if (value === null) return null;
  switch (fieldTypeOf(table.columns[index]!).type) {
    case 'int64':
      return BigInt(value as number);
    case 'double':
      return Number(value);
    case 'bytes':
      return Buffer.from(value as string).toString('base64');
    default:
      return textOf(value);
  }
};

describe('connect format', () => {
  it('chooses a type for each column', () => {
    expect(table.columns.map((column) => fieldTypeOf(column).type)).toEqual([
      'int64',
      'int64',
      'double',
      'double',
      'int64',
      'string',
      'string',
      'bytes',
      'string',
    ]);
    const [column] = table.columns;
    expect(fieldTypeOf({ ...column!, kind: 'boolean' })).toEqual({ type: 'boolean' });
    expect(fieldTypeOf({ ...column!, kind: 'timestamp' })).toEqual({ type: 'string', name: 'io.debezium.time.ZonedTimestamp' });
    expect(fieldTypeOf({ ...column!, kind: 'json' })).toEqual({ type: 'string', name: 'io.debezium.data.Json' });
  });

  it('has a schema by whose types every value that is written reads back as itself; the rest is refused', () => {
    const value = fc.oneof(
      fc.constant(null),
      fc.integer(),
      fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
      fc.double({ noNaN: true }),
      fc.constantFrom(1e300, -0, 0.5, Infinity, 9_007_199_254_740_993n, 2 ** 63, -(2 ** 63), '9007199254740993', '2.5', 'true', 'é\u0000"'),
      fc.string(),
      fc.uint8Array({ maxLength: 5 }),
    );
    fc.assert(
      fc.property(fc.array(value, { minLength: 8, maxLength: 8 }), (values: Value[]) => {
        const change = upsert(table, [7, ...values], 'c');
        const misfits = change.after!.some((each, index) => fitted(each, fieldTypeOf(table.columns[index]!)) === undefined);
        expect(outcome(change)).toEqual(misfits ? { code: 'SINK_ROW_REFUSED', change } : change.after!.map(readBack));
      }),
      { numRuns: 2000 },
    );
  });

  it('describes every field of the payload, of each kind of event', () => {
    const row = upsert(table, [7, 1, 1.5, 2, 1, 'now', 'x', new Uint8Array([255]), 'y'], 'u');
    const update: SinkRowChange = { ...row, before: row.after };
    const gone: SinkRowChange = { ...remove(table, [7]), before: row.after };
    for (const text of [
      format.row(update).value,
      format.row(gone).value,
      format.truncate(truncate(table) as Parameters<typeof format.truncate>[0]),
    ]) {
      const { schema, payload } = JSON.parse(text);
      expect(schema.name).toBe('app.main.values.Envelope');
      /** Fields without a schema, and values that are missing though they must not be. */
      const faults = (of: Schema, value: Record<string, unknown>, left: readonly string[]): string[] => [
        ...Object.keys(value).filter((name) => !of.fields!.some(({ field }) => field === name) && !left.includes(name)),
        ...of.fields!.flatMap((each) => {
          const inner = value[each.field!];
          if (inner === null || inner === undefined) return each.optional ? [] : [each.field!];
          return each.type === 'struct' ? faults(each, inner as Record<string, unknown>, ['last']) : [];
        }),
      ];
      // The key stands in the record's own.
      expect(faults(schema, payload, ['key'])).toEqual([]);
      expect(parseChange({ value: text })).toMatchObject({ op: payload.op, source: { table: 'values' } });
    }
    const key = JSON.parse(format.row(update).key);
    expect(key).toEqual({
      schema: { type: 'struct', name: 'app.main.values.Key', optional: false, fields: [{ type: 'int64', optional: false, field: 'id' }] },
      payload: { id: 7 },
    });
  });

  it('leaves out an old image that does not fit, so that the row can be mended; refuses a key that does not', () => {
    const bad = upsert(table, [7, 'no number', 1.5, 2, 1, 'now', 'x', null, 'y'], 'u');
    const good = upsert(table, [7, 5, 1.5, 2, 1, 'now', 'x', null, 'y'], 'u');
    expect(() => format.row(bad)).toThrow(expect.objectContaining({ code: 'SINK_ROW_REFUSED', message: expect.stringMatching(/column int/) }));
    expect(JSON.parse(format.row({ ...good, before: bad.after }).value).payload).toMatchObject({ before: null, after: { int: 5 } });
    expect(() => format.row(upsert(table, [null, 5, 1.5, 2, 1, 'now', 'x', null, 'y'], 'c'))).toThrow(
      expect.objectContaining({ code: 'SINK_ROW_REFUSED' }),
    );
    expect(() => format.row(bad)).not.toThrow(/no number/);
  });
});
