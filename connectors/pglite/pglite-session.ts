/** A Session over PGlite. The directory is locked against other processes: PGlite itself does not look. */
import { mkdir } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { PGlite } from '@electric-sql/pglite';
import { systemErrorCode, WaggleError } from '../../src/support/errors.ts';
import type { ResultRow, Running, Session } from '../postgres/session.ts';
import { type DirectoryLock, lockDirectory } from './directory-lock.ts';

export const openPgliteSession = async (dir: string): Promise<Session> => {
  const path = resolve(dir);
  try {
    await mkdir(dirname(path), { recursive: true });
  } catch (error) {
    throw new WaggleError('SINK_DENIED', `pglite ${dir}: the directory cannot be created (${systemErrorCode(error) ?? 'unknown'})`, { cause: error });
  }
  const lock = lockDirectory(path);
  try {
    return new PgliteSession(await PGlite.create(path), lock);
  } catch (error) {
    lock.release();
    if (error instanceof WaggleError) throw error;
    const code = systemErrorCode(error);
    throw new WaggleError(
      code === 'EACCES' || code === 'EROFS' ? 'SINK_DENIED' : 'SINK_FAILED',
      `pglite ${dir}: the database cannot be opened${code === null ? '' : ` (${code})`}`,
      {
        cause: error,
        hint: 'Check the rights of the directory, and that it was written by this version of PGlite.',
      },
    );
  }
};

class PgliteSession implements Session {
  readonly #database: PGlite;
  readonly #lock: DirectoryLock;

  constructor(database: PGlite, lock: DirectoryLock) {
    this.#database = database;
    this.#lock = lock;
  }

  async query(sql: string, parameters: readonly (string | null)[]): Promise<ResultRow[]> {
    // PGlite passes array parameters that are strings already through as they are.
    const { rows } = await this.#database.query<ResultRow>(sql, [...parameters]);
    return rows;
  }

  async script(sql: string): Promise<ResultRow[]> {
    const results = await this.#database.exec(sql);
    return results.findLast((result) => result.fields.length > 0)?.rows ?? [];
  }

  copy(script: (source: string) => string, text: string): Running {
    const done = this.#database.exec(script("'/dev/blob'"), { blob: new Blob([text]) }).then(() => {});
    return { sent: done.catch(() => {}), done };
  }

  async close(): Promise<void> {
    try {
      if (!this.#database.closed) {
        await this.#database.exec('ROLLBACK').catch(() => []);
        await this.#database.close();
      }
    } catch {
      // A database that failed is closed as far as it can be; its files are as after a kill.
    } finally {
      this.#lock.release();
    }
  }
}
