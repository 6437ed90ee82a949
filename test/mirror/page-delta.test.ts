import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { applyPageDelta, deltaBytes, encodePageDelta } from '../../src/mirror/page-delta.ts';
import { emptyDifference, findDifference } from '../../src/sqlite/page-difference.ts';

const PAGE_SIZE = 1024;
const SECTOR = 512;

/** A page, and the same page with some ranges written anew. */
const images = fc
  .record({
    before: fc.uint8Array({ minLength: PAGE_SIZE, maxLength: PAGE_SIZE }),
    writes: fc.array(fc.record({ at: fc.nat(PAGE_SIZE - 1), bytes: fc.uint8Array({ minLength: 1, maxLength: 60 }) }), { maxLength: 6 }),
  })
  .map(({ before, writes }) => {
    const after = Buffer.from(before);
    for (const { at, bytes } of writes) after.set(bytes.subarray(0, PAGE_SIZE - at), at);
    return { before: Buffer.from(before), after };
  });

const encode = (before: Buffer, after: Buffer): Buffer => {
  const difference = emptyDifference(PAGE_SIZE);
  findDifference(before, after, difference);
  const into = Buffer.alloc(2 * PAGE_SIZE, 0xee);
  const end = encodePageDelta(difference, after, into, 7);
  expect(end - 7).toBe(deltaBytes(difference));
  expect(into[6]).toBe(0xee);
  expect(into[end]).toBe(0xee);
  return into.subarray(7, end);
};

describe('page delta', () => {
  it('gives the image after, over the one before, over itself, and over a page that was torn between the two', () => {
    fc.assert(
      fc.property(images, fc.boolean(), ({ before, after }, isFirstNew) => {
        const delta = encode(before, after);
        const torn = Buffer.concat(
          isFirstNew ? [after.subarray(0, SECTOR), before.subarray(SECTOR)] : [before.subarray(0, SECTOR), after.subarray(SECTOR)],
        );
        for (const page of [Buffer.from(before), Buffer.from(after), torn]) {
          applyPageDelta(delta, page);
          expect(page.equals(after)).toBe(true);
        }
      }),
      { numRuns: 500 },
    );
  });

  it('a chain of deltas over any image on its way gives the last image', () => {
    fc.assert(
      fc.property(
        images,
        fc.array(fc.record({ at: fc.nat(PAGE_SIZE - 20), byte: fc.nat(255) }), { minLength: 1, maxLength: 8 }),
        fc.nat(8),
        (first, steps, from) => {
          const chain = [first.before, first.after];
          for (const { at, byte } of steps) chain.push(Buffer.from(chain.at(-1)!).fill(byte, at, at + 20));
          const page = Buffer.from(chain[from % chain.length]!);
          for (let index = 1; index < chain.length; index += 1) {
            applyPageDelta(encode(chain[index - 1]!, chain[index]!), page);
          }
          expect(page.equals(chain.at(-1)!)).toBe(true);
        },
      ),
      { numRuns: 300 },
    );
  });

  it('is empty for the same image, and one range for another one', () => {
    const page = Buffer.alloc(PAGE_SIZE, 1);
    expect(encode(page, Buffer.from(page))).toEqual(Buffer.alloc(0));
    expect(encode(page, Buffer.alloc(PAGE_SIZE, 2))).toHaveLength(4 + PAGE_SIZE);
    const half = Buffer.from(page);
    half.fill(2, 0, PAGE_SIZE / 2 - 16);
    expect(encode(page, half)).toHaveLength(4 + PAGE_SIZE / 2 - 16);
  });

  it.each([
    ['outside the page', [PAGE_SIZE - 16, 32]],
    ['longer than the delta', [0, 48]],
    ['empty', [0, 0]],
  ])('refuses a range that is %s', (_, [offset, length]) => {
    const delta = Buffer.alloc(4 + 32);
    delta.writeUInt16LE(offset!, 0);
    delta.writeUInt16LE(length!, 2);
    expect(() => applyPageDelta(delta, Buffer.alloc(PAGE_SIZE))).toThrow(RangeError);
  });
});
