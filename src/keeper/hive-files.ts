/**
 * The hive's three files as the keeper sees them beside SQLite: raw descriptors that stay open for the life of the
 * process. Closing any descriptor of the database file or of -shm would drop every POSIX lock of the process, and with
 * it the pin; so nothing here is ever closed.
 */
import { accessSync, constants, fdatasyncSync, fstatSync, openSync, readSync, statSync, type BigIntStats, type Stats } from 'node:fs';
import { dirname } from 'node:path';
import { DATABASE_HEADER_BYTES, parseDatabaseHeader } from '../sqlite/database-header.ts';
import { FRAME_HEADER_BYTES, frameOffset, type Checksum } from '../sqlite/wal.ts';
import { WAL_INDEX_HEADER_BYTES, parseWalIndexHeader, type WalIndexState } from '../sqlite/wal-index.ts';
import { WaggleError, systemErrorCode } from '../support/errors.ts';

/** Size and time of the last write of the database file. Equal prints: no checkpoint has written in between. */
export interface Fingerprint {
  readonly sizeBytes: number;
  /** Nanoseconds, as decimal digits. */
  readonly modified: string;
}

/** A write within the kernel's clock tick (4 ms, 10 ms on some) could leave the same time: older prints only. */
const PRINT_AGE_NS = 30_000_000n;

export class HiveFiles {
  readonly path: string;
  readonly pageSize: number;
  readonly #database: number;
  readonly #header = Buffer.alloc(WAL_INDEX_HEADER_BYTES);
  #index = -1;
  #wal = -1;

  private constructor(path: string, database: number, pageSize: number) {
    this.path = path;
    this.#database = database;
    this.pageSize = pageSize;
  }

  /**
   * Looks at the file before SQLite does, because SQLite would create files beside it or roll back a journal. Changes
   * nothing. Throws HIVE_MISSING, HIVE_NOT_A_FILE, HIVE_EMPTY, HIVE_NO_PERMISSION, HIVE_NOT_A_DATABASE, HIVE_NOT_WAL.
   */
  static open(path: string): HiveFiles {
    let stat: Stats;
    try {
      stat = statSync(path);
      if (!stat.isFile()) throw new WaggleError('HIVE_NOT_A_FILE', `${path} is not a regular file`);
      // The locks need write access to the file; -wal and -shm are made in the directory.
      accessSync(path, constants.R_OK | constants.W_OK);
      accessSync(dirname(path), constants.R_OK | constants.W_OK | constants.X_OK);
      for (const side of [`${path}-wal`, `${path}-shm`]) {
        if (statSync(side, { throwIfNoEntry: false }) !== undefined) accessSync(side, constants.R_OK | constants.W_OK);
      }
    } catch (error) {
      throw asHiveError(path, error);
    }
    if (stat.size === 0) throw new WaggleError('HIVE_EMPTY', `${path} is empty`);
    const database = openSync(path, 'r');
    const bytes = Buffer.alloc(DATABASE_HEADER_BYTES);
    const read = readSync(database, bytes, 0, bytes.length, 0);
    const header = parseDatabaseHeader(bytes.subarray(0, read));
    if (header === null) throw new WaggleError('HIVE_NOT_A_DATABASE', `${path} is not a SQLite database`);
    if (!header.wal) throw new WaggleError('HIVE_NOT_WAL', `${path} does not use a write-ahead log`);
    return new HiveFiles(path, database, header.pageSize);
  }

  /** To be called when a connection has read once, so that -wal and -shm exist. */
  openSideFiles(): void {
    this.#index = openSync(`${this.path}-shm`, 'r');
    this.#wal = openSync(`${this.path}-wal`, 'r');
  }

  get walFd(): number {
    return this.#wal;
  }

