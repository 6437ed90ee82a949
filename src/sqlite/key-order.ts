/**
 * The order of the rows of a WITHOUT ROWID table: their records begin with the key columns, and sort as SQLite sorts index
 * entries (https://sqlite.org/fileformat2.html#record_sort_order): NULL, numbers by value, text by its collation, blobs by bytes.
 */
import { readVarint, varintEnd, varintLength, writeVarint } from './varint.ts';
import { decodeRecordValues, type RawValue, type RecordEncoding, RecordError, serialTypeLength } from './record.ts';

export interface KeyPart {
  /** BINARY, NOCASE or RTRIM, which SQLite brings; the application's own cannot be known. */
  readonly collation: string;
  readonly descending: boolean;
}

/** Below 0: `a` comes first. Text is compared in `encoding`, which is that of both records. Throws a RecordError. */
export const compareKeys = (a: Buffer, b: Buffer, parts: readonly KeyPart[], encoding: RecordEncoding): number => {
  const left = decodeRecordValues(a, parts.length);
  const right = decodeRecordValues(b, parts.length);
  for (let index = 0; index < parts.length; index += 1) {
    const { collation, descending } = parts[index]!;
    const order = compareValues(left[index]!, right[index]!, collation, encoding);
    if (order !== 0) return descending ? -order : order;
  }
  return 0;
};

const rank = (value: RawValue): number => {
  if (value === null) return 0;
  if (typeof value === 'number' || typeof value === 'bigint') return 1;
  return value instanceof Uint8Array ? 3 : 2;
};

const compareValues = (a: RawValue, b: RawValue, collation: string, encoding: RecordEncoding): number => {
  const byRank = rank(a) - rank(b);
  if (byRank !== 0 || a === null || b === null) return byRank;
  if (a instanceof Uint8Array || b instanceof Uint8Array) return Buffer.compare(a as Uint8Array, b as Uint8Array);
  if (typeof a === 'object' || typeof b === 'object')
    return compareText((a as { text: Buffer }).text, (b as { text: Buffer }).text, collation, encoding);
  // A bigint and a double compare by their exact values.
  return a < b ? -1 : a > b ? 1 : 0;
};

const compareText = (a: Buffer, b: Buffer, collation: string, encoding: RecordEncoding): number => {
  const name = collation.toUpperCase();
  if (name === 'BINARY') return Buffer.compare(a, b);
  // The other two are defined on UTF-8.
  const left = asUtf8(a, encoding);
  const right = asUtf8(b, encoding);
  if (name === 'RTRIM') return Buffer.compare(withoutSpaces(left), withoutSpaces(right));
  if (name === 'NOCASE') return compareFolded(left, right);
  throw new RecordError(`collation ${collation} is not known`);
};

const asUtf8 = (text: Buffer, encoding: RecordEncoding): Buffer => {
  if (encoding === 'utf8') return text;
  const copy = Buffer.from(text.subarray(0, text.length & ~1));
  if (encoding === 'utf16be') copy.swap16();
  return Buffer.from(copy.toString('utf16le'), 'utf8');
};

const withoutSpaces = (text: Buffer): Buffer => {
  let end = text.length;
  while (end > 0 && text[end - 1] === 0x20) end -= 1;
  return text.subarray(0, end);
};

/** ASCII letters only, up to a NUL at most, then the shorter first: as sqlite3_strnicmp and its caller do. */
const compareFolded = (a: Buffer, b: Buffer): number => {
  const length = Math.min(a.length, b.length);
  for (let index = 0; index < length; index += 1) {
    const difference = fold(a[index]!) - fold(b[index]!);
    if (difference !== 0) return difference;
    if (a[index] === 0) break;
  }
  return a.length - b.length;
};

const fold = (byte: number): number => (byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte);

/** The first `count` values of a record as a record of their own: enough to find the place behind it again. */
export const keyPrefix = (record: Buffer, count: number): Buffer => {
  const headerSize = readVarint(record, 0);
  const types = varintEnd;
  let header = types;
  let body = headerSize;
  for (let index = 0; index < count && header < headerSize; index += 1) {
    const serialType = readVarint(record, header);
    header = varintEnd;
    body += serialTypeLength(serialType);
  }
  const typeBytes = header - types;
  // The size counts its own varint.
  const size = typeBytes + (varintLength(typeBytes + 1) === 1 ? 1 : varintLength(typeBytes + 2));
  const prefix = Buffer.allocUnsafe(size + body - headerSize);
  const at = writeVarint(prefix, 0, size);
  record.copy(prefix, at, types, header);
  record.copy(prefix, size, headerSize, body);
  return prefix;
};
