/** Which keys were seen, in a fixed amount of memory (a Bloom filter): a key that it does not know was never added; one that it knows may not have been, seldom. */
import type { Value } from '../change/table.ts';

const BITS_PER_KEY = 64;
const HASHES = 8;
const MIN_BITS = 2 ** 16;
/** 64 MiB. Beyond 8 million keys each has fewer bits: at 32 million one in a thousand keys is taken for seen that was not. */
const MAX_BITS = 2 ** 29;

export class KeyFilter {
  readonly #words: Uint32Array;
  readonly #mask: number;

  /** `keys`: about how many will be added. */
  constructor(keys: number) {
    const wanted = Math.max(MIN_BITS, Math.min(MAX_BITS, keys * BITS_PER_KEY));
    const bits = 2 ** Math.floor(Math.log2(wanted));
    this.#words = new Uint32Array(bits / 32);
    this.#mask = bits - 1;
  }

  add(key: readonly Value[]): void {
    hash(key);
    for (let index = 0, at = hashA; index < HASHES; index += 1, at = (at + hashB) | 0) {
      const bit = at & this.#mask;
      this.#words[bit >>> 5]! |= 1 << (bit & 31);
    }
  }

  has(key: readonly Value[]): boolean {
    hash(key);
    for (let index = 0, at = hashA; index < HASHES; index += 1, at = (at + hashB) | 0) {
      const bit = at & this.#mask;
      if ((this.#words[bit >>> 5]! & (1 << (bit & 31))) === 0) return false;
    }
    return true;
  }
}

let hashA = 0;
let hashB = 0;

/**
 * Targets give keys back in types of their own (a number as text, a UUID in lower case): equal keys must meet here, and different ones may.
 */
const hash = (key: readonly Value[]): void => {
  hashA = 0x811c9dc5 | 0;
  hashB = 0x9747b28c | 0;
  for (const value of key) {
    const text = keyText(value).toLowerCase();
    for (let index = 0; index < text.length; index += 1) mix(text.charCodeAt(index));
    mix(0x10000 + text.length);
  }
  hashA = finish(hashA);
  // Odd, so that all steps differ.
  hashB = finish(hashB) | 1;
};

const mix = (unit: number): void => {
  hashA = Math.imul(hashA ^ unit, 0x01000193);
  hashB = Math.imul((hashB << 5) ^ (hashB >>> 27) ^ unit, 0x5bd1e995);
};

const finish = (state: number): number => {
  let value = Math.imul(state ^ (state >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return value ^ (value >>> 16);
};

/** A text column gives a REAL back in plain digits, where its own text has an exponent. */
const PLAIN_DIGITS = /^-?(\d{22,}|\d+\.\d+)$/;

const keyText = (value: Value): string => {
  if (typeof value === 'string') return PLAIN_DIGITS.test(value) ? String(Number(value)) : value;
  if (value === null) return '';
  if (value instanceof Uint8Array) return `\\x${Buffer.from(value.buffer, value.byteOffset, value.length).toString('hex')}`;
  return typeof value === 'number' && Object.is(value, -0) ? '0' : String(value);
};
