/** Bad input, the state directory. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import { prepareStateDirectory, StateLock } from '../../src/support/state-lock.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';
import { expectOneLine, hiveBytes, waggle } from '../helpers/waggle-command.ts';

const isRoot = process.getuid?.() === 0;
const NOBODY = 65_534;

/** A hive with a configuration beside it. */
const scene = (directory: string): string => {
  const path = join(directory, 'app.sqlite');
  const database = new Database(path);
  database.pragma('journal_mode = WAL');
  database.exec('CREATE TABLE t (id INTEGER PRIMARY KEY)');
  database.close();
  writeFileSync(join(directory, 'waggle.yaml'), 'hive: app.sqlite\n');
  return path;
};

describe('the state directory', () => {
  it.each([['run'], ['tail', 'app.sqlite', '--state', '.waggle']])('is a file: %s', (...args) => {
    using directory = temporaryDirectory();
    const hive = scene(directory.path);
    writeFileSync(join(directory.path, '.waggle'), 'mine');
    const before = hiveBytes(hive);
    expectOneLine(waggle(args, { cwd: directory.path }), 'STATE_UNUSABLE', 1, /\.waggle/);
    expect(hiveBytes(hive)).toEqual(before);
  });

  it.skipIf(!isRoot)('belongs to somebody else', () => {
    using directory = temporaryDirectory();
    const hive = scene(directory.path);
    chmodSync(directory.path, 0o777);
    chmodSync(hive, 0o666);
    mkdirSync(join(directory.path, '.waggle'), { mode: 0o755 });
    expectOneLine(waggle(['run'], { cwd: directory.path, uid: NOBODY }), 'STATE_UNUSABLE', 1);
  });

  it('lies on a read-only file system', ({ skip }) => {
    using directory = temporaryDirectory();
    scene(directory.path);
    const state = join(directory.path, '.waggle');
    mkdirSync(state);
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'ro', 'tmpfs', state]).status !== 0) skip('mount is not allowed here');
    try {
      expectOneLine(waggle(['run'], { cwd: directory.path }), 'STATE_UNUSABLE', 1);
    } finally {
      spawnSync('umount', [state]);
    }
  });

  it('is in use by another daemon, which is named', () => {
    using directory = temporaryDirectory();
    const hive = scene(directory.path);
    const state = join(directory.path, '.waggle');
    prepareStateDirectory(state);
    using _lock = StateLock.acquire(state);
    const before = hiveBytes(hive);
    expectOneLine(waggle(['run'], { cwd: directory.path }), 'STATE_IN_USE', 1, new RegExp(`pid ${process.pid}`));
    expect(hiveBytes(hive)).toEqual(before);
  });

  it('is not there yet: status', () => {
    using directory = temporaryDirectory();
    scene(directory.path);
    expectOneLine(waggle(['status'], { cwd: directory.path }), 'STATE_MISSING', 1);
  });

  it('is made for its owner alone', () => {
    using directory = temporaryDirectory();
    const state = join(directory.path, 'deep', '.waggle');
    prepareStateDirectory(state);
    using _lock = StateLock.acquire(state);
    expect(statSync(state).mode & 0o777).toBe(0o700);
    expect(statSync(join(state, 'lock')).mode & 0o777).toBe(0o600);
    expect(statSync(join(state, 'daemon.json')).mode & 0o777).toBe(0o600);
  });
});
