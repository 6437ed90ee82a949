/**
 * Records (https://sqlite.org/fileformat2.html#record_format):
 *
 *     header size (varint, counts itself) | serial type (varint) a column | values
 *
 *     serial type  0 NULL   1..6 integers of 1,2,3,4,6,8 bytes   7 double   8 the integer 0   9 the integer 1
 *                  10,11 reserved   even ≥ 12 BLOB of (n-12)/2   odd ≥ 13 TEXT of (n-13)/2 bytes
 *
 * A record can hold fewer columns than its table (ADD COLUMN does not rewrite rows). Whoever asks knows the defaults.
 */
import { sameBytes } from './same-bytes.ts';
import { canonicalInteger, readVarint, varintEnd } from './varint.ts';

export type RecordValue = null | number | bigint | string | Uint8Array;
export type RecordEncoding = 'utf8' | 'utf16le' | 'utf16be';

export interface DecodeOptions {
  readonly encoding: RecordEncoding;
  /** `bigint`: every INTEGER as bigint; `number`: only those beyond 2^53. */
  readonly integers: 'number' | 'bigint';
}

/** A record contradicts its own header. */
export class RecordError extends Error {
  override readonly name = 'RecordError';
}

const CONTENT_BYTES = [0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0];

/** Bytes that a value of this serial type takes in the record's body. */
export const serialTypeLength = (serialType: number): number =>
  serialType < 12 ? CONTENT_BYTES[serialType]! : (serialType - 12 - (serialType & 1)) / 2;

/** All values that the record holds. Throws a RecordError when lengths do not fit. BLOBs are views into `record`. */
export const decodeRecord = (record: Buffer, options: DecodeOptions): RecordValue[] => {
  const values: RecordValue[] = [];
  decodeInto(values, Infinity, { bytes: record, start: 0, end: record.length }, options);
  return values;
};

/** A record that is a piece of other bytes. */
export interface RecordPlace {
  readonly bytes: Buffer;
  readonly start: number;
  readonly end: number;
}

/** The record's values in the places of what stands in `values` from its begin, `most` of them at most. As `decodeRecord`. */
export const decodeInto = (values: RecordValue[], most: number, { bytes, start, end }: RecordPlace, options: DecodeOptions): void => {
  const headerEnd = start + readVarint(bytes, start);
  let header = varintEnd;
  let body = headerEnd;
  if (headerEnd < header || headerEnd > end) throw new RecordError('record header is longer than the record');
  let shared: string | null = null;
  let sharedAt = 0;
  for (let field = 0; header < headerEnd && field < most; field += 1) {
    const serialType = readVarint(bytes, header);
    header = varintEnd;
    const length = serialTypeLength(serialType);
    const valueEnd = body + length;
    if (header > headerEnd || valueEnd > end) throw new RecordError('record value ends behind the record');
    if (serialType < 13 || (serialType & 1) === 0 || options.encoding !== 'utf8') {
      values[field] = decodeValue(bytes, body, serialType, length, options);
    } else {
      if (shared === null && end - body <= SHARED_TEXT_BYTES) {
        shared = bytes.toString('latin1', body, end);
        sharedAt = body;
      }
      const isShared = shared !== null && isAscii(bytes, body, valueEnd);
      values[field] = isShared ? shared!.substring(body - sharedAt, valueEnd - sharedAt) : bytes.toString('utf8', body, valueEnd);
    }
    body = valueEnd;
  }
};

/** Texts of a record that is no longer than that are pieces of one string: a call of V8 for each of them took twice as long. */
const SHARED_TEXT_BYTES = 1024;

const isAscii = (bytes: Buffer, start: number, end: number): boolean => {
  let all = 0;
  for (let at = start; at < end; at += 1) all |= bytes[at]!;
  return all < 0x80;
};

/**
 * Throws a RecordError unless the record's header and values fill it exactly, as SQLite itself demands: whoever decodes it later
 * will get values. Allocates nothing.
 */
