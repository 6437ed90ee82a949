/** Identity of a row by its declared key, straight from record bytes: two records have the same key if the texts are equal. */
import { crc32 } from 'node:zlib';
import type { Rowid, Table } from '../change/table.ts';
import { PageCorruption } from '../sqlite/btree-page.ts';
import { keyPrefix } from '../sqlite/key-order.ts';
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
  const parts: string[] = [];
  const recordOrder = table.clustering?.recordOrder;
  for (let column = 0; header < headerSize && left > 0; column += 1) {
    const serialType = readVarint(record, header);
    header = varintEnd;
    const length = serialTypeLength(serialType);
    const place = table.key.indexOf(recordOrder === undefined ? column : recordOrder[column]!);
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

/** What stands in place of a rowid where there is none: 53 bits of the key's bytes. */
export const clusteredRowid = (table: Table, record: Buffer): number => {
  const key = keyPrefix(record, table.clustering!.keyParts.length);
  return (crc32(key, 1) & 0x1fffff) * 4294967296 + crc32(key);
};
