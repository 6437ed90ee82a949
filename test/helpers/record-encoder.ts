/** SQLite records out of values: bigint is INTEGER, number is REAL. Checked against SQLite in test/log/record-encoder.test.ts. */
import { writeVarint } from '../../src/sqlite/varint.ts';
import type { Value } from '../../src/change/table.ts';

export const encodeRecord = (values: readonly Value[]): Buffer => {
  const cells = values.map(encodeValue);
  const types = Buffer.alloc(9 * cells.length + 9);
  let end = 0;
  for (const { type } of cells) end = writeVarint(types, end, type);
  const header = Buffer.alloc(9);
  let size = end + 1;
  if (size > 127) size = end + 2;
  const headerEnd = writeVarint(header, 0, size);
  return Buffer.concat([header.subarray(0, headerEnd), types.subarray(0, end), ...cells.map(({ body }) => body)]);
};

const encodeValue = (value: Value): { type: number; body: Buffer } => {
  if (value === null) return { type: 0, body: Buffer.alloc(0) };
  if (typeof value === 'string') return { type: 13 + 2 * Buffer.byteLength(value), body: Buffer.from(value) };
  if (typeof value === 'bigint') return encodeInteger(value);
  if (typeof value === 'number') {
    const body = Buffer.alloc(8);
    body.writeDoubleBE(value);
    return { type: 7, body };
  }
  return { type: 12 + 2 * value.length, body: Buffer.from(value) };
};

const encodeInteger = (value: bigint): { type: number; body: Buffer } => {
  if (value === 0n || value === 1n) return { type: 8 + Number(value), body: Buffer.alloc(0) };
  const sizes = [1, 2, 3, 4, 6, 8];
  const index = sizes.findIndex((bytes) => BigInt.asIntN(bytes * 8, value) === value);
  const body = Buffer.alloc(8);
  body.writeBigInt64BE(value);
  return { type: index + 1, body: body.subarray(8 - sizes[index]!) };
};
