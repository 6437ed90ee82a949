/**
 * What changed between two images of a page. Numbers little-endian.
 *
 *     delta   ranges in page order, each: 0 offset u16   2 length u16   4 the new bytes
 *
 * Ranges begin and end at multiples of 16 bytes. A delta holds bytes, not differences: it may be applied to the image before, to the one
 * after, or to any mixture of both, again and again, and gives the image after. So it mends a page whose write was torn, as a whole image does.
 */
import { areAligned, wordsOf } from '../sqlite/page-words.ts';

const HEADER_BYTES = 4;

/** Writes the delta into `into` from `start` on. Gives its end there; -1: it would be longer than `limit` bytes (at most 65535). */
export const encodePageDelta = (before: Buffer, after: Buffer, place: { into: Buffer; start: number; limit: number; pageSize: number }): number => {
  const { into, start, limit, pageSize } = place;
  if (!areAligned(before, after)) return -1;
  const oldWords = wordsOf(before);
  const newWords = wordsOf(after);
  const toNew = (after.byteOffset - before.byteOffset) >> 2;
  const oldBase = before.byteOffset >> 2;
  const oldEnd = oldBase + (pageSize >> 2);
  let end = start;
  for (let group = oldBase; group < oldEnd; group += 4) {
    if (isSame(oldWords, newWords, group, group + toNew)) continue;
    const first = group;
    do group += 4;
    while (group < oldEnd && !isSame(oldWords, newWords, group, group + toNew));
    const offset = (first - oldBase) << 2;
    const length = (group - first) << 2;
    if (end + HEADER_BYTES + length - start > limit) return -1;
    into.writeUInt16LE(offset, end);
    into.writeUInt16LE(length, end + 2);
    after.copy(into, end + HEADER_BYTES, offset, offset + length);
    end += HEADER_BYTES + length;
  }
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

/** Four words, of which the first are at these places. */
const isSame = (oldWords: Int32Array, newWords: Int32Array, old: number, now: number): boolean =>
  ((oldWords[old]! ^ newWords[now]!) |
    (oldWords[old + 1]! ^ newWords[now + 1]!) |
    (oldWords[old + 2]! ^ newWords[now + 2]!) |
    (oldWords[old + 3]! ^ newWords[now + 3]!)) ===
  0;
