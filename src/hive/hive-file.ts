/**
 * The hive's file before anybody opens it through SQLite: is it there, is it a database in WAL mode, may we use it, and do
 * locks and shared memory reach the application. A second SQLite whose locks do not reach the first corrupts the file at the
 * next checkpoint, so what cannot be proven local is refused.
 */
import { accessSync, closeSync, constants, openSync, readFileSync, readSync, realpathSync, statfsSync, statSync, type Stats } from 'node:fs';
import { dirname } from 'node:path';
import { type DatabaseHeader, DATABASE_HEADER_BYTES, parseDatabaseHeader } from '../sqlite/database-header.ts';
import { systemErrorCode, WaggleError } from '../support/errors.ts';

export interface HiveFile {
  /** Absolute, all links resolved. */
  readonly path: string;
  readonly header: DatabaseHeader;
  readonly sizeBytes: number;
}

/**
 * All checks in order. Throws HIVE_MISSING, HIVE_NOT_A_FILE, HIVE_NO_PERMISSION, HIVE_LOCKS_NOT_SHARED, HIVE_EMPTY,
 * HIVE_NOT_A_DATABASE, HIVE_NOT_WAL. Reads the first 100 bytes and changes nothing. Must not be called in a process that has the
 * file open through SQLite: closing a descriptor drops that connection's locks.
 */
export const resolveHive = (path: string): HiveFile => {
  const { real, stats } = locate(path);
  requireAccess(real);
  requireSharedLocks(real, stats);
  if (stats.size === 0) throw new WaggleError('HIVE_EMPTY', `${path} is empty: SQLite has not written to it yet`);
  const header = readHeader(real);
  if (header === null) throw new WaggleError('HIVE_NOT_A_DATABASE', `${path} is not a SQLite database`);
  if (!header.wal) throw new WaggleError('HIVE_NOT_WAL', `${path} is not in WAL mode`);
  return { path: real, header, sizeBytes: stats.size };
};

const locate = (path: string): { real: string; stats: Stats } => {
  try {
    const real = realpathSync(path);
    const stats = statSync(real);
    if (!stats.isFile()) throw new WaggleError('HIVE_NOT_A_FILE', `${path} is ${stats.isDirectory() ? 'a directory' : 'not a regular file'}`);
    return { real, stats };
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') throw new WaggleError('HIVE_MISSING', `there is no file ${path}`, { cause: error });
    if (code === 'EACCES' || code === 'EPERM') throw new WaggleError('HIVE_NO_PERMISSION', `${path} cannot be reached`, { cause: error });
    throw error;
  }
};

/** Locks and shared memory need write access to the file, its -shm and the directory; no row is ever written. */
const requireAccess = (path: string): void => {
  for (const [target, mode] of [
    [path, constants.R_OK | constants.W_OK],
    [dirname(path), constants.R_OK | constants.W_OK | constants.X_OK],
  ] as const) {
    try {
      accessSync(target, mode);
    } catch (error) {
      throw new WaggleError('HIVE_NO_PERMISSION', `${target} may not be read and written by this user`, { cause: error });
    }
  }
};

/** File system types (statfs f_type) on which POSIX locks or shared memory stop at the mount. */
const REMOTE_FILE_SYSTEMS = new Map([
  [0x6969, 'NFS'],
  [0x517b, 'SMB'],
  [0xff534d42, 'CIFS'],
  [0xfe534d42, 'SMB'],
  [0x01021997, '9p'],
  [0x65735546, 'FUSE or virtiofs'],
  [0x6a656a63, 'a shared folder of a virtual machine'],
  [0x786f4256, 'a VirtualBox shared folder'],
  [0xbacbacbc, 'a VMware shared folder'],
  [0x5346414f, 'AFS'],
  [0x00c36400, 'Ceph'],
  [0x61756673, 'aufs'],
]);

/** Why locks would not be shared with whoever opens the same file elsewhere; null: nothing speaks against it. */
export const lockHindrance = (path: string, stats: Stats): string | null => {
  const kind = REMOTE_FILE_SYSTEMS.get(statfsSync(path).type >>> 0);
  if (kind !== undefined) return `it lies on ${kind}, where locks and shared memory are not shared between machines`;
  // Another name has another -wal and -shm beside it.
  if (stats.nlink > 1) return `it has ${stats.nlink} names (hard links), and each would have a WAL of its own`;
  // A file mounted by itself: the application's -wal and -shm lie in another directory.
  if (statSync(dirname(path)).dev !== stats.dev || isMountPoint(path)) return 'the file itself is a mount point, so its -wal and -shm lie elsewhere';
  return null;
};

/** A bind mount from the same file system has the same device number; only the list of mounts (Linux) tells it. */
const isMountPoint = (path: string): boolean => {
  try {
    const unescape = (text: string): string => text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
    return readFileSync('/proc/self/mountinfo', 'latin1')
      .split('\n')
      .some((line) => Buffer.from(unescape(line.split(' ')[4] ?? ''), 'latin1').toString() === path);
  } catch {
    return false; // Not Linux.
  }
};

const requireSharedLocks = (path: string, stats: Stats): void => {
  const hindrance = lockHindrance(path, stats);
  if (hindrance !== null) throw new WaggleError('HIVE_LOCKS_NOT_SHARED', `${path} cannot be captured safely: ${hindrance}`);
};

const readHeader = (path: string): DatabaseHeader | null => {
  const fd = openSync(path, 'r');
  try {
    const bytes = Buffer.alloc(DATABASE_HEADER_BYTES);
    const count = readSync(fd, bytes, 0, bytes.length, 0);
    return parseDatabaseHeader(bytes.subarray(0, count));
  } finally {
    closeSync(fd);
  }
};
