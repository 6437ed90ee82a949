/**
 * Varints (https://sqlite.org/fileformat2.html#varint): 1 to 9 bytes, big-endian, seven bits a byte, all eight of the ninth.
 *
 * The readers return the value and leave the offset behind it in `varintEnd`: a module variable instead of a result
 * object, because cells are scanned by the million (allocating a pair a varint halved the scan's speed).
 */

/** Offset just behind the varint that was read last. */
export let varintEnd = 0;

/** Value as a number. Exact up to 2^53; used for payload sizes, serial types and page-local numbers. */
export const readVarint = (bytes: Uint8Array, offset: number): number => {
  let byte = bytes[offset++]!;
  if (byte < 0x80) {
    varintEnd = offset;
    return byte;
  }
  let value = byte & 0x7f;
  for (let count = 1; count < 8; count += 1) {
    byte = bytes[offset++]!;
    if (byte < 0x80) {
      varintEnd = offset;
      return value * 128 + byte;
    }
    value = value * 128 + (byte & 0x7f);
  }
  value = value * 256 + bytes[offset++]!;
  varintEnd = offset;
  return value;
};

/** A signed 64-bit varint, as rowids are: a number when it is a safe integer, else a bigint. */
export const readRowid = (bytes: Uint8Array, offset: number): number | bigint => {
  let byte = bytes[offset]!;
  if (byte < 0x80) {
    varintEnd = offset + 1;
    return byte;
  }
  let value = byte & 0x7f;
  let at = offset + 1;
  // Seven bytes hold at most 49 bits: exact as a number and never negative.
  for (let count = 1; count < 7; count += 1) {
    byte = bytes[at++]!;
    if (byte < 0x80) {
      varintEnd = at;
      return value * 128 + byte;
    }
    value = value * 128 + (byte & 0x7f);
  }
  return readLongRowid(bytes, offset);
};

const readLongRowid = (bytes: Uint8Array, offset: number): number | bigint => {
  let value = 0n;
  for (let count = 0; count < 8; count += 1) {
    const byte = bytes[offset++]!;
    value = (value << 7n) | BigInt(byte & 0x7f);
    if (byte < 0x80) {
      varintEnd = offset;
      return canonicalInteger(value);
    }
  }
  // Past the end of the bytes there is nothing; `varintEnd` then lies behind them, which is the caller's to see.
  value = (value << 8n) | BigInt(bytes[offset++] ?? 0);
  varintEnd = offset;
  return canonicalInteger(BigInt.asIntN(64, value));
};

/** A number when safe, else the bigint itself. */
export const canonicalInteger = (value: bigint): number | bigint =>
  value >= -9007199254740991n && value <= 9007199254740991n ? Number(value) : value;

/** Bytes that a non-negative number below 2^53 takes as a varint. */
export const varintLength = (value: number): number => {
  let length = 1;
  while (value >= 128) {
    value = Math.floor(value / 128);
    length += 1;
  }
  return length;
};

/** Writes a non-negative number below 2^53; returns the offset behind it. */
export const writeVarint = (bytes: Uint8Array, offset: number, value: number): number => {
  if (value < 0x80) {
    bytes[offset] = value;
    return offset + 1;
  }
  const end = offset + varintLength(value);
  let at = end - 1;
  bytes[at--] = value % 128;
  value = Math.floor(value / 128);
  while (at >= offset) {
    bytes[at--] = (value % 128) | 0x80;
    value = Math.floor(value / 128);
  }
  return end;
};
