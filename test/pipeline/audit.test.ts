import { join } from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, test } from 'vitest';
import { createSink } from '../../connectors/sqlite/sink.ts';
import { differencesOf } from '../../src/pipeline/audit.ts';
import { DeadLetterStore } from '../../src/pipeline/dead-letter-store.ts';
import { KeyFilter } from '../../src/pipeline/key-filter.ts';
import type { SinkRunner } from '../../src/pipeline/runner.ts';
import type { SinkTask } from '../../src/pipeline/sink-store.ts';
import { Random } from '../helpers/random.ts';
import { RunnerScene } from '../helpers/runner-scene.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';

/** A runner over the connector `sqlite`, and the copy beside it. */
class AuditScene implements Disposable {
  readonly #directory = temporaryDirectory();
  readonly scene = new RunnerScene();
  readonly random: Random;
  readonly copy: Database.Database;
  readonly #file = join(this.#directory.path, 'copy.sqlite');

  constructor(seed: number) {
    this.random = new Random(seed);
    this.scene.source.seed(this.random, 80);
    this.copy = new Database(this.#file);
  }

  start(options: Parameters<RunnerScene['start']>[0] = {}): ReturnType<RunnerScene['start']> {
    return this.scene.start({ sink: createSink({ file: this.#file }), deadLetters: { store: this.scene.letters, limit: 1000 }, ...options });
  }

  async task(runner: SinkRunner, kind: SinkTask['kind'], tables: string[] | null = null): Promise<SinkTask> {
    const id = this.scene.store.ask({ sink: 'test', kind, tables, slow: false }, 0);
    await this.scene.until(runner, () => ['done', 'failed'].includes(this.scene.store.task(id)!.state));
    return this.scene.store.task(id)!;
  }

  /** Commits between the chunks of whatever reads the rows. */
  load(chance: number): void {
    this.scene.source.beforeChunk = () => {
      if (this.random.chance(chance)) this.scene.source.commit(this.random);
    };
  }

  readonly rows = (name: string): unknown[] => this.copy.prepare(`SELECT * FROM ${name} ORDER BY 1, 2`).raw().safeIntegers().all();

  [Symbol.dispose](): void {
    this.copy.close();
    this.scene[Symbol.dispose]();
    this.#directory[Symbol.dispose]();
  }
}

/** The copy holds what the hive holds. */
const expectEqual = ({ scene, rows }: { scene: RunnerScene; rows: (name: string) => unknown[] }): void => {
  for (const { name } of scene.source.catalog.tables) expect(rows(name)).toEqual(scene.source.expected(name));
};

describe('verify', () => {
  test.each([1, 2, 3, 4])('finds nothing while changes go on, seed %i', async (seed) => {
    using audit = new AuditScene(seed);
    const { runner, stop } = audit.start();
    await audit.scene.caughtUp(runner);
    audit.load(0.7);
    const { state, result } = await audit.task(runner, 'verify');
    expect(state).toBe('done');
    expect(differencesOf(result!)).toBe(0);
    expect(result!.tables.map(({ table }) => table)).toEqual(['items', 'pairs', 'notes']);
    await stop();
    expectEqual(audit);
  });

  test.each([0, 0.5])('finds each changed, missing and surplus row, and resync mends them; load %d', async (load) => {
    using audit = new AuditScene(20);
    const { runner, stop } = audit.start();
    await audit.scene.caughtUp(runner);
    audit.copy.exec("DELETE FROM items WHERE id = (SELECT max(id) FROM items); INSERT INTO items VALUES (-9, 'surplus', 1)");
    audit.copy.exec("UPDATE notes SET body = 'other' WHERE waggle_rowid = (SELECT min(waggle_rowid) FROM notes)");
    audit.copy.exec("INSERT INTO pairs VALUES ('k', 1000, 'surplus'), ('z', 1000, 'surplus')");
    audit.load(load);
    // Deletes and updates of the load could touch the very rows.
    if (load > 0) audit.scene.source.beforeChunk = (): void => audit.scene.source.insertItem();
    const found = await audit.task(runner, 'verify');
    expect(found.result!.tables).toMatchObject([
      { table: 'items', missing: 1, changed: 0, surplus: 1 },
      { table: 'pairs', missing: 0, changed: 0, surplus: 2 },
      { table: 'notes', missing: 0, changed: 1, surplus: 0 },
    ]);
    expect(found.result!.first).toContainEqual({ table: 'items', kind: 'surplus', key: { id: '-9' } });
    expect(found.result!.first).toContainEqual({ table: 'pairs', kind: 'surplus', key: { a: 'z', b: '1000' } });
    const mended = await audit.task(runner, 'resync');
    expect(differencesOf(mended.result!)).toBe(5);
    expect(differencesOf((await audit.task(runner, 'verify')).result!)).toBe(0);
    await stop();
    expectEqual(audit);
  });

  test('a row that comes where the rows were read already is not surplus', async () => {
    using audit = new AuditScene(27);
    const { runner, stop } = audit.start();
    await audit.scene.caughtUp(runner);
    audit.copy.exec("INSERT INTO items VALUES (-9, 'surplus', 1)");
    let inserted = false;
    audit.scene.source.beforeChunk = (_table, after): void => {
      if (after !== null && !inserted) audit.scene.source.insertItem(-5);
      inserted ||= after !== null;
    };
    const { result } = await audit.task(runner, 'verify', ['items']);
    expect(inserted).toBe(true);
    expect(result!.tables).toMatchObject([{ missing: 0, changed: 0, surplus: 1 }]);
    await stop();
  });

  test('one table alone, and a name that is none', async () => {
    using audit = new AuditScene(21);
    const { runner, stop } = audit.start();
    await audit.scene.caughtUp(runner);
    audit.copy.exec('DELETE FROM items; DELETE FROM pairs');
    expect((await audit.task(runner, 'resync', ['pairs'])).result!.tables.map(({ table }) => table)).toEqual(['pairs']);
    expect(audit.rows('pairs')).toEqual(audit.scene.source.expected('pairs'));
    expect(audit.rows('items')).toEqual([]);
    expect(await audit.task(runner, 'verify', ['item'])).toMatchObject({
      state: 'failed',
      error: { code: 'NOT_FOUND', hint: 'Did you mean items?' },
    });
    await stop();
  });

  test('a history is told as not compared, by verify and by resync', async () => {
    using audit = new AuditScene(28);
    const { runner, stop } = audit.start({ mapping: { tables: { items: { history: true } } } });
    await audit.scene.caughtUp(runner);
    for (const kind of ['verify', 'resync'] as const) {
      const { result } = await audit.task(runner, kind);
      expect(result!.tables.map(({ table, notCompared }) => [table, notCompared])).toEqual([
        ['items', 'history'],
        ['pairs', null],
        ['notes', null],
      ]);
    }
    await stop();
  });

  test('rows whose key has a NULL are told apart by their rowid', async () => {
    using audit = new AuditScene(29);
    audit.scene.source.db.exec("INSERT INTO pairs (rowid, a, b, v) VALUES (901, NULL, 1, 'x'), (902, NULL, 1, 'y')");
    const { runner, stop } = audit.start();
    await audit.scene.caughtUp(runner);
    expect(audit.scene.letters.count('test')).toBe(2);
    using outside = DeadLetterStore.open(audit.scene.lettersPath);
    outside.discard('test', null);
    audit.copy.exec('DELETE FROM items WHERE id = (SELECT max(id) FROM items)');
    const { result } = await audit.task(runner, 'verify');
    expect(result!.first.filter(({ table }) => table === 'pairs')).toEqual([
      { table: 'pairs', kind: 'missing', key: { a: null, b: '1' }, rowid: '901' },
      { table: 'pairs', kind: 'missing', key: { a: null, b: '1' }, rowid: '902' },
    ]);
    expect(result!.first.find(({ table }) => table === 'items')).toEqual({ table: 'items', kind: 'missing', key: { id: expect.any(String) } });
    await stop();
  });

  test('values of the first changed rows go to whoever asks for them, once, and are in no result', async () => {
    using audit = new AuditScene(31);
    audit.scene.source.db.exec("INSERT INTO items VALUES (700, 'SECRET', 5), (701, 'SECRET', 1)");
    const { runner, stop } = audit.start();
    await audit.scene.caughtUp(runner);
    audit.copy.exec("UPDATE items SET name = 'other', value = NULL WHERE id = 700; UPDATE items SET value = 1.0 WHERE id = 701");
    const { store } = audit.scene;
    const ask = async (values: boolean): Promise<SinkTask> => {
      const id = store.ask({ sink: 'test', kind: 'verify', tables: ['items'], slow: false, values }, 0);
      await audit.scene.until(runner, () => store.task(id)!.state === 'done');
      return store.task(id)!;
    };
    const task = await ask(true);
    expect(JSON.stringify(task)).not.toContain('SECRET');
    expect(task.result!.first).toMatchObject([{ key: { id: '700' } }, { key: { id: '701' } }]);
    expect(store.takeValues(task.id)).toEqual([
      { difference: 0, column: 'name', wanted: '"SECRET"', found: '"other"' },
      { difference: 0, column: 'value', wanted: '5', found: 'NULL' },
      { difference: 1, column: 'value', wanted: '1 (INTEGER)', found: '1 (REAL)' },
    ]);
    expect(store.takeValues(task.id)).toBeNull();
    expect(store.takeValues((await ask(false)).id)).toBeNull();
    await stop();
  });

  test('what cannot be compared fails the task, and the sink goes on', async () => {
    using audit = new AuditScene(22);
    const { runner, stop } = audit.start();
    await audit.scene.caughtUp(runner);
    audit.copy.exec('ALTER TABLE notes DROP COLUMN n');
    expect(await audit.task(runner, 'verify')).toMatchObject({ state: 'failed', error: { code: 'SINK_TABLE_MISFIT' } });
    expect((await audit.task(runner, 'resync')).state).toBe('done');
    audit.scene.source.commit(audit.random);
    await audit.scene.caughtUp(runner);
    expect(runner.status.error).toBeNull();
    await stop();
    expectEqual(audit);
  });

  test('a surplus row that the target does not let go fails the task, and the sink goes on', async () => {
    using audit = new AuditScene(26);
    const { runner, stop } = audit.start();
    await audit.scene.caughtUp(runner);
    audit.copy.exec("INSERT INTO items VALUES (-9, 'surplus', 1); CREATE TRIGGER keep BEFORE DELETE ON items BEGIN SELECT RAISE(ABORT, 'no'); END");
    expect(await audit.task(runner, 'resync')).toMatchObject({ state: 'failed', error: { code: 'SINK_ROW_REFUSED' } });
    audit.scene.source.insertItem();
    await audit.scene.caughtUp(runner);
    expect(runner.status).toMatchObject({ state: 'streaming', error: null });
    await stop();
  });

  test('a table that is rebuilt or renumbered meanwhile', async () => {
    using audit = new AuditScene(23);
    const { runner, stop } = audit.start();
    await audit.scene.caughtUp(runner);
    let changed = false;
    audit.scene.source.beforeChunk = (table, after): void => {
      if (table === 'pairs' && after !== null && !changed) {
        changed = true;
        audit.scene.source.renumber();
      }
      if (table === 'notes' && after === null) audit.scene.source.recreate('items');
    };
    const { result } = await audit.task(runner, 'verify');
    expect(changed).toBe(true);
    expect(differencesOf(result!)).toBe(0);
    expect(result!.tables.find(({ table }) => table === 'pairs')!.rows).toBe(audit.rows('pairs').length);
    await stop();
    expectEqual(audit);
  });

  test('dead letters are counted apart', async () => {
    using audit = new AuditScene(24);
    const { runner, stop } = audit.start();
    await audit.scene.caughtUp(runner);
    audit.copy.exec("CREATE TRIGGER refuse BEFORE INSERT ON notes BEGIN SELECT RAISE(ABORT, 'no'); END");
    while (audit.scene.letters.count('test') === 0) {
      audit.scene.source.commit(audit.random);
      await audit.scene.caughtUp(runner);
    }
    const { result } = await audit.task(runner, 'verify');
    const notes = result!.tables.find(({ table }) => table === 'notes')!;
    expect(notes.deadLetters).toBeGreaterThan(0);
    expect(differencesOf(result!)).toBe(0);
    await stop();
  });

  test('goes on by itself after a kill, and comes again when it is due', async () => {
    using audit = new AuditScene(25);
    const id = audit.scene.store.ask({ sink: 'test', kind: 'verify', tables: null, slow: false }, 0);
    audit.scene.store.saveTask({ ...audit.scene.store.task(id)!, state: 'running' });
    const { runner, stop } = audit.start({ verifyEveryMs: 1000 });
    await audit.scene.until(runner, () => audit.scene.store.task(id)!.state === 'done');
    await audit.scene.until(runner, () => audit.scene.store.lastVerification('test')!.id > id + 1);
    await stop();
  });
});

describe('a configuration that changed', () => {
  test('a table that is new to the sink is filled; one with other columns is mended', async () => {
    using audit = new AuditScene(30);
    const first = audit.start({ mapping: { filters: [{ exclude: ['notes'] }], tables: { items: { columns: { exclude: ['name'] } } } } });
    await audit.scene.caughtUp(first.runner);
    await first.stop();
    audit.scene.source.commit(audit.random);
    audit.load(0.5);
    const second = audit.start({ mapping: { filters: [{ exclude: ['pairs'] }] } });
    await audit.scene.until(second.runner, ({ state }) => state === 'streaming' && audit.scene.store.nextTask('test') === null);
    await second.stop();
    expect(audit.copy.prepare('SELECT id, name, value FROM items ORDER BY 1').raw().safeIntegers().all()).toEqual(
      audit.scene.source.expected('items'),
    );
    expect(audit.rows('notes')).toEqual(audit.scene.source.expected('notes'));
    const calls = audit.scene.source.readRowsCalls;
    const third = audit.start({ mapping: { filters: [{ exclude: ['pairs'] }] } });
    await audit.scene.caughtUp(third.runner);
    await third.stop();
    expect(audit.scene.source.readRowsCalls).toBe(calls);
  });
});

describe('a sink that cannot be read', () => {
  test('is filled anew by resync, and cannot be verified', async () => {
    using scene = new RunnerScene();
    scene.source.seed(new Random(31), 60);
    const { runner, stop } = scene.start();
    await scene.caughtUp(runner);
    scene.sink.db.exec("DELETE FROM notes; INSERT INTO pairs VALUES ('surplus', 1, 1)");
    const verify = scene.store.ask({ sink: 'test', kind: 'verify', tables: null, slow: false }, 0);
    await scene.until(runner, () => scene.store.task(verify)!.state === 'failed');
    expect(scene.store.task(verify)!.error).toMatchObject({ code: 'SINK_NOT_READABLE' });
    const resync = scene.store.ask({ sink: 'test', kind: 'resync', tables: ['notes', 'pairs'], slow: false }, 0);
    await scene.until(runner, () => scene.store.task(resync)!.state === 'done');
    await stop();
    expect(scene.tables().sink).toEqual(scene.tables().source);
  });
});

test('a key filter forgets nothing, and takes few for seen', () => {
  const filter = new KeyFilter(10_000);
  for (let index = 0; index < 10_000; index += 1) filter.add([index, `k${index}`]);
  for (let index = 0; index < 10_000; index += 1) expect(filter.has([String(index), `K${index}`])).toBe(true);
  let wrong = 0;
  for (let index = 10_000; index < 110_000; index += 1) if (filter.has([index, `k${index}`])) wrong += 1;
  expect(wrong).toBeLessThan(3);
});
