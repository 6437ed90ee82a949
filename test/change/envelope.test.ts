import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Change, TransactionInfo } from '../../src/change/change.ts';
import { EnvelopeEncoder, encodeEnvelope } from '../../src/change/envelope.ts';
import { envelopeObject } from '../../src/change/envelope-object.ts';
import { envelopeSchema } from '../../src/change/envelope-schema.ts';
import { Row } from '../../src/change/row.ts';
import type { Table, Value } from '../../src/change/table.ts';
import { TableMapping } from '../../src/pipeline/mapping.ts';
import { ITEMS, NOTES, PAIRS, testTable } from '../helpers/logged-database.ts';
import { encodeRecord } from '../helpers/record-encoder.ts';

const CONTEXT = { hive: 'app', version: '0.1.0' };
const transaction: TransactionInfo = {
  txid: '3:881',
  epoch: 3,
  frame: 881,
  firstSeq: 12,
  lastSeq: 13,
  timestampUs: 1767323045123456,
  origin: null,
  recovered: false,
};
const mapping = new TableMapping();
const rowChange = (table: Table, values: { before?: Value[]; after?: Value[]; rowid?: number; seq?: number }): Change => {
  const { rowid = 1, seq = 12 } = values;
  const row = (of: Value[]): Row => new Row(table, rowid, encodeRecord(of), 'utf8');
  const before = values.before === undefined ? null : row(values.before);
  const after = values.after === undefined ? null : row(values.after);
  return { op: before === null ? 'c' : after === null ? 'd' : 'u', seq, transaction, collectionOrder: seq - 11, table, before, after };
};
const encode = (change: Change): string => encodeEnvelope(mapping.change(change)!, CONTEXT);

const { rawJSON } = JSON as unknown as { rawJSON: (text: string) => unknown };
/** JSON text of an event object, with the numbers that JSON.stringify refuses or spoils. */
const withRawNumbers = (event: object): string =>
  JSON.stringify(event, (_key, value: unknown) =>
    typeof value === 'bigint' ? rawJSON(String(value)) : Object.is(value, -0) ? rawJSON('-0.0') : value,
  );

const readsBackTo = (read: unknown, original: Value): boolean => {
  if (typeof original === 'number') return Object.is(Number(read), original);
  if (typeof original === 'bigint') return BigInt(read as number) === original;
  if (typeof original === 'string') return read === original.toWellFormed();
  return original === null ? read === null : Buffer.from(read as string, 'base64').equals(original);
};

