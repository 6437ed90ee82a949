/** What is said of a path before anybody opens it through SQLite. */
import { execFileSync } from 'node:child_process';
import { linkSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import { resolveHive } from '../../src/hive/hive-file.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';

const wal = (path: string): void => {
  const db = new Database(path);
  db.pragma('journal_mode = WAL');
  db.exec('CREATE TABLE t (x)');
  db.close();
};

const codeOf = (path: string): string => {
  try {
    resolveHive(path);
    return 'fine';
  } catch (error) {
    return error instanceof WaggleError ? error.code : String(error);
  }
};

describe('resolveHive', () => {
  it.each<[string, string, (path: string) => void]>([
    ['a WAL database', 'fine', wal],
    ['nothing', 'HIVE_MISSING', () => {}],
    ['a directory', 'HIVE_NOT_A_FILE', (path) => mkdirSync(path)],
    ['a pipe', 'HIVE_NOT_A_FILE', (path) => execFileSync('mkfifo', [path])],
    ['an empty file', 'HIVE_EMPTY', (path) => writeFileSync(path, '')],
    ['a text', 'HIVE_NOT_A_DATABASE', (path) => writeFileSync(path, 'SQLite format 3, but not really. '.repeat(9))],
    ['a file that is shorter than a header', 'HIVE_NOT_A_DATABASE', (path) => writeFileSync(path, 'SQLite format 3\0')],
    ['a database with a rollback journal', 'HIVE_NOT_WAL', (path) => new Database(path).exec('CREATE TABLE t (x)').close()],
    [
      'a file with two names',
      'HIVE_LOCKS_NOT_SHARED',
      (path) => {
        wal(path);
        linkSync(path, `${path}.second`);
      },
    ],
    ['a link that leads nowhere', 'HIVE_MISSING', (path) => symlinkSync(`${path}.gone`, path)],
  ])('%s: %s', (_, code, make) => {
    using directory = temporaryDirectory();
    const path = join(directory.path, 'db.sqlite');
    make(path);
    expect(codeOf(path)).toBe(code);
  });

  it('follows links to the file whose name its -wal bears', () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, 'db.sqlite');
    wal(path);
    symlinkSync(path, join(directory.path, 'link'));
    expect(resolveHive(join(directory.path, 'link')).path).toBe(path);
  });
});
