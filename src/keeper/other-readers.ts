/**
 * Whether somebody else reads the hive from its database file alone (read mark 0), as the kernel lists locks (proc_locks(5)).
 *
 * Emptying the WAL does not wait for such a reader, but it writes a new wal-index header; a transaction that has read and then wants to
 * write is refused for that (SQLITE_BUSY_SNAPSHOT), as if somebody had committed in between.
 */
import { readFileSync } from 'node:fs';

/** WAL_READ_LOCK(0) in the -shm file (https://sqlite.org/walformat.html#locks). */
const READ_LOCK_0 = 123;
/** `1: POSIX  ADVISORY  READ 27718 fe:00:10003086 123 123`, the last two being the first and the last byte. */
const LOCK = /^\d+: POSIX +ADVISORY +READ +(\d+) (\S+) (\d+) (\d+)$/gm;

/**
 * Asked while this process holds that lock itself: it names the file. False also where the kernel lists no locks (not Linux), or not
 * those of the application (another pid namespace).
 */
export const hasOtherReaderOfFile = (pid: number = process.pid, locks: string = listLocks()): boolean => {
  const readers = [...locks.matchAll(LOCK)].filter(([, , , first, last]) => Number(first) <= READ_LOCK_0 && READ_LOCK_0 <= Number(last));
  const own = new Set(readers.filter((reader) => Number(reader[1]) === pid).map((reader) => reader[2]));
  return readers.some((reader) => Number(reader[1]) !== pid && own.has(reader[2]));
};

const listLocks = (): string => {
  try {
    return readFileSync('/proc/locks', 'latin1');
  } catch {
    return '';
  }
};
