import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Change } from '../../src/change/change.ts';
import { Row } from '../../src/change/row.ts';
import type { Value } from '../../src/change/table.ts';
import { coalesce } from '../../src/pipeline/coalesce.ts';
import { TableMapping } from '../../src/pipeline/mapping.ts';
import type { SinkChange } from '../../src/pipeline/sink.ts';
import { ITEMS, PAIRS, testTable } from '../helpers/logged-database.ts';
import { encodeRecord } from '../helpers/record-encoder.ts';

const BY_ANY = testTable('any', [{ ...PAIRS.columns[0]!, name: 'k' }, PAIRS.columns[2]!]);
const mapping = new TableMapping({ wants: 'states', integers: 'bigint' });
const placed = { seq: 1, transaction: null, collectionOrder: 0 };
const make = (op: 'c' | 'd', table: typeof BY_ANY, values: Value[], rowid = 1): SinkChange => {
  const row = new Row(table, rowid, encodeRecord(values), 'utf8');
  const change: Change = op === 'c' ? { op, ...placed, table, before: null, after: row } : { op, ...placed, table, before: row, after: null };
  return mapping.change(change)!;
};
const truncate = (table: typeof BY_ANY): SinkChange => mapping.change({ op: 't', ...placed, table })!;
const schema = (table: typeof BY_ANY): SinkChange => mapping.change({ op: 's', ...placed, name: table.name, table, previous: table })!;

describe('coalesce', () => {
  test('the last state of a key is left, in order', () => {
    const [a1, b1, a2, b2] = [make('c', BY_ANY, ['a', 1n]), make('c', BY_ANY, ['b', 1n]), make('d', BY_ANY, ['a', 1n]), make('c', BY_ANY, ['b', 2n])];
    expect(coalesce([a1, b1, a2, b2])).toEqual([a2, b2]);
    expect(coalesce([a1, a2, a1])).toEqual([a1]);
  });

  test('values that SQLite tells apart are apart, those that it does not are one', () => {
    const apart: Value[] = [1n, '1', Buffer.from('1'), null, '', '\0', '\0\0t1:1', 'null', Buffer.alloc(0), 2n ** 53n + 1n, 2 ** 53 + 4, 0.5];
    const changes = apart.map((key, index) => make('c', BY_ANY, [key, null], index));
    expect(coalesce(changes)).toHaveLength(changes.length);
    for (const [a, b] of [
      [1n, 1],
      [0, -0],
      [2n ** 60n, 2 ** 60],
    ] as const) {
      const [first, second] = [make('c', BY_ANY, [a, 1n]), make('c', BY_ANY, [b, 2n])];
      expect(coalesce([first, second])).toEqual([second]);
    }
    const nulls = [make('c', BY_ANY, [null, 1n], 1), make('c', BY_ANY, [null, 1n], 2), make('c', BY_ANY, [null, 2n], 1)];
    expect(coalesce(nulls)).toEqual([nulls[1], nulls[2]]);
  });

  test('what is only marked as deleted stays, and is apart from what comes behind', () => {
    const [a1, a2] = [make('c', BY_ANY, ['a', 1n]), make('c', BY_ANY, ['a', 2n])];
    const marks = { ...truncate(BY_ANY), mark: { column: 1, value: 'then' } } as SinkChange;
    expect(coalesce([a1, marks, a2])).toEqual([a1, marks, a2]);
    expect(coalesce([a1, truncate(BY_ANY), a2])).toEqual([truncate(BY_ANY), a2]);
  });

  test('composite keys do not run into each other', () => {
    const keys: Value[][] = [
      ['a', 'b'],
      ['ab', ''],
      ['', 'ab'],
      ['a', null],
      [null, 'a'],
      ['1', 1n],
      [1n, '1'],
      ['t1:a', 'b'],
      ['at', 'b'],
      ['a', 'tb'],
    ];
    const changes = keys.map((key, index) => make('c', PAIRS, [...key, null], index));
    expect(coalesce(changes)).toHaveLength(changes.length);
  });

  test('t clears its own table only; nothing crosses an s', () => {
    const item = make('c', ITEMS, [null, 'x', 'y'], 1);
    const [a, b, t, s] = [make('c', BY_ANY, ['a', 1n]), make('c', BY_ANY, ['a', 2n]), truncate(BY_ANY), schema(BY_ANY)];
    expect(coalesce([a, item, t, b])).toEqual([item, t, b]);
    expect(coalesce([a, s, b])).toEqual([a, s, b]);
    expect(coalesce([a, s, t, b])).toEqual([a, s, t, b]);
  });

  test('a model that applies what is left equals one that applies everything', () => {
    const step = fc.tuple(
      fc.constantFrom('c', 'c', 'd', 't', 's'),
      fc.constantFrom<Value>('a', 'b', 1n, 1, '1', null),
      fc.integer({ min: 1, max: 2 }),
      fc.bigInt({ min: 0n, max: 9n }),
    );
    const run = (changes: readonly SinkChange[]): Map<string, unknown> => {
      const state = new Map<string, unknown>();
      for (const change of changes) {
        if (change.op === 's') continue;
        if (change.op === 't') state.clear();
        else {
          const key = change.key[0]!;
          const rowid = change.source.op === 'c' || change.source.op === 'd' ? (change.source.after ?? change.source.before)!.rowid : 0;
          const id = key === null ? `null ${rowid}` : typeof key === 'string' ? `text ${key}` : `number ${Number(key)}`;
          if (change.after === null) state.delete(id);
          else state.set(id, change.after[1]);
        }
      }
      return state;
    };
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const changes = steps.map(([op, key, rowid, value]) =>
          op === 't' ? truncate(BY_ANY) : op === 's' ? schema(BY_ANY) : make(op, BY_ANY, [key, value], rowid),
        );
        expect(run(coalesce(changes))).toEqual(run(changes));
      }),
    );
  });
});
