/**
 * What changed between two images of a page. Numbers little-endian.
 *
 *     delta   ranges in page order, each: 0 offset u16   2 length u16   4 the new bytes
 *
 * Ranges begin and end at multiples of 16 bytes. A delta holds bytes, not differences: it may be applied to the image before, to the one
 * after, or to any mixture of both, again and again, and gives the image after. So it mends a page whose write was torn, as a whole image does.
 */
import { countDifference, forEachRun, GROUP_BYTES, type PageDifference } from '../sqlite/page-difference.ts';

const HEADER_BYTES = 4;

/** Length in bytes of the delta of a page that differs there. */
export const deltaBytes = (difference: PageDifference): number => {
  const { groups, runs } = countDifference(difference);
  return groups * GROUP_BYTES + runs * HEADER_BYTES;
};

/** Writes the delta into `into` from `start` on. Gives its end there. Pages of up to 32 KiB (a length must fit two bytes). */
export const encodePageDelta = (difference: PageDifference, after: Buffer, into: Buffer, start: number): number => {
  let end = start;
  forEachRun(difference, (from, to) => {
    into.writeUInt16LE(from, end);
    into.writeUInt16LE(to - from, end + 2);
    end += HEADER_BYTES;
    // A run of a group or two is faster copied here than by a native call.
    if (to - from > 4 * GROUP_BYTES) end += after.copy(into, end, from, to);
    else for (let at = from; at < to; at += 1) into[end++] = after[at]!;
  });
  return end;
};

/** Throws RangeError where the bytes are no delta of a page of this size. */
export const applyPageDelta = (delta: Buffer, page: Buffer): void => {
  for (let at = 0; at < delta.length;) {
    const offset = delta.readUInt16LE(at);
    const length = delta.readUInt16LE(at + 2);
    at += HEADER_BYTES;
    if (length === 0 || at + length > delta.length || offset + length > page.length)
      throw new RangeError('a page delta has a range outside the page');
    delta.copy(page, offset, at, at + length);
    at += length;
  }
};
