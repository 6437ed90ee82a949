/**
 * The database header, the first 100 bytes of the file (https://sqlite.org/fileformat2.html#the_database_header):
 *
 *     0 magic 'SQLite format 3\0'   16 page size u16 (1 = 65536)   18 write version, 19 read version (2 = WAL)
 *     20 reserved bytes a page      28 database size in pages u32  44 schema format  52 largest root page (auto_vacuum)
 *     56 text encoding (1 UTF-8, 2 UTF-16le, 3 UTF-16be)           96 version of SQLite that wrote last
 */

export const DATABASE_HEADER_BYTES = 100;
const MAGIC = Buffer.from('SQLite format 3\0', 'latin1');

export interface DatabaseHeader {
  readonly pageSize: number;
  /** Page size less the reserved bytes at each page's end. */
  readonly usableSize: number;
  /** Both version numbers say WAL. */
  readonly wal: boolean;
  readonly sizePages: number;
  readonly autoVacuum: boolean;
  /** 0 while the database holds no table yet, which SQLite treats as UTF-8. */
  readonly encoding: 'utf8' | 'utf16le' | 'utf16be';
  /** SQLITE_VERSION_NUMBER of the last writer, for example 3054001. */
  readonly sqliteVersion: number;
}

/** Null if the bytes are not the header of a SQLite 3 database. Looks at the first 100 bytes only. */
export const parseDatabaseHeader = (bytes: Buffer): DatabaseHeader | null => {
  if (bytes.length < DATABASE_HEADER_BYTES || bytes.compare(MAGIC, 0, 16, 0, 16) !== 0) return null;
  const raw = bytes.readUInt16BE(16);
  const pageSize = raw === 1 ? 65536 : raw;
  if (pageSize < 512 || (pageSize & (pageSize - 1)) !== 0) return null;
  const usableSize = pageSize - bytes[20]!;
  if (usableSize < 480) return null;
  const encoding = bytes.readUInt32BE(56);
  if (encoding > 3) return null;
  return {
    pageSize,
    usableSize,
    wal: bytes[18] === 2 && bytes[19] === 2,
    sizePages: bytes.readUInt32BE(28),
    autoVacuum: bytes.readUInt32BE(52) !== 0,
    encoding: encoding === 2 ? 'utf16le' : encoding === 3 ? 'utf16be' : 'utf8',
    sqliteVersion: bytes.readUInt32BE(96),
  };
};
