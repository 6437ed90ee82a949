/** Bad input, the hive: `tail`, `run` and `doctor` say in one line what is wrong, and the file stays as it is, byte for byte. */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, linkSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import type { ErrorCode } from '../../src/support/errors.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';
import { expectOneLine, hiveBytes, waggle } from '../helpers/waggle-command.ts';

const isRoot = process.getuid?.() === 0;
const NOBODY = 65_534;

const makeDatabase = (path: string, journal: 'wal' | 'delete' = 'wal'): void => {
  const database = new Database(path);
  database.pragma(`journal_mode = ${journal}`);
  database.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT); INSERT INTO t VALUES (1, 'one')");
  database.close();
};

const scene = (make: (path: string) => void): ReturnType<typeof temporaryDirectory> => {
  const directory = temporaryDirectory();
  make(join(directory.path, 'app.sqlite'));
  writeFileSync(join(directory.path, 'waggle.yaml'), 'hive: app.sqlite\n');
  return directory;
};

const cases: readonly (readonly [string, ErrorCode, RegExp, (path: string) => void])[] = [
  ['no file', 'HIVE_MISSING', /there is no file/, () => {}],
  ['a directory', 'HIVE_NOT_A_FILE', /a directory/, (path) => mkdirSync(path)],
  ['an empty file', 'HIVE_EMPTY', /empty/, (path) => writeFileSync(path, '')],
  ['a text', 'HIVE_NOT_A_DATABASE', /not a SQLite database/, (path) => writeFileSync(path, 'hello, world\n'.repeat(100))],
  ['a header cut off', 'HIVE_NOT_A_DATABASE', /not a SQLite database/, (path) => writeFileSync(path, 'SQLite format 3\0')],
  ['a rollback journal', 'HIVE_NOT_WAL', /not in WAL mode[^\n]*\n[^\n]*--enable-wal/, (path) => makeDatabase(path, 'delete')],
  [
    'a hard link',
    'HIVE_LOCKS_NOT_SHARED',
    /2 names \(hard links\)/,
    (path) => {
      makeDatabase(path);
      linkSync(path, `${path}.link`);
    },
  ],
];

describe.each(cases)('%s', (_, code, message, make) => {
  it.each([['tail', 'app.sqlite'], ['run']])('%s', (...args) => {
    using directory = scene(make);
    const before = hiveBytes(join(directory.path, 'app.sqlite'));
    expectOneLine(waggle(args, { cwd: directory.path }), code, 1, message);
    expect(hiveBytes(join(directory.path, 'app.sqlite'))).toEqual(before);
    expect(existsSync(join(directory.path, '.waggle'))).toBe(false);
  });

  it('doctor', () => {
    using directory = scene(make);
    const before = hiveBytes(join(directory.path, 'app.sqlite'));
    const result = waggle(['doctor', 'app.sqlite'], { cwd: directory.path });
    expect(result).toMatchObject({ status: 1, stderr: '' });
    expect(result.stdout).toMatch(new RegExp(`problem .*\\[${code}\\] → `));
    expect(hiveBytes(join(directory.path, 'app.sqlite'))).toEqual(before);
  });
});

describe('rights', () => {
  it.skipIf(!isRoot)('a file of somebody else', () => {
    using directory = temporaryDirectory();
    chmodSync(directory.path, 0o755);
    const path = join(directory.path, 'app.sqlite');
    makeDatabase(path);
    chmodSync(path, 0o644);
    const before = hiveBytes(path);
    expectOneLine(waggle(['tail', path], { uid: NOBODY }), 'HIVE_NO_PERMISSION', 1, /may not be read and written/);
    expect(hiveBytes(path)).toEqual(before);
  });

  it.skipIf(!isRoot)('a directory that cannot be entered', () => {
    using directory = temporaryDirectory();
    makeDatabase(join(directory.path, 'app.sqlite'));
    expectOneLine(waggle(['tail', join(directory.path, 'app.sqlite')], { uid: NOBODY, cwd: '/' }), 'HIVE_NO_PERMISSION', 1);
  });
});

describe('places', () => {
  it('follows a symbolic link to the file itself', () => {
    using directory = temporaryDirectory();
    makeDatabase(join(directory.path, 'app.sqlite'));
    symlinkSync('app.sqlite', join(directory.path, 'link.sqlite'));
    const result = waggle(['doctor', 'link.sqlite'], { cwd: directory.path });
    expect(result).toMatchObject({ status: 0, stderr: '' });
  });

  const mount = (args: readonly string[]): boolean => spawnSync('mount', args).status === 0;

  it('refuses a file that is mounted by itself', ({ skip }) => {
    using directory = temporaryDirectory();
    const [source, target] = ['app.sqlite', 'mounted.sqlite'].map((name) => join(directory.path, name)) as [string, string];
    makeDatabase(source);
    writeFileSync(target, '');
    // A bind mount on the same file system has the same device number: only /proc tells it from a plain file.
    if (!mount(['--bind', source, target])) skip('mount is not allowed here');
    try {
      expectOneLine(waggle(['tail', target]), 'HIVE_LOCKS_NOT_SHARED', 1, /mount point/);
    } finally {
      spawnSync('umount', [target]);
    }
  });
});

describe('--enable-wal', () => {
  it('switches the journal on the user’s word, and only then', () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, 'app.sqlite');
    makeDatabase(path, 'delete');
    writeFileSync(join(directory.path, 'waggle.yaml'), 'hive: app.sqlite\nstate: waggle.yaml/x\n');
    // The state directory cannot be made: the command ends right after the switch.
    expectOneLine(waggle(['run', '--enable-wal'], { cwd: directory.path }), 'STATE_UNUSABLE', 1);
    expect([...readFileSync(path).subarray(18, 20)]).toEqual([2, 2]);
    expect(existsSync(`${path}-wal`)).toBe(false);
  });

  it('says so when the application is in the way', () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, 'app.sqlite');
    makeDatabase(path, 'delete');
    const application = new Database(path);
    application.exec('BEGIN IMMEDIATE');
    try {
      expectOneLine(waggle(['tail', path, '--enable-wal']), 'HIVE_LOCKED', 1, /while others use it/);
    } finally {
      application.close();
    }
  });
});
