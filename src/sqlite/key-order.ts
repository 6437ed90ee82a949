/**
 * The order of records in an index b-tree, which is where the rows of a WITHOUT ROWID table stand
 * (https://sqlite.org/fileformat2.html#representation_of_sql_indices): field by field, NULL < numbers < TEXT < BLOB; numbers by value,
 * TEXT by the field's collation, BLOB by bytes; a DESC field the other way round.
 *
 * Only SQLite's own collations are known here: an application's collation is code that only the application has.
 */
import { decodeText, type RecordEncoding, RecordError, serialTypeLength } from './record.ts';
import { readVarint, varintEnd } from './varint.ts';

export const COLLATIONS = ['BINARY', 'NOCASE', 'RTRIM'] as const;
export type Collation = (typeof COLLATIONS)[number];

/** A field of the key; the key's fields are the first of the record. */
export interface KeyField {
  readonly collation: Collation;
  readonly descending: boolean;
}

/** Negative: `a` stands before `b`. 0: the same key. Throws a RecordError on a record that contradicts itself. */
export type CompareKeys = (a: Buffer, b: Buffer) => number;

export const keyComparison = (fields: readonly KeyField[], encoding: RecordEncoding): CompareKeys => {
  const texts = fields.map(({ collation }) => textComparison(collation, encoding));
  return (a, b) => {
    let bodyA = readVarint(a, 0);
    let headerA = varintEnd;
    let bodyB = readVarint(b, 0);
    let headerB = varintEnd;
    for (let index = 0; index < fields.length; index += 1) {
      const typeA = readVarint(a, headerA);
      headerA = varintEnd;
      const typeB = readVarint(b, headerB);
      headerB = varintEnd;
      const endA = bodyA + serialTypeLength(typeA);
      const endB = bodyB + serialTypeLength(typeB);
      if (!(endA <= a.length && endB <= b.length)) throw new RecordError('record value ends behind the record');
      const classA = storageClass(typeA);
      let order = classA - storageClass(typeB);
      if (order === 0 && classA !== NULL) {
        if (classA === NUMBER) {
          const valueA = numberAt(a, bodyA, typeA);
          const valueB = numberAt(b, bodyB, typeB);
          // Exact also between a bigint and a double.
          order = valueA < valueB ? -1 : valueA > valueB ? 1 : 0;
        } else if (classA === TEXT) {
          order = texts[index]!(a, bodyA, endA, b, bodyB, endB);
        } else {
          order = a.compare(b, bodyB, endB, bodyA, endA);
        }
      }
      if (order !== 0) return fields[index]!.descending ? -order : order;
      bodyA = endA;
      bodyB = endB;
    }
    return 0;
  };
};

/** A record of the first `fields` fields of `record`, as a place in the order that outlives the row. */
export const keyPrefix = (record: Buffer, fields: number): Buffer => {
  const headerSize = readVarint(record, 0);
  const first = varintEnd;
  let header = first;
  let body = headerSize;
  for (let index = 0; index < fields; index += 1) {
    body += serialTypeLength(readVarint(record, header));
    header = varintEnd;
  }
  if (!(header <= headerSize && body <= record.length)) throw new RecordError('record value ends behind the record');
  // The size counts itself. Two bytes always serve: SQLite's keys have at most 2000 columns, whose types take up to 5 bytes each.
  const size = 2 + header - first;
  return Buffer.concat([Buffer.from([0x80 | (size >> 7), size & 0x7f]), record.subarray(first, header), record.subarray(headerSize, body)]);
};

const NULL = 0;
const NUMBER = 1;
const TEXT = 2;
const BLOB = 3;

const storageClass = (serialType: number): number => {
  if (serialType >= 12) return (serialType & 1) === 1 ? TEXT : BLOB;
  return serialType === 0 ? NULL : NUMBER;
};

const numberAt = (record: Buffer, offset: number, serialType: number): number | bigint => {
  if (serialType === 7) return record.readDoubleBE(offset);
  if (serialType === 6) return record.readBigInt64BE(offset);
  if (serialType > 9) throw new RecordError(`reserved serial type ${serialType}`);
  return serialType >= 8 ? serialType - 8 : record.readIntBE(offset, serialTypeLength(serialType));
};

type CompareText = (a: Buffer, startA: number, endA: number, b: Buffer, startB: number, endB: number) => number;

const compareBytes: CompareText = (a, startA, endA, b, startB, endB) => a.compare(b, startB, endB, startA, endA);

/** sqlite3StrNICmp: letters of ASCII without case, up to the first NUL; then the shorter first. */
const compareNoCase: CompareText = (a, startA, endA, b, startB, endB) => {
  const length = Math.min(endA - startA, endB - startB);
  for (let index = 0; index < length; index += 1) {
    const byteA = lower(a[startA + index]!);
    const byteB = lower(b[startB + index]!);
    if (byteA !== byteB) return byteA - byteB;
    if (byteA === 0) break;
  }
  return endA - startA - (endB - startB);
};

const lower = (byte: number): number => (byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte);

const compareTrimmed: CompareText = (a, startA, endA, b, startB, endB) =>
  a.compare(b, startB, withoutSpaces(b, startB, endB), startA, withoutSpaces(a, startA, endA));

const withoutSpaces = (text: Buffer, start: number, end: number): number => {
  let at = end;
  while (at > start && text[at - 1] === 0x20) at -= 1;
  return at;
};

/** BINARY compares the bytes as they stand; the others are defined on UTF-8, which SQLite turns UTF-16 into first. */
const textComparison = (collation: Collation, encoding: RecordEncoding): CompareText => {
  if (collation === 'BINARY') return compareBytes;
  const compare = collation === 'NOCASE' ? compareNoCase : compareTrimmed;
  if (encoding === 'utf8') return compare;
  return (a, startA, endA, b, startB, endB) => {
    const textA = asUtf8(a, startA, endA, encoding);
    const textB = asUtf8(b, startB, endB, encoding);
    return compare(textA, 0, textA.length, textB, 0, textB.length);
  };
};

const asUtf8 = (bytes: Buffer, start: number, end: number, encoding: RecordEncoding): Buffer => {
  const even = end - ((end - start) & 1);
  const high = encoding === 'utf16le' ? 1 : 0;
  let isPlain = true;
  for (let at = start + high; at < even; at += 2) if (bytes[at]! >= 0xd8 && bytes[at]! < 0xe0) isPlain = false;
  if (isPlain) return Buffer.from(decodeText(bytes, start, even, encoding));
  // SQLite joins any surrogate with whatever follows it (READ_UTF16): half pairs must come out as they do there.
  const unit = (at: number): number => (bytes[at + high]! << 8) | bytes[at + 1 - high]!;
  const out: number[] = [];
  for (let at = start; at < even;) {
    let code = unit(at);
    at += 2;
    if (code >= 0xd800 && code < 0xe000 && at < even) {
      const next = unit(at);
      at += 2;
      code = (next & 0x3ff) + ((code & 0x3f) << 10) + (((code & 0x3c0) + 0x40) << 10);
    }
    if (code < 0x80) out.push(code);
    else if (code < 0x800) out.push(0xc0 | (code >> 6), 0x80 | (code & 0x3f));
    else if (code < 0x10000) out.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 0x3f), 0x80 | (code & 0x3f));
    else out.push(0xf0 | ((code >> 18) & 7), 0x80 | ((code >> 12) & 0x3f), 0x80 | ((code >> 6) & 0x3f), 0x80 | (code & 0x3f));
  }
  return Buffer.from(out);
};
