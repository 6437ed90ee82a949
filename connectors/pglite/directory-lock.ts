/**
 * Keeps a second process (or a second sink of this one) out of a directory: an exclusive transaction on a small SQLite
 * file beside it, `<dir>.lock`. The kernel releases it when the process ends, however it ends.
 */
import Database from 'better-sqlite3';
import { systemErrorCode, WaggleError } from '../../src/support/errors.ts';

export interface DirectoryLock {
  release(): void;
}

/** Throws SINK_BUSY if another one holds the directory. */
export const lockDirectory = (path: string): DirectoryLock => {
  let database: Database.Database | null = null;
  try {
    database = new Database(`${path}.lock`, { timeout: 0 });
    database.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
  } catch (error) {
    database?.close();
    if (systemErrorCode(error) === 'SQLITE_BUSY')
      throw new WaggleError('SINK_BUSY', `pglite ${path}: another process or sink has the directory open`, {
        hint: 'Close it there: one at a time can use it.',
      });
    throw new WaggleError('SINK_DENIED', `pglite ${path}: the file ${path}.lock cannot be written`, {
      cause: error,
      hint: 'Check the rights of the directory it stands in.',
    });
  }
  const held = database;
  return { release: () => held.close() };
};
