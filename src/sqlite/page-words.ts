/** Page images as 32-bit words, to compare them faster than native calls on short ranges do. */

/** Views are made once for each underlying buffer, which serves many pages. */
const views = new WeakMap<ArrayBufferLike, Int32Array>();
let last: readonly [Int32Array, Int32Array] = [new Int32Array(0), new Int32Array(0)];

/** All of the buffer behind `image`, as words: the image begins at word `image.byteOffset >> 2` if it is aligned. */
export const wordsOf = ({ buffer }: Buffer): Int32Array => {
  if (last[0].buffer === buffer) return last[0];
  if (last[1].buffer === buffer) return last[1];
  let words = views.get(buffer);
  if (words === undefined) views.set(buffer, (words = new Int32Array(buffer, 0, buffer.byteLength >> 2)));
  last = [words, last[0]];
  return words;
};

/** Whether `wordsOf` serves both; images of our own readers always are. */
export const areAligned = (one: Buffer, other: Buffer): boolean => (one.byteOffset | other.byteOffset) % 4 === 0;