export const checkRecord = (record: Buffer): void => {
  const headerSize = readVarint(record, 0);
  let header = varintEnd;
  let body = headerSize;
  if (!(headerSize >= header && headerSize <= record.length)) throw new RecordError('record header is longer than the record');
  while (header < headerSize) {
    const serialType = readVarint(record, header);
    header = varintEnd;
    if (serialType === 10 || serialType === 11) throw new RecordError(`reserved serial type ${serialType}`);
    body += serialTypeLength(serialType);
  }
  if (header !== headerSize || body !== record.length) throw new RecordError('record values do not fill the record');
};

/** The bytes of a value by its place in the record; null: the record does not hold it. A view. */
export const storedBytes = (record: Buffer, field: number): Buffer | null => {
  const headerSize = readVarint(record, 0);
  let header = varintEnd;
  let body = headerSize;
  for (let at = 0; header < headerSize; at += 1) {
    const length = serialTypeLength(readVarint(record, header));
    header = varintEnd;
    if (at === field) return record.subarray(body, body + length);
    body += length;
  }
  return null;
};

/**
 * False: two records of one table hold different values for sure. SQLite writes the same row in more than one way: shorter where the
 * row is older than its last columns, and a number without a fraction as an integer or as a double. Decodes nothing.
 */
export const mayHoldTheSame = (a: Buffer, b: Buffer): boolean => {
  const endA = readVarint(a, 0);
  let headerA = varintEnd;
  const endB = readVarint(b, 0);
  let headerB = varintEnd;
  let bodyA = endA;
  let bodyB = endB;
  while (headerA < endA && headerB < endB) {
    const typeA = readVarint(a, headerA);
    headerA = varintEnd;
    const typeB = readVarint(b, headerB);
    headerB = varintEnd;
    const lengthA = serialTypeLength(typeA);
    const lengthB = serialTypeLength(typeB);
    if (typeA === typeB ? !sameBytes(a, bodyA, b, bodyB, lengthA) : !mayBeTheSameNumber(typeA, typeB)) return false;
    bodyA += lengthA;
    bodyB += lengthB;
  }
  return true;
};

/** Two integers of different types are different ones, but that an old schema format has 0 and 1 in a byte. */
const mayBeTheSameNumber = (a: number, b: number): boolean => {
  const isNumber = a > 0 && a < 10 && b > 0 && b < 10;
  return isNumber && (a === 7 || b === 7 || (Math.min(a, b) === 1 && Math.max(a, b) >= 8));
};

const decodeValue = (record: Buffer, offset: number, serialType: number, length: number, options: DecodeOptions): RecordValue => {
  if (serialType >= 12) {
    const end = offset + length;
    return (serialType & 1) === 0 ? record.subarray(offset, end) : decodeText(record, offset, end, options.encoding);
  }
  switch (serialType) {
    case 0:
      return null;
    case 7:
      return record.readDoubleBE(offset);
    case 10:
    case 11:
      throw new RecordError(`reserved serial type ${serialType}`);
    case 6: {
      const value = record.readBigInt64BE(offset);
      return options.integers === 'bigint' ? value : canonicalInteger(value);
    }
    default: {
      const value = serialType >= 8 ? serialType - 8 : record.readIntBE(offset, length);
      return options.integers === 'bigint' ? BigInt(value) : value;
    }
  }
};

/** Text in the database's encoding. Invalid sequences become U+FFFD. */
export const decodeText = (bytes: Buffer, start: number, end: number, encoding: RecordEncoding): string => {
  if (encoding === 'utf8') return bytes.toString('utf8', start, end);
  const even = end - ((end - start) & 1);
  if (encoding === 'utf16le') return bytes.toString('utf16le', start, even).toWellFormed();
  const swapped = Buffer.from(bytes.subarray(start, even));
  swapped.swap16();
  return swapped.toString('utf16le').toWellFormed();
};
