/** What `run` finds odd in a configuration and tells at the start, without refusing it. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import { unknownTables } from '../../src/cli/unknown-tables.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';
import { hiveBytes } from '../helpers/waggle-command.ts';
import { WaggleProcess } from '../helpers/waggle-process.ts';

const makeHive = (cwd: string): Database.Database => {
  const database = new Database(join(cwd, 'app.sqlite'));
  database.pragma('journal_mode = WAL');
  database.exec('CREATE TABLE accounts (id INTEGER PRIMARY KEY); CREATE TABLE sessions (id INTEGER PRIMARY KEY)');
  return database;
};

const WARN = 40;

const warnings = async (cwd: string, config: string): Promise<string[]> => {
  writeFileSync(join(cwd, 'waggle.yaml'), `hive: app.sqlite\n${config}`);
  await using daemon = new WaggleProcess(['run'], { cwd });
  await daemon.untilReady();
  await daemon.stop();
  return daemon.lines.filter(({ level, component }) => level >= WARN && component === undefined).map(({ msg }) => msg);
};

describe('waggle run warns', () => {
  it('of a table name that the hive does not have', async () => {
    using directory = temporaryDirectory();
    const database = makeHive(directory.path);
    const sinks = 'sinks: { changes: { type: jsonl, file: changes.jsonl } }\n';
    expect(await warnings(directory.path, `tables: { exclude: [sesions] }\n${sinks}`)).toEqual([
      'tables.exclude: the database has no table `sesions` now; did you mean `sessions`?',
    ]);
    expect(await warnings(directory.path, `tables: { exclude: [sessions, "log_*"] }\n${sinks}`)).toEqual([]);
    database.close();
  });

  it('of a configuration without a sink', async () => {
    using directory = temporaryDirectory();
    const database = makeHive(directory.path);
    const text = ['no sink is enabled: changes are kept in the log only'];
    expect(await warnings(directory.path, 'sinks: {}\n')).toEqual(text);
    expect(await warnings(directory.path, 'sinks: { changes: { type: jsonl, file: changes.jsonl, enabled: false } }\n')).toEqual(text);
    database.close();
  });
});

describe('unknownTables', () => {
  it('looks at both lists and leaves database and WAL as they are', () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, 'app.sqlite');
    const database = makeHive(directory.path);
    const before = hiveBytes(path);
    expect(unknownTables(path, { include: ['acounts', 'sessions', 'x*'], exclude: ['nothing_like_it'] })).toEqual([
      'tables.include: the database has no table `acounts` now; did you mean `accounts`?',
      'tables.exclude: the database has no table `nothing_like_it` now',
    ]);
    expect(hiveBytes(path)).toMatchObject({ '': before[''], '-wal': before['-wal'] });
    database.close();
    expect(unknownTables(path, { include: null, exclude: ['sesions'] })).toHaveLength(1);
    expect(unknownTables(join(directory.path, 'none'), { include: null, exclude: ['sesions'] })).toEqual([]);
  });
});
