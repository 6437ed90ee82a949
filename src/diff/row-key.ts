/** Identity of a row by its declared key, straight from record bytes: two records have the same key if the texts are equal. */
import type { Rowid, Table } from '../change/table.ts';
import { PageCorruption } from '../sqlite/btree-page.ts';
import { serialTypeLength } from '../sqlite/record.ts';
import { readVarint, varintEnd } from '../sqlite/varint.ts';

/**
 * Key of a record of a table with a declared key that is not the rowid. Numbers are the same where SQLite's own unique index holds
 * them to be (1 and 1.0: REPLACE of the one removes the other); other storage classes stay apart ('1', x'31'); a key with a NULL in it is unlike any other, so it takes the rowid along. Columns that a short record does not hold
 * cannot be key columns (ADD COLUMN adds none).
 */
export const rowKey = (table: Table, rowid: Rowid, record: Buffer): string => {
  const headerSize = readVarint(record, 0);
  let header = varintEnd;
  let body = headerSize;
  let left = table.key.length;
  const fields = table.withoutRowid?.fields;
  const parts: string[] = [];
  for (let field = 0; header < headerSize && left > 0; field += 1) {
    const serialType = readVarint(record, header);
    header = varintEnd;
    const length = serialTypeLength(serialType);
    const place = table.key.indexOf(fields === undefined ? field : fields[field]!);
    if (place !== -1 && parts[place] === undefined) {
      if (body + length > record.length) throw new PageCorruption('record value ends behind the record');
      parts[place] = serialType === 0 ? `n${rowid}` : keyPart(record, serialType, body, length);
      left -= 1;
    }
    body += length;
  }
  return parts.length === 1 ? parts[0]! : parts.join('');
};

const realPart = (value: number): string => (Number.isInteger(value) && Math.abs(value) < 2 ** 63 ? `i${BigInt(value)};` : `r${value};`);

const keyPart = (record: Buffer, serialType: number, offset: number, length: number): string => {
  if (serialType === 7) return realPart(record.readDoubleBE(offset));
  if (serialType === 6) return `i${record.readBigInt64BE(offset)};`;
  if (serialType === 8 || serialType === 9) return `i${serialType - 8};`;
  if (serialType < 6) return `i${record.readIntBE(offset, length)};`;
  return `${(serialType & 1) === 0 ? 'b' : 't'}${length}:${record.toString('latin1', offset, offset + length)}`;
};

/**
 * A number of up to 53 bits that stands where a rowid stands, for a row of a WITHOUT ROWID table. Of two keys that read the same as
 * JSON (text that is not valid UTF-8, a BLOB beside text) it tells which is which; nothing else rests on it.
 */
export const keyNumber = (key: string): number => {
  // FNV-1a, twice, from two beginnings.
  let low = 0x811c9dc5;
  let high = 0x9747b28c;
  for (let index = 0; index < key.length; index += 1) {
    const code = key.charCodeAt(index);
    low = Math.imul(low ^ code, 0x01000193);
    high = Math.imul(high ^ code, 0x01000193);
  }
  return (high & 0x1fffff) * 4294967296 + (low >>> 0);
};
