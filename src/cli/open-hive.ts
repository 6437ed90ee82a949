/** `run` and `tail` begin the same way: the hive is checked and, on the user's word, switched to WAL. */
import Database from 'better-sqlite3';
import { type HiveFile, resolveHive } from '../hive/hive-file.ts';
import { systemErrorCode, WaggleError } from '../support/errors.ts';

/** Throws what `resolveHive` throws; with `enableWal` a database with a rollback journal is switched instead. */
export const openHive = (path: string, { enableWal }: { enableWal: boolean }): HiveFile => {
  try {
    return resolveHive(path);
  } catch (error) {
    // HIVE_NOT_WAL comes last: everything else is in order.
    if (!enableWal || !(error instanceof WaggleError) || error.code !== 'HIVE_NOT_WAL') throw error;
  }
  switchToWal(path);
  return resolveHive(path);
};

const switchToWal = (path: string): void => {
  let database: Database.Database | null = null;
  try {
    database = new Database(path, { fileMustExist: true, timeout: 5000 });
    if (database.pragma('journal_mode = WAL', { simple: true }) !== 'wal')
      throw new WaggleError('HIVE_NOT_WAL', `${path} cannot be switched to WAL mode`);
  } catch (error) {
    if (error instanceof WaggleError) throw error;
    const busy = (systemErrorCode(error) ?? '').startsWith('SQLITE_BUSY');
    if (busy)
      throw new WaggleError('HIVE_LOCKED', `${path} cannot be switched to WAL mode while others use it`, {
        cause: error,
        hint: 'Stop the application for the switch.',
      });
    throw new WaggleError('HIVE_CORRUPT', `${path} cannot be switched to WAL mode: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  } finally {
    database?.close();
  }
};
