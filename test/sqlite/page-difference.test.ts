import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addDifference, countDifference, emptyDifference, findDifference, forEachRun, isSameWithin } from '../../src/sqlite/page-difference.ts';

const GROUPS = 128;
const PAGE_SIZE = GROUPS * 16;

/** Which groups are to differ, by runs, so that whole words of bits and runs over their borders come often. */
const differing = fc.array(fc.tuple(fc.nat(GROUPS - 1), fc.integer({ min: 1, max: 70 })), { maxLength: 6 }).map((runs) => {
  const groups = Array.from({ length: GROUPS }, () => false);
  for (const [from, length] of runs) groups.fill(true, from, from + length);
  return groups;
});

const imagesOf = (groups: readonly boolean[], byte: number): { before: Buffer; after: Buffer } => {
  const before = Buffer.alloc(PAGE_SIZE, 7);
  const after = Buffer.from(before);
  groups.forEach((differs, group) => {
    if (differs) after[group * 16 + (byte % 16)]! ^= 0x80;
  });
  return { before, after };
};

const differenceOf = (groups: readonly boolean[], byte = 0): Int32Array => {
  const { before, after } = imagesOf(groups, byte);
  const difference = emptyDifference(PAGE_SIZE).fill(-1);
  expect(findDifference(before, after, difference)).toBe(groups.includes(true));
  return difference;
};

const groupsOf = (difference: Int32Array): boolean[] =>
  Array.from({ length: GROUPS }, (_, group) => ((difference[group >> 5]! >>> (group & 31)) & 1) === 1);

describe('the difference of two page images', () => {
  it('has the groups in which any byte differs', () => {
    fc.assert(
      fc.property(differing, fc.nat(15), (groups, byte) => {
        expect(groupsOf(differenceOf(groups, byte))).toEqual(groups);
      }),
    );
  });

  it('is not looked for where the images are known to be the same', () => {
    const { before, after } = imagesOf(Array.from({ length: GROUPS }).fill(true) as boolean[], 3);
    after.set(before.subarray(700), 700);
    const difference = emptyDifference(PAGE_SIZE).fill(-1);
    expect(findDifference(before, after, difference, 700)).toBe(true);
    expect(groupsOf(difference)).toEqual(Array.from({ length: GROUPS }, (_, group) => group * 16 + 3 < 700));
  });

  it('is everything where an image does not lie on a word of memory', () => {
    const odd = Buffer.alloc(PAGE_SIZE + 1).subarray(1);
    const difference = emptyDifference(PAGE_SIZE);
    expect(findDifference(odd, Buffer.alloc(PAGE_SIZE), difference)).toBe(true);
    expect(groupsOf(difference)).not.toContain(false);
  });

  it('tells of any range whether it lies in groups that are the same', () => {
    fc.assert(
      fc.property(differing, fc.nat(PAGE_SIZE - 1), fc.integer({ min: 1, max: 1500 }), (groups, start, length) => {
        const end = Math.min(PAGE_SIZE, start + length);
        expect(isSameWithin(differenceOf(groups), start, end)).toBe(!groups.slice(start >> 4, ((end - 1) >> 4) + 1).includes(true));
      }),
    );
  });

  it('gives and counts its runs, each as long as it can be', () => {
    fc.assert(
      fc.property(differing, (groups) => {
        const difference = differenceOf(groups);
        const again = Array.from({ length: GROUPS }, () => false);
        let runs = 0;
        forEachRun(difference, (start, end) => {
          expect(again[start / 16 - 1] ?? false).toBe(false);
          again.fill(true, start / 16, end / 16);
          runs += 1;
        });
        expect(again).toEqual(groups);
        expect(countDifference(difference)).toEqual({ groups: groups.filter(Boolean).length, runs });
      }),
    );
  });

  it('of two steps has what either of them has', () => {
    fc.assert(
      fc.property(differing, differing, (one, other) => {
        const difference = differenceOf(one);
        addDifference(difference, differenceOf(other));
        expect(groupsOf(difference)).toEqual(one.map((differs, group) => differs || other[group]!));
      }),
    );
  });
});