describe('the envelope', () => {
  test('is written as designed, to the letter', () => {
    expect(encode(rowChange(ITEMS, { before: [null, 'é ☃', 1.5], after: [null, null, 2n ** 62n] }))).toBe(
      '{"seq":12,"op":"u","key":{"id":1},"before":{"id":1,"name":"é ☃","value":1.5},"after":{"id":1,"name":null,"value":4611686018427387904},' +
        '"source":{"version":"0.1.0","connector":"sqlite","name":"app","ts_ms":1767323045123,"ts_us":1767323045123456,"ts_ns":1767323045123456000,"snapshot":"false","db":"main","table":"items",' +
        '"sequence":"[\\"3\\",\\"881\\"]","txid":"3:881","origin":null,"recovered":false},"transaction":{"id":"3:881","total_order":1,"data_collection_order":1},' +
        '"ts_ms":1767323045123,"ts_us":1767323045123456,"ts_ns":1767323045123456000}',
    );
  });

  test('has the fields of Debezium, with the same JSON types and values', () => {
    const sample = JSON.parse(readFileSync(new URL('../golden/debezium-u.json', import.meta.url), 'utf8'));
    const names = Object.keys(sample.before);
    const table = testTable(
      't',
      names.map((name) => ({ ...NOTES.columns[0]!, name, keyOrdinal: name === 'id' ? 1 : 0 })),
    );
    const before: Value[] = [1n, 9007199254740993n, 1.5, 'é ☃', Buffer.from([0, 255, 16]), 12.5, 1, 'dotted'];
    const after: Value[] = [1n, 9223372036854775807n, Infinity, null, Buffer.alloc(0), null, null, null];
    const text = encode(rowChange(table, { before, after }));
    const event = JSON.parse(text);
    expect(event.before).toEqual(sample.before);
    expect(event.after).toEqual(sample.after);
    expect(text).toContain('"i":9007199254740993,');
    expect(text).toContain('"i":9223372036854775807,');
    // `change_id` is the trigger log's own number: waggle has `seq`.
    for (const field of Object.keys(sample.source).filter((name) => name !== 'change_id')) {
      expect([field, event.source]).toEqual([field, expect.objectContaining({ [field]: expect.anything() })]);
    }
    for (const field of Object.keys(sample)) expect(event).toHaveProperty(field);
    expect(event.key).toEqual(JSON.parse(readFileSync(new URL('../golden/debezium-key.json', import.meta.url), 'utf8')));
  });

  test('tells the last change of a transaction', () => {
    expect(JSON.parse(encode(rowChange(ITEMS, { before: [null, 1n, 1n], seq: 13 })))).toMatchObject({
      op: 'd',
      after: null,
      transaction: { id: '3:881', total_order: 2, data_collection_order: 2, last: true },
    });
  });

  test('keys carry the rowid where they do not tell the row', () => {
    const key = (table: Table, values: Value[]): unknown => JSON.parse(encode(rowChange(table, { after: values, rowid: 44 }))).key;
    const blobs = testTable('blobs', [{ ...PAIRS.columns[0]!, type: 'BLOB' }]);
    expect(key(PAIRS, ['a', 1n, 0n])).toEqual({ a: 'a', b: 1 });
    expect(key(PAIRS, [null, 1n, 0n])).toEqual({ a: null, b: 1, waggle_rowid: 44 });
    expect(key(PAIRS, [Buffer.from('a'), 1n, 0n])).toEqual({ a: 'YQ==', b: 1, waggle_rowid: 44 });
    expect(key(PAIRS, ['a\uFFFD', 1n, 0n])).toEqual({ a: 'a\uFFFD', b: 1, waggle_rowid: 44 });
    expect(key(blobs, [Buffer.from('a')])).toEqual({ a: 'YQ==' });
    expect(key(blobs, ['YQ=='])).toEqual({ a: 'YQ==', waggle_rowid: 44 });
  });

  test('tables without a key: the rowid is the key, and no column', () => {
    const event = JSON.parse(encode(rowChange(NOTES, { after: ['b', 1n], rowid: 9 })));
    expect(event).toMatchObject({ key: { waggle_rowid: 9 }, after: { body: 'b', n: 1 } });
    expect(Object.keys(event.after)).toEqual(['body', 'n']);
  });

  test('existing rows, truncated tables, schema changes', () => {
    const snapshot = { seq: 13, txid: '3:900', timestampUs: 5 };
    const row = new Row(ITEMS, 1, encodeRecord([null, 1n, 2n]), 'utf8');
    expect(
      JSON.parse(encode({ op: 'r', seq: null, transaction: null, collectionOrder: 0, snapshot, table: ITEMS, before: null, after: row })),
    ).toMatchObject({
      seq: null,
      op: 'r',
      before: null,
      transaction: null,
      ts_ms: 0,
      ts_us: 5,
      source: { snapshot: 'true', sequence: '["3","900"]', txid: '3:900' },
    });
    const empty = {
      op: 'r',
      seq: null,
      transaction: null,
      collectionOrder: 0,
      snapshot: { seq: 0, txid: '', timestampUs: 5 },
      table: ITEMS,
    } as const;
    expect(JSON.parse(encode({ ...empty, before: null, after: row })).source.sequence).toBe('["0","0"]');
    const placed = { seq: 13, transaction, collectionOrder: 1 };
    for (const change of [
      { op: 't', ...placed, table: ITEMS },
      { op: 's', ...placed, name: 'notes', table: NOTES, previous: null },
      { op: 's', ...placed, name: 'notes', table: null, previous: NOTES },
    ] as const) {
      const mapped = mapping.change(change)!;
      expect(withRawNumbers(envelopeObject(mapped, CONTEXT))).toBe(encode(change));
      expect(envelopeSchema.safeParse(JSON.parse(encode(change))).error).toBeUndefined();
    }
    const soft = new TableMapping({ tables: { items: { deleted: 'soft' } } }).change({ op: 't', ...placed, table: ITEMS })!;
    const marked = encodeEnvelope(soft, CONTEXT);
    expect(withRawNumbers(envelopeObject(soft, CONTEXT))).toBe(marked);
    expect(JSON.parse(marked)).toMatchObject({
      op: 't',
      key: null,
      before: null,
      after: { deleted_at: expect.stringMatching(/^2\d{3}-.*Z$/) as string },
    });
    expect(envelopeSchema.safeParse(JSON.parse(marked)).error).toBeUndefined();
    expect(JSON.parse(encode({ op: 't', ...placed, table: ITEMS }))).toMatchObject({
      op: 't',
      key: null,
      before: null,
      after: null,
      source: { table: 'items' },
    });
    expect(JSON.parse(encode({ op: 's', ...placed, name: 'notes', table: null, previous: NOTES }))).toMatchObject({
      op: 's',
      ddl: null,
      columns: null,
      previous_columns: [{ name: 'body', type: '' }, { name: 'n' }],
      source: { table: 'notes', previous: 'notes' },
    });
    const created = JSON.parse(encode({ op: 's', ...placed, name: 'notes', table: NOTES, previous: null }));
    expect(created).toMatchObject({
      ddl: NOTES.sql,
      source: { previous: null },
      columns: [{ name: 'body', type: '', key: 0, not_null: false, default: null }, { name: 'n' }],
      previous_columns: null,
    });
    const shorter: Table = { ...PAIRS, columns: PAIRS.columns.slice(0, 2) };
    const altered = JSON.parse(encode({ op: 's', ...placed, name: 'pairs', table: PAIRS, previous: shorter }));
    expect([altered.previous_columns.length, altered.columns.length]).toEqual([2, PAIRS.columns.length]);
    expect(
      JSON.parse(encode({ op: 's', ...placed, name: 'pairs', table: PAIRS, previous: PAIRS })).columns.map((column: { key: number }) => column.key),
    ).toEqual([1, 2, 0]);
  });

  test('values read back: every double, every integer, every string; object and text agree; the schema takes them', () => {
    const encoder = new EnvelopeEncoder(CONTEXT);
    const value = fc.oneof(
      fc.double({ noNaN: true }),
      fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
      fc.string({ unit: 'binary' }),
      fc.uint8Array({ maxLength: 20 }),
      fc.constant(null),
    );
    // The integer's own digits tell it from a double that happens to be whole.
    const exact = (_key: string, parsed: unknown, { source }: { source?: string }): unknown =>
      typeof parsed === 'number' && source !== undefined && /^-?\d+$/.test(source) && !Number.isSafeInteger(parsed) ? BigInt(source) : parsed;
    fc.assert(
      fc.property(
        fc.array(value, { minLength: 3, maxLength: 3 }),
        fc.option(fc.array(value, { minLength: 3, maxLength: 3 }), { nil: undefined }),
        (after, before) => {
          const change = mapping.change(rowChange(PAIRS, { after, ...(before === undefined ? {} : { before }) }))!;
          const text = encoder.encode(change);
          expect(withRawNumbers(envelopeObject(change, CONTEXT))).toBe(text);
          const parsed = (JSON.parse as (text: string, reviver: typeof exact) => unknown)(text, exact);
          after.forEach((original, index) => {
            const read = (parsed as { after: Record<string, unknown> }).after['abv'[index]!];
            expect(readsBackTo(read, original)).toBe(true);
          });
          expect(envelopeSchema.safeParse(JSON.parse(text)).error).toBeUndefined();
        },
      ),
      { numRuns: 300 },
    );
  });
});
