/** Rows of a table as statements of few sizes: none is lost, and none comes twice but where that does no harm. */
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { groupRows, padGroups } from '../../connectors/mysql/row-groups.ts';

interface NumberedRow {
  readonly n: number;
  readonly bound: string[];
}

const rows = fc
  .array(fc.oneof({ weight: 20, arbitrary: fc.constant('key') }, { weight: 1, arbitrary: fc.constant('k'.repeat(5000)) }), { maxLength: 1200 })
  .map((keys) => keys.map((key, n): NumberedRow => ({ n, bound: [key] })));
const limits = fc.constantFrom(20_000, 4_000_000).map((chunkBytes) => ({ chunkBytes, maxPacketBytes: 4 * chunkBytes }));

test('groups hold every row once, in order', () => {
  fc.assert(
    fc.property(rows, limits, (all, limit) => {
      expect(groupRows(all, limit).flat()).toEqual(all);
    }),
    { numRuns: 50 },
  );
});

test('padded groups hold every row in order, the last one again up to a size that the server knows, and no more bytes than a statement may', () => {
  fc.assert(
    fc.property(rows, limits, (all, limit) => {
      const groups = padGroups(all, limit);
      expect(groups.flatMap((group) => group.filter((row, index) => row !== group[index - 1]))).toEqual(all);
      for (const group of groups) {
        expect(Number.isInteger(Math.log2(group.length)) && group.length <= 512).toBe(true);
        const bytes = group.reduce((sum, { bound }) => sum + 3 * bound[0]!.length, 0);
        expect(group.length === 1 || bytes <= limit.chunkBytes).toBe(true);
      }
      const most = Math.max(0, ...all.map(({ bound }) => 3 * bound[0]!.length));
      expect(groups.length).toBeLessThanOrEqual(512 * most <= limit.chunkBytes ? Math.ceil(all.length / 512) : all.length);
    }),
    { numRuns: 50 },
  );
});
