import { spawn } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import { temporaryDirectory } from '../helpers/temporary.ts';
import { useUnknownCollation } from '../helpers/unknown-collation.ts';
import { hiveBytes, waggle } from '../helpers/waggle-command.ts';

const makeDatabase = (path: string, sql = ''): Database.Database => {
  const database = new Database(path);
  database.pragma('journal_mode = WAL');
  database.exec(`CREATE TABLE t (id INTEGER PRIMARY KEY); ${sql}`);
  return database;
};

describe('waggle doctor', () => {
  it('finds nothing to mend, and leaves nothing behind', () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, 'app.sqlite');
    makeDatabase(path).close();
    const before = hiveBytes(path);
    const { status, stdout, stderr } = waggle(['doctor', 'app.sqlite'], { cwd: directory.path });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toContain('app.sqlite can be captured.');
    expect(stdout).toMatch(/pages of 4096 bytes \(0 reserved\), utf8, auto_vacuum off/);
    expect(hiveBytes(path)).toEqual(before);
    expect(readdirSync(directory.path)).toEqual(['app.sqlite']);
  });

  it('leaves the WAL of a program that died as it is', () => {
    using directory = temporaryDirectory();
    const [living, dead] = ['living.sqlite', 'dead.sqlite'].map((name) => join(directory.path, name)) as [string, string];
    const database = makeDatabase(living);
    for (const suffix of ['', '-wal', '-shm']) copyFileSync(living + suffix, dead + suffix);
    database.close();
    const { '-shm': _, ...before } = hiveBytes(dead);
    expect(waggle(['doctor', dead]).status).toBe(0);
    expect(hiveBytes(dead)).toMatchObject(before);
  });

  it('tells tables that cannot be captured, with exit status 1', () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, 'app.sqlite');
    const database = makeDatabase(
      path,
      'CREATE TABLE plain (a TEXT PRIMARY KEY) WITHOUT ROWID; CREATE TABLE pairs (a TEXT COLLATE NOCASE PRIMARY KEY, b) WITHOUT ROWID; CREATE VIRTUAL TABLE search USING fts5(text)',
    );
    useUnknownCollation(database, 'pairs');
    database.close();
    const { status, stdout } = waggle(['doctor', path]);
    expect(status).toBe(1);
    expect(stdout).toMatch(/problem .*: pairs \[COLLATION_UNKNOWN\] → Exclude/);
    expect(stdout).toMatch(/note .*virtual tables .*search/);
    expect(stdout).toContain('One thing hinders capture.');
  });

  it('knows the neighbours: Litestream, a journal, a large WAL', () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, 'app.sqlite');
    const database = makeDatabase(path);
    database.pragma('wal_autocheckpoint = 0');
    const insert = database.prepare('INSERT INTO t VALUES (?)');
    database.exec('CREATE TABLE blobs (data BLOB); INSERT INTO blobs VALUES (zeroblob(17000000))');
    insert.run(1);
    mkdirSync(join(directory.path, '.app.sqlite-litestream'));
    writeFileSync(`${path}-journal`, 'x');
    const { status, stdout } = waggle(['doctor', path]);
    database.close();
    expect(status).toBe(0);
    expect(stdout).toMatch(/note .*Litestream/);
    expect(stdout).toMatch(/note .*rollback journal/);
    expect(stdout).toMatch(/note .*the WAL has 17\.\d MB/);
  });

  it('knows the versions of SQLite that can corrupt a WAL', () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, 'app.sqlite');
    makeDatabase(path).close();
    const bytes = readFileSync(path);
    bytes.writeUInt32BE(3_046_001, 96);
    writeFileSync(path, bytes);
    expect(waggle(['doctor', path]).stdout).toMatch(/note .*SQLite 3\.46\.1, which can corrupt.* → Use SQLite 3\.51\.3/);
  });

  it('names who has it open, where /proc tells', async () => {
    if (process.platform !== 'linux') return;
    using directory = temporaryDirectory();
    const path = join(directory.path, 'app.sqlite');
    makeDatabase(path).close();
    const script = `const d = new (require('node:sqlite').DatabaseSync)(${JSON.stringify(path)}); d.exec('SELECT * FROM t'); console.log('open'); setInterval(() => d, 1000)`;
    const application = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'ignore'] });
    try {
      await new Promise((resolve) => application.stdout.once('data', resolve));
      expect(waggle(['doctor', path]).stdout).toContain(`(pid ${application.pid})`);
      expect(existsSync(`${path}-wal`)).toBe(true);
    } finally {
      application.kill();
    }
  });
});
