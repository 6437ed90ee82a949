/** A hive whose pages are of another size (or another number of reserved bytes) than those of the mirror. */
import { cpSync, existsSync, mkdirSync, readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import { CaptureRun } from '../helpers/capture-run.ts';
import { briefly } from '../helpers/capture-scene.ts';
import { failAt } from '../helpers/file-faults.ts';
import { readLogHistory } from '../helpers/log-history.ts';
import { TableModel } from '../helpers/table-model.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';

const SCHEMA = `
  CREATE TABLE plain (a, b);
  CREATE TABLE numbered (id INTEGER PRIMARY KEY, v);
  CREATE TABLE keyed (k TEXT PRIMARY KEY, v);
  CREATE TABLE rowless (v, k TEXT COLLATE NOCASE, n, PRIMARY KEY (k DESC, n)) WITHOUT ROWID;`;
const ROWS = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 700) SELECT`;
const FILL = ['plain', 'numbered', 'keyed']
  .map((table) => `INSERT INTO ${table} ${ROWS} i, zeroblob(CASE WHEN i % 90 = 0 THEN 20000 ELSE i % 50 END) FROM n;`)
  .concat(`INSERT INTO rowless ${ROWS} hex(zeroblob(i % 300)), 'Key ' || i, i % 3 FROM n; DELETE FROM keyed WHERE v IS NULL OR k % 5 = 0`)
  .join('\n');

class Scene implements Disposable {
  readonly #directory = temporaryDirectory();
  readonly hive = join(this.#directory.path, 'db.sqlite');
  readonly stateDir = join(this.#directory.path, 'state');

  constructor(pageSize: number) {
    mkdirSync(this.stateDir);
    this.write((db) => {
      db.pragma(`page_size = ${pageSize}`);
      db.pragma('journal_mode = WAL');
      db.exec(SCHEMA);
    });
  }

  /** Nothing of capture runs. */
  write(work: (db: Database.Database) => void): void {
    const db = new Database(this.hive);
    try {
      work(db);
    } finally {
      db.close();
    }
  }

  changePageSize(pageSize: number): void {
    this.write((db) => {
      db.pragma('journal_mode = DELETE');
      db.pragma(`page_size = ${pageSize}`);
      db.exec('VACUUM');
      db.pragma('journal_mode = WAL');
      if (db.pragma('page_size', { simple: true }) !== pageSize) throw new Error('the page size did not change');
    });
  }

  async capture(): Promise<string | null> {
    const run = new CaptureRun({ hive: this.hive, stateDir: this.stateDir });
    const beginning = await run.ready();
    const fault = await run.stop();
    if (fault !== null) throw new Error('capture ended with a fault', { cause: fault });
    return beginning;
  }

  /** The log's changes on nothing are what SQLite reads; gives those of the last transaction. */
  check(): string[] {
    const { transactions, catalog } = readLogHistory(join(this.stateDir, 'log.db'));
    const model = new TableModel();
    for (const { changes } of transactions) model.apply(changes);
    this.write((db) => TableModel.read(db, catalog.tables).assertEquals(model));
    return briefly(transactions.at(-1)?.changes ?? []);
  }

  [Symbol.dispose](): void {
    this.#directory[Symbol.dispose]();
  }
}

describe('a changed page size', { timeout: 60_000 }, () => {
  it.each([
    [1024, 4096],
    [4096, 512],
    [512, 65536],
  ])('VACUUM from %i to %i gives the real differences alone, and capture goes on', async (from, to) => {
    using scene = new Scene(from);
    expect(await scene.capture()).toBe('first');
    scene.write((db) => db.exec(FILL));
    await scene.capture();
    scene.check();
    scene.changePageSize(to);
    scene.write((db) =>
      db.exec("UPDATE numbered SET v = 'changed' WHERE id = 7; DELETE FROM rowless WHERE k = 'key 9'; INSERT INTO keyed VALUES ('new', 1)"),
    );
    expect(await scene.capture()).toBe('recovered');
    const plain = (change: string): boolean => !change.includes(' plain ');
    expect(scene.check().filter(plain)).toEqual(['u numbered 7', 'c keyed new', 'd rowless Key 9,0']);
    scene.write((db) => db.exec("UPDATE rowless SET v = 1 WHERE k = 'KEY 10'; UPDATE keyed SET v = 2 WHERE k = 'new'"));
    await scene.capture();
    expect(scene.check()).toEqual(['u keyed new', 'u rowless Key 10,1']);
    expect(existsSync(join(scene.stateDir, 'mirror-next'))).toBe(false);
  });

  it('a file of another page size that took the place, with another schema', async () => {
    using scene = new Scene(4096);
    scene.write((db) => db.exec(FILL));
    await scene.capture();
    scene.write((db) => void db.pragma('wal_checkpoint(TRUNCATE)'));
    using other = new Scene(1024);
    other.write((db) =>
      db.exec(
        `DROP TABLE numbered; ALTER TABLE keyed ADD COLUMN w DEFAULT 5; ${FILL.replace(/INSERT INTO numbered.*;/, '').replace('keyed WITH', 'keyed (k, v) WITH')}`,
      ),
    );
    renameSync(other.hive, scene.hive);
    expect(await scene.capture()).toBe('recovered');
    const changes = readLogHistory(join(scene.stateDir, 'log.db')).transactions.at(-1)!.changes;
    expect(briefly(changes).slice(0, 3)).toEqual(['t numbered', 's numbered', 's keyed']);
    expect(changes.filter((change) => change.op === 'u').length).toBe(560);
    expect(changes.length).toBe(563);
  });

  const changed = async (): Promise<Scene> => {
    const scene = new Scene(1024);
    await scene.capture();
    scene.write((db) => db.exec('INSERT INTO numbered VALUES (1, 2); INSERT INTO rowless VALUES (1, 2, 3)'));
    await scene.capture();
    scene.changePageSize(4096);
    scene.write((db) => db.exec('UPDATE numbered SET v = 3'));
    return scene;
  };

  it.each([1, 2, 3, 5, 8])('a kill at file operation %i: the next start finds one mirror or the other, and nothing comes twice', async (n) => {
    using scene = await changed();
    {
      using fault = failAt(n, 'dead');
      const run = new CaptureRun({ hive: scene.hive, stateDir: scene.stateDir });
      await run.ready();
      expect(await run.stop()).not.toBeNull();
      expect(fault.hasFired).toBe(true);
    }
    await scene.capture();
    expect(scene.check()).toEqual(['u numbered 1']);
    expect(readdirSync(scene.stateDir)).not.toContain('mirror-next');
  });

  it.each(['the old mirror still there', 'the old mirror gone'])('a kill between the log and the exchange, %s', async (which) => {
    using scene = await changed();
    const [mirror, next, old] = ['mirror', 'mirror-next', 'old'].map((name) => join(scene.stateDir, name)) as [string, string, string];
    cpSync(mirror, old, { recursive: true });
    expect(await scene.capture()).toBe('recovered');
    renameSync(mirror, next);
    if (which === 'the old mirror still there') renameSync(old, mirror);
    expect(await scene.capture()).toBe('resumed');
    expect(scene.check()).toEqual(['u numbered 1']);
    expect(readdirSync(scene.stateDir)).not.toContain('mirror-next');
  });
});
