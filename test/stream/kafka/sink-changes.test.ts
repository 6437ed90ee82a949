import * as fc from 'fast-check';
import type { KafkaMessage } from 'kafkajs';
import { describe, expect, it } from 'vitest';
import { tableText, TableVersions } from '../../../connectors/kafka/table-versions.ts';
import { EnvelopeEncoder } from '../../../src/change/envelope.ts';
import { parseChange } from '../../../src/change/parse-change.ts';
import type { Value } from '../../../src/change/table.ts';
import type { SinkSchemaChange, SinkTable } from '../../../src/pipeline/sink.ts';
import { sinkChangeOf } from '../../../src/stream/kafka/sink-changes.ts';
import { parseForm } from '../../../src/stream/kafka/table-forms.ts';
import { wholeLength } from '../../../src/stream/kafka/whole-length.ts';
import { remove, schemaChange, sinkTable, truncate, upsert } from '../../connectors/sink-changes.ts';

const encoder = new EnvelopeEncoder({ hive: 'app', version: '0' });
const plain = sinkTable('t', [
  { name: 'id', type: 'INTEGER', key: true, alwaysInteger: true },
  { name: 'int', type: 'INTEGER', defaultValue: 9007199254740993n },
  { name: 'real', type: 'REAL' },
  { name: 'text', type: 'TEXT', defaultValue: 'x' },
  { name: 'blob', type: 'BLOB' },
  { name: 'num', type: 'DECIMAL(10,2)' },
]);
const table: SinkTable = {
  ...plain,
  columns: [
    ...plain.columns,
    { ...plain.columns[1]!, name: 'flag', kind: 'boolean' },
    { ...plain.columns[3]!, name: 'json', kind: 'json' },
    { ...plain.columns[3]!, name: '__proto__' },
  ],
};

const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const orNull = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<T | null> => fc.option(value);
const rowValues = fc.tuple(
  int64,
  orNull(int64),
  orNull(fc.double({ noNaN: true })),
  orNull(fc.string({ unit: 'grapheme' })),
  orNull(fc.uint8Array({ maxLength: 9 })),
  orNull(fc.oneof(int64, fc.double({ noNaN: true, noDefaultInfinity: true, noInteger: true }))),
  orNull(fc.constantFrom(0n, 1n)),
  orNull(fc.constantFrom('{"a":[1,2.5,"x"],"n":9007199254740993}', '"text"', '5', '[]')),
  orNull(fc.string()),
);
/** Comparable, whatever kind of bytes. */
const shown = (values: readonly Value[] | null | undefined): unknown =>
  values?.map((value) => (value instanceof Uint8Array ? [...value] : value)) ?? null;

