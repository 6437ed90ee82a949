import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config/load-config.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';
import { expectOneLine, waggle } from '../helpers/waggle-command.ts';

const makeDatabase = (path: string, journal: 'wal' | 'delete' = 'wal'): void => {
  mkdirSync(dirname(path), { recursive: true });
  const database = new Database(path);
  database.pragma(`journal_mode = ${journal}`);
  database.exec('CREATE TABLE t (id INTEGER PRIMARY KEY)');
  database.close();
};

const BLADE = '.blade/state/databases/main/db.sqlite';

describe('waggle init', () => {
  it("finds Blade's database first, and writes a configuration that works as it is", () => {
    using directory = temporaryDirectory();
    makeDatabase(join(directory.path, BLADE));
    makeDatabase(join(directory.path, 'other.sqlite'));
    const { status, stdout, stderr } = waggle(['init'], { cwd: directory.path });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/^ {2}waggle run {16}what is captured/m);
    const config = loadConfig(join(directory.path, 'waggle.yaml'), {});
    expect(config).toMatchObject({ hive: join(directory.path, BLADE), state: join(directory.path, '.waggle'), name: 'main' });
    expect(config.sinks).toMatchObject([{ name: 'changes', type: 'jsonl', target: join(directory.path, 'changes.jsonl') }]);
  });

  it('writes examples that are right as soon as their # is taken away', () => {
    using directory = temporaryDirectory();
    makeDatabase(join(directory.path, 'app.db'));
    waggle(['init'], { cwd: directory.path });
    const path = join(directory.path, 'waggle.yaml');
    const all = readFileSync(path, 'utf8').replaceAll(/^( *)# (\s*[\w]+:.*)$/gm, '$1$2');
    writeFileSync(path, all);
    const config = loadConfig(path, { DATABASE_URL: 'postgres://h/d' });
    expect(config.sinks.map((sink) => sink.type)).toEqual(['jsonl', 'sqlite', 'pglite', 'postgres']);
    expect(config.tables.exclude).toEqual(['sessions']);
  });

  it('names the JSON Schema for editors', () => {
    using directory = temporaryDirectory();
    makeDatabase(join(directory.path, 'app.db'));
    waggle(['init'], { cwd: directory.path });
    const [, schema] = /^# yaml-language-server: \$schema=(.*)$/m.exec(readFileSync(join(directory.path, 'waggle.yaml'), 'utf8')) ?? [];
    expect(existsSync(join(directory.path, schema!))).toBe(true);
  });

  it('takes only SQLite files for databases', () => {
    using directory = temporaryDirectory();
    makeDatabase(join(directory.path, 'app.db'), 'delete');
    writeFileSync(join(directory.path, 'text.sqlite'), 'hello');
    writeFileSync(join(directory.path, 'empty.sqlite'), '');
    const { status, stdout } = waggle(['init'], { cwd: directory.path });
    expect(status).toBe(0);
    expect(stdout).toMatch(/^ {2}waggle run --enable-wal {3}what is captured/m);
    expect(stdout).toMatch(/Not yet in order: app\.db is not in WAL mode\n.*--enable-wal/);
  });

  it('does not choose between two', () => {
    using directory = temporaryDirectory();
    for (const id of ['a', 'b']) makeDatabase(join(directory.path, `.blade/state/databases/${id}/db.sqlite`));
    expectOneLine(waggle(['init'], { cwd: directory.path }), 'HIVE_AMBIGUOUS', 2, /databases\/a\/db\.sqlite, .*databases\/b\/db\.sqlite/);
    expect(existsSync(join(directory.path, 'waggle.yaml'))).toBe(false);
    expect(waggle(['init', '.blade/state/databases/b/db.sqlite'], { cwd: directory.path }).status).toBe(0);
    expect(loadConfig(join(directory.path, 'waggle.yaml'), {}).name).toBe('b');
  });

  it('finds nothing', () => {
    using directory = temporaryDirectory();
    expectOneLine(waggle(['init'], { cwd: directory.path }), 'HIVE_MISSING', 1, /waggle init <file>/);
    expectOneLine(waggle(['init', 'none.sqlite'], { cwd: directory.path }), 'HIVE_MISSING', 1);
  });

  it('overwrites nothing, unless it is forced', () => {
    using directory = temporaryDirectory();
    makeDatabase(join(directory.path, 'app.db'));
    writeFileSync(join(directory.path, 'waggle.yaml'), 'mine');
    expectOneLine(waggle(['init'], { cwd: directory.path }), 'FILE_EXISTS', 2, /waggle\.yaml/);
    expect(readFileSync(join(directory.path, 'waggle.yaml'), 'utf8')).toBe('mine');
    expect(waggle(['init', '--force'], { cwd: directory.path }).status).toBe(0);
  });
});
