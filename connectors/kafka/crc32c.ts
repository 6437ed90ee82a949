/**
 * CRC-32C (Castagnoli, https://www.rfc-editor.org/rfc/rfc3720#appendix-B.4), eight bytes at a time ("slicing by 8"): five times the speed of one byte at
 * a time, which is what kafkajs does. Node's own `zlib.crc32` is another polynomial.
 */
const POLYNOMIAL = 0x82f63b78;

/** Eight tables of 256: table n tells what a byte does that stands n bytes before the end. */
const TABLES = new Int32Array(8 * 256);
for (let byte = 0; byte < 256; byte += 1) {
  let crc = byte;
  for (let bit = 0; bit < 8; bit += 1) crc = (crc & 1) === 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
  TABLES[byte] = crc;
}
for (let at = 256; at < TABLES.length; at += 1) TABLES[at] = (TABLES[at - 256]! >>> 8) ^ TABLES[TABLES[at - 256]! & 0xff]!;

/** Of the bytes from `begin` up to `end`. An unsigned number. */
export const crc32c = (bytes: Uint8Array, begin: number, end: number): number => {
  const t = TABLES;
  let crc = -1;
  let at = begin;
  for (; at + 8 <= end; at += 8) {
    const low = crc ^ (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24));
    crc =
      t[1792 + (low & 0xff)]! ^
      t[1536 + ((low >>> 8) & 0xff)]! ^
      t[1280 + ((low >>> 16) & 0xff)]! ^
      t[1024 + (low >>> 24)]! ^
      t[768 + bytes[at + 4]!]! ^
      t[512 + bytes[at + 5]!]! ^
      t[256 + bytes[at + 6]!]! ^
      t[bytes[at + 7]!]!;
  }
  for (; at < end; at += 1) crc = t[(crc ^ bytes[at]!) & 0xff]! ^ (crc >>> 8);
  return ~crc >>> 0;
};
