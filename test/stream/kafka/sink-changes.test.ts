import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { tableText, versionOf } from '../../../connectors/kafka/table-version.ts';
import { EnvelopeEncoder } from '../../../src/change/envelope.ts';
import { parseChange } from '../../../src/change/parse-change.ts';
import type { Value } from '../../../src/change/table.ts';
import type { SinkTable } from '../../../src/pipeline/sink.ts';
import { sinkChangeOf } from '../../../src/stream/kafka/sink-changes.ts';
import { parseForm } from '../../../src/stream/kafka/table-forms.ts';
import { remove, sinkTable, truncate, upsert } from '../../connectors/sink-changes.ts';

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
  it('come back as they were, and have the version that was given to them', () => {
    const form = parseForm(tableText(table))!;
    expect(form).toEqual(table);
    expect(versionOf(form)).toBe(versionOf(table));
    expect(versionOf({ ...table, key: [0, 1] })).not.toBe(versionOf(table));
    expect(parseForm('{"name":"t"}')).toBe(null);
    expect(parseForm('no JSON')).toBe(null);
  });
});
