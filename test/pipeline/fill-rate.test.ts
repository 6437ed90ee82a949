import { expect, test } from 'vitest';
import { beginFill, type FillCursor, nextTable } from '../../src/pipeline/fill-cursor.ts';
import { FillRate } from '../../src/pipeline/fill-rate.ts';

test('tells rows a second over all tables, and the time left of the table', () => {
  const rate = new FillRate();
  const begin = beginFill(['a', 'b'], false)!;
  expect(rate.of(begin, 1000)).toMatchObject({ table: 'a', tablesDone: 0, tablesTotal: 2, rows: 0, rowsPerSecond: 0, secondsLeft: null });
  const quarter: FillCursor = { ...begin, rows: 500, share: 0.25 };
  expect(rate.of(quarter, 2000)).toMatchObject({ rows: 500, share: 0.25, rowsPerSecond: 500, secondsLeft: 3 });
  const second = nextTable(quarter, 1500)!;
  expect(rate.of(second, 5000)).toMatchObject({ table: 'b', tablesDone: 1, rows: 2000, rowsPerSecond: 500, share: 0, secondsLeft: null });
  expect(rate.of({ ...second, share: 0.5, rows: 3000 }, 7000)).toMatchObject({ rowsPerSecond: 500, secondsLeft: 2 });
  expect(rate.of(null, 8000)).toBeNull();
});
