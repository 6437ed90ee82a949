/**
 * A lock that the kernel takes back when its holder dies, however it dies: SQLite's own write lock on a small file, held by
 * an open transaction.
 */
import { closeSync, existsSync, openSync } from 'node:fs';
import Database from 'better-sqlite3';

export class FileLock implements Disposable {
  readonly #database: Database.Database;

  private constructor(database: Database.Database) {
    this.#database = database;
  }

  /** Null: somebody else holds it, and still does after `waitMs`. Makes the file (mode 0600); throws what the system or SQLite throws. */
  static acquire(path: string, waitMs: number): FileLock | null {
    const database = open(path, waitMs);
    try {
      database.exec('BEGIN IMMEDIATE');
      return new FileLock(database);
    } catch (error) {
      database.close();
      if (isBusy(error)) return null;
      throw error;
    }
  }

  /** Does somebody hold it at this moment? A file that is not there is held by nobody, and is not made. */
  static isHeld(path: string): boolean {
    if (!existsSync(path)) return false;
    using lock = FileLock.acquire(path, 0);
    return lock === null;
  }

  [Symbol.dispose](): void {
    if (this.#database.open) this.#database.close();
  }
}

const open = (path: string, waitMs: number): Database.Database => {
  // Made by hand for its mode, and only where it is not there: closing a descriptor drops locks that this process has on the file.
  if (!existsSync(path)) closeSync(openSync(path, 'a', 0o600));
  return new Database(path, { timeout: waitMs });
};

const isBusy = (error: unknown): boolean => error instanceof Database.SqliteError && error.code.startsWith('SQLITE_BUSY');