  /** The 136 bytes as they are at this moment; 'torn' is normal while somebody commits. */
  readHeader(): WalIndexState {
    const read = readSync(this.#index, this.#header, 0, WAL_INDEX_HEADER_BYTES, 0);
    return read < WAL_INDEX_HEADER_BYTES ? 'uninitialised' : parseWalIndexHeader(this.#header);
  }

  /** The running checksum that frame `frame` of the WAL carries; null: the WAL has no such frame of these salts. */
  readChecksum({ salt1, salt2, frame }: { readonly salt1: number; readonly salt2: number; readonly frame: number }): Checksum | null {
    const head = Buffer.alloc(FRAME_HEADER_BYTES);
    if (readSync(this.#wal, head, 0, head.length, frameOffset(frame, this.pageSize)) < head.length) return null;
    if (head.readUInt32BE(8) !== salt1 || head.readUInt32BE(12) !== salt2) return null;
    return { checksum1: head.readUInt32BE(16), checksum2: head.readUInt32BE(20) };
  }

  /** Moves what checkpoints have written to the disk, without a lock, so that the next checkpoint's own sync is short. */
  syncDatabase(): void {
    fdatasyncSync(this.#database);
  }

  /** The same for the WAL: a checkpoint syncs it first, while it holds the lock that another checkpoint would give up at. */
  syncWal(): void {
    fdatasyncSync(this.#wal);
  }

  walSizeBytes(): number {
    return fstatSync(this.#wal).size;
  }

  /** The file that no longer stands at its path, or null. None of the three can go while a connection of ours is open, unless somebody replaces them. */
  findReplaced(): string | null {
    const same = (fd: number, path: string): boolean => {
      const now = statSync(path, { bigint: true, throwIfNoEntry: false });
      if (now === undefined) return false;
      const held = fstatSync(fd, { bigint: true });
      return now.ino === held.ino && now.dev === held.dev;
    };
    if (!same(this.#database, this.path)) return this.path;
    if (!same(this.#wal, `${this.path}-wal`)) return `${this.path}-wal`;
    return same(this.#index, `${this.path}-shm`) ? null : `${this.path}-shm`;
  }

  /** When the database file was last written, and its size. */
  print(): Fingerprint {
    return printOf(fstatSync(this.#database, { bigint: true }));
  }

  /** Null while the last write is so recent that another one could not be told from it. */
  fingerprint(): Fingerprint | null {
    const stat = fstatSync(this.#database, { bigint: true });
    const nowNs = BigInt(Date.now()) * 1_000_000n;
    return nowNs - stat.mtimeNs < PRINT_AGE_NS ? null : printOf(stat);
  }
}

const printOf = (stat: BigIntStats): Fingerprint => ({ sizeBytes: Number(stat.size), modified: stat.mtimeNs.toString() });

export const samePrint = (a: Fingerprint | null, b: Fingerprint | null): boolean =>
  a !== null && b !== null && a.modified === b.modified && a.sizeBytes === b.sizeBytes;

/** The fault of opening or reading the hive, in Waggle's words. */
export const asHiveError = (path: string, error: unknown): WaggleError => {
  if (error instanceof WaggleError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const code = systemErrorCode(error) ?? '';
  const options = { cause: error };
  if (code === 'ENOENT' || code === 'ENOTDIR') return new WaggleError('HIVE_MISSING', `${path} does not exist`, options);
  if (code === 'EISDIR') return new WaggleError('HIVE_NOT_A_FILE', `${path} is not a regular file`, options);
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS' || code.startsWith('SQLITE_READONLY') || code.startsWith('SQLITE_CANTOPEN'))
    return new WaggleError('HIVE_NO_PERMISSION', `${path} and its directory must be readable and writable (${message})`, options);
  if (code === 'SQLITE_NOTADB') return new WaggleError('HIVE_NOT_A_DATABASE', `${path} is not a SQLite database`, options);
  if (code.startsWith('SQLITE_BUSY') || code.startsWith('SQLITE_LOCKED'))
    return new WaggleError('HIVE_LOCKED', `${path} is locked exclusively by another process`, options);
  return new WaggleError('HIVE_CORRUPT', `${path} cannot be read: ${message}`, options);
};