describe('changes out of records', () => {
  it('are those that were published', () => {
    fc.assert(
      fc.property(rowValues, rowValues, (before, after) => {
        const change = { ...upsert(table, [before[0], ...after.slice(1)], 'u'), before };
        const form = parseForm(tableText(table))!;
        const read = sinkChangeOf(parseChange({ value: encoder.encode(change) })!, form, { integers: 'bigint', states: false });
        expect(read).toMatchObject({
          op: 'u',
          key: change.key,
          source: { seq: change.source.seq, transaction: { txid: '1:1', timestampUs: 1_700_000_000_000_000 } },
        });
        expect(read?.op === 'u' && [shown(read.before), shown(read.after)]).toEqual([shown(change.before), shown(change.after)]);
      }),
      { numRuns: 500 },
    );
  });

  it('come as number where the sink asks for it, without old images for one that wants states', () => {
    const change = { ...upsert(table, [1, 2, 3, 'x', null, 4, 1, '5', null], 'u'), before: [1, 1, 1, null, null, null, 0, null, null] };
    const read = sinkChangeOf(parseChange({ value: encoder.encode(change) })!, table, { integers: 'number', states: true });
    expect(read).toMatchObject({ op: 'u', key: [1], before: null, after: [1, 2, 3, 'x', null, 4, 1, '5', null] });
  });

  it('find the key of deleted rows and of tables without a key', () => {
    const rowids: SinkTable = { ...plain, columns: [{ ...plain.columns[0]!, name: 'waggle_rowid', rowid: true }, ...plain.columns.slice(1)] };
    const options = { integers: 'bigint', states: false } as const;
    expect(sinkChangeOf(parseChange({ value: encoder.encode(remove(rowids, [7n])) })!, rowids, options)).toMatchObject({
      op: 'd',
      key: [7n],
      after: null,
    });
    const row = upsert(rowids, [7n, 1n, 1.5, 'x', null, null], 'c');
    expect(sinkChangeOf(parseChange({ value: encoder.encode(row) })!, rowids, options)).toMatchObject({ key: [7n], after: row.after });
    expect(sinkChangeOf(parseChange({ value: encoder.encode(truncate(plain)) })!, plain, options)).toMatchObject({ op: 't', table: plain });
  });

  it('keep what deleted rows get where deletes are soft', () => {
    const soft: SinkTable = { ...plain, deletedAt: 3 };
    const change = { ...truncate(soft), mark: { column: 3, value: '2026-11-21T10:00:00Z' } } as const;
    const read = sinkChangeOf(parseChange({ value: encoder.encode(change) })!, soft, { integers: 'bigint', states: true });
    expect(read).toMatchObject({ op: 't', mark: change.mark });
  });
});

describe('forms of tables', () => {
  it('come back as they were', () => {
    expect(parseForm(tableText(table))).toEqual(table);
    expect(parseForm('{"name":"t"}')).toBe(null);
    expect(parseForm('no JSON')).toBe(null);
  });

  it('have a version that each schema change renews, and that whoever reads the topic gives them again', () => {
    const wide: SinkTable = { ...plain, columns: [...plain.columns, { ...plain.columns[3]!, name: 'more' }] };
    const told: { text: string; version: string; previous: string | null }[] = [];
    const versions = new TableVersions();
    const publish = (change: SinkSchemaChange): void => void told.push(versions.change({ ...change, table: change.table! }));
    expect(versions.of(plain)).toBe(null);
    const met = schemaChange(null, plain);
    publish({ ...met, source: { ...met.source, seq: null, transaction: null } });
    publish(schemaChange(plain, wide));
    publish(schemaChange(wide, { ...plain }));
    expect(new Set(told.map(({ version }) => version)).size).toBe(3);
    expect(told.map(({ previous }) => previous)).toEqual([null, told[0]!.version, told[1]!.version]);
    const after = new TableVersions();
    for (const { text, version } of told) after.tell(text, version);
    expect([after.of({ ...plain }), after.of(wide)]).toEqual([told[2]!.version, told[1]!.version]);
    expect(after.of({ ...plain, key: [0, 1] })).toBe(null);
  });
});

describe('the end of the last whole transaction', () => {
  const record = (txid: string, headers: Readonly<Record<string, string>> = {}): KafkaMessage =>
    ({ headers: { seq: '1', txid, ...headers } }) as unknown as KafkaMessage;
  const filled = { headers: { txid: '1:1' } } as unknown as KafkaMessage;

  it.each<[string, readonly KafkaMessage[], boolean, number]>([
    ['is at the mark', [record('1:1'), record('1:1', { last: 'true' }), record('1:2')], false, 2],
    ['is at the last mark', [record('1:1', { last: 'true' }), record('1:2', { last: 'true' })], false, 2],
    ['is before another transaction where compaction took the mark', [record('1:1'), record('1:1'), record('1:2')], false, 2],
    ['is nowhere inside of one', [record('1:2'), record('1:2')], false, 0],
    ['is at the end of what there is', [record('1:2'), record('1:2')], true, 2],
    ['is at any row of a first fill', [filled, filled, record('1:2')], false, 2],
    ['is nowhere in nothing', [], false, 0],
  ])('%s', (_, messages, atEnd, length) => {
    expect(wholeLength(messages, atEnd)).toBe(length);
  });
});
