/** Random streams against a plain Map. */
import * as fc from 'fast-check';
import type { Value } from '../../../src/change/table.ts';
import type { SinkChange } from '../../../src/pipeline/sink.ts';
import { type ColumnSpec, remove, schemaChange, sinkTable, upsert } from '../sink-changes.ts';
import type { ConformanceScene } from './scene.ts';
const RANDOM_COLUMNS: ColumnSpec[] = [
  { name: 'k', type: 'NUMERIC', key: true },
  { name: 'l', type: 'TEXT', key: true },
  { name: 'i', type: 'INTEGER' },
  { name: 'r', type: 'REAL' },
  { name: 't', type: 'TEXT' },
  { name: 'b', type: 'BLOB' },
  { name: 'n', type: 'NUMERIC' },
  { name: 'a', type: '' },
];
const RANDOM_KEY = sinkTable('', RANDOM_COLUMNS).columns[0]!;

interface RandomChange {
  readonly key: Value[];
  readonly row: Value[] | null;
}

const randomStream = (holdsNul: boolean): fc.Arbitrary<RandomChange[][][]> => {
  const string = fc.string({ unit: 'binary', maxLength: 12 }).map((text) => (holdsNul ? text : text.replaceAll('\0', '')).toWellFormed());
  const word = string.map((text) => `w${text}`);
  const blob = fc.uint8Array({ maxLength: 10 });
  const int = fc.oneof(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), fc.bigInt({ min: -9n, max: 9n }));
  const double = fc.double({ noNaN: true });
  // NUMERIC and INTEGER affinity leave no REAL that an INTEGER could hold.
  const fraction = double
    .map((value) => (Number.isInteger(value) && Math.abs(value) < 2 ** 63 ? value / 3 + 0.5 : value))
    .filter((value) => !Number.isInteger(value) || Math.abs(value) >= 2 ** 63);
  const rarely = <T extends Value>(usual: fc.Arbitrary<T>, other: fc.Arbitrary<Value>): fc.Arbitrary<Value> =>
    fc.oneof({ arbitrary: usual, weight: 30 }, { arbitrary: fc.constant(null), weight: 3 }, { arbitrary: other, weight: 1 });
  const key = fc.tuple(
    fc.oneof({ arbitrary: fc.bigInt({ min: 0n, max: 4n }), weight: 20 }, { arbitrary: fc.constantFrom<Value>(1.5, 'w', 1e300, -2.5e-7), weight: 1 }),
    fc.constantFrom('', 'a', '"', 'A'),
  );
  const row = fc.tuple(
    rarely(int, fc.oneof(fraction, word, blob)),
    // A REAL column holds 0 as an integer: it cannot hold -0.0.
    rarely(
      double.map((value) => (value === 0 ? 0 : value)),
      fc.oneof(word, blob),
    ),
    rarely(string, blob),
    rarely(blob, fc.oneof(string, int, double)),
    rarely(fc.oneof(int, fraction), fc.oneof(word, blob)),
    fc.oneof<fc.Arbitrary<Value>[]>(fc.constant(null), int, double, string, blob),
  );
  const change = fc.record({ key, row: fc.oneof({ arbitrary: row, weight: 3 }, { arbitrary: fc.constant(null), weight: 1 }) });
  return fc.array(fc.array(fc.array(change, { maxLength: 12 }), { maxLength: 4 }), { maxLength: 4 });
};

export const random = ({ applyAll, expectRows, fresh, it, open, traits }: ConformanceScene): void => {
  it('ends random streams in the state of a plain Map', { timeout: 120_000 }, async () => {
    const target = await open();
    await fc.assert(
      fc.asyncProperty(randomStream(traits.holdsNul), fc.infiniteStream(fc.boolean()), async (batches, again) => {
        const table = sinkTable(fresh('random'), RANDOM_COLUMNS);
        const expected = new Map<string, Value[]>();
        const keyOf = (values: readonly Value[]): string => JSON.stringify(values.map((value) => target.show(value, RANDOM_KEY)));
        const made = batches.map((parts) =>
          parts.map((part) => {
            // A part has each key once, as the runner makes it.
            const byKey = new Map<string, SinkChange>();
            for (const { key, row } of part) byKey.set(keyOf(key), row === null ? remove(table, key) : upsert(table, [...key, ...row]));
            for (const change of byKey.values()) {
              if (change.op === 'd') expected.delete(keyOf(change.key));
              else if (change.op === 'u') expected.set(keyOf(change.key), [...change.after!]);
            }
            return [...byKey.values()];
          }),
        );
        // Any batch may come again, as after an answer that was lost.
        await applyAll([[[schemaChange(null, table)]], ...made.flatMap((parts) => (again.next().value ? [parts, parts] : [parts]))]);
        await expectRows(target, table, [...expected.values()]);
        await target.drop(table);
      }),
      { numRuns: 25, endOnFailure: true },
    );
  });
};
