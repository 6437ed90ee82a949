/** A sink whose checkpoint the log does not know is filled again, beside the rows that its target has: readers never meet an empty table. */
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { expect, test } from 'vitest';
import { createSink } from '../../connectors/sqlite/sink.ts';
import { Random } from '../helpers/random.ts';
import { RunnerScene } from '../helpers/runner-scene.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';

const TABLES = ['items', 'pairs', 'notes'];

class RefillScene implements Disposable {
  readonly #directory = temporaryDirectory();
  readonly scene = new RunnerScene();
  readonly #file = join(this.#directory.path, 'copy.sqlite');
  readonly copy = new Database(this.#file);

  start(options: Parameters<RunnerScene['start']>[0] = {}): ReturnType<RunnerScene['start']> {
    return this.scene.start({ sink: createSink({ file: this.#file }), deadLetters: { store: this.scene.letters, limit: 100 }, ...options });
  }

  /** Filled and streamed to the end, then stopped. */
  async run(options: Parameters<RunnerScene['start']>[0] = {}): Promise<void> {
    const { runner, stop } = this.start(options);
    await this.scene.caughtUp(runner);
    await stop();
  }

  /** As after the restore of another state directory. */
  forgetCheckpoint(): void {
    this.copy.exec("UPDATE waggle_checkpoint SET log_id = 'another'");
  }

  count(table: string): number {
    return this.copy.prepare<[], number>(`SELECT count(*) FROM ${table}`).pluck().get()!;
  }

  readonly rows = (name: string): unknown[] => this.copy.prepare(`SELECT * FROM ${name} ORDER BY 1, 2`).raw().safeIntegers().all();

  [Symbol.dispose](): void {
    this.copy.close();
    this.scene[Symbol.dispose]();
    this.#directory[Symbol.dispose]();
  }
}

const expectEqual = ({ scene, rows }: RefillScene): void => {
  for (const name of TABLES) expect(rows(name)).toEqual(scene.source.expected(name));
};

test.each([0, 0.5])('rows stay until they are written again, and surplus rows go at the end; load %d', async (load) => {
  using refill = new RefillScene();
  const { scene, copy } = refill;
  const random = new Random(41);
  scene.source.seed(random, 90);
  await refill.run();
  refill.forgetCheckpoint();
  copy.exec(`DELETE FROM items WHERE id = (SELECT max(id) FROM items); INSERT INTO items VALUES (-9, 'surplus', 1);
    UPDATE notes SET body = 'other' WHERE waggle_rowid = (SELECT min(waggle_rowid) FROM notes); INSERT INTO pairs VALUES ('zz', 1000, 'surplus')`);
  const least = Object.fromEntries(TABLES.map((table) => [table, refill.count(table)]));
  const before = { ...least };
  scene.source.beforeChunk = (): void => {
    for (const table of TABLES) least[table] = Math.min(least[table]!, refill.count(table));
    if (random.chance(load)) scene.source.insertItem();
  };
  await refill.run();
  // One row of a table is surplus at most.
  for (const table of TABLES) expect(least[table]).toBeGreaterThanOrEqual(before[table]! - 1);
  expectEqual(refill);
});

test.each([1, 2, 3, 4, 5])('goes on after stops at any place, seed %i', async (seed) => {
  using refill = new RefillScene();
  const { scene, copy } = refill;
  const random = new Random(seed * 7);
  scene.source.seed(random, 60);
  await refill.run();
  refill.forgetCheckpoint();
  copy.exec("INSERT INTO items VALUES (-9, 'surplus', 1), (-8, 'surplus', 1); INSERT INTO notes VALUES (-7, 'surplus', 1)");
  for (let round = 0; round < 8; round += 1) {
    let left = random.int(9);
    const { runner, stop } = refill.start();
    let stopped: Promise<void> | null = null;
    scene.source.beforeChunk = (): void => {
      if (random.chance(0.2)) scene.source.commit(random);
      left -= 1;
      if (left < 0) stopped ??= stop();
    };
    await scene.until(runner, ({ state }) => stopped !== null || state === 'streaming');
    await stop();
  }
  scene.source.beforeChunk = null;
  await refill.run();
  expectEqual(refill);
});

test('a unique value that a row holds which the hive does not have any more: the table is emptied, as the last resort, and no row is refused', async () => {
  using refill = new RefillScene();
  const { scene, copy } = refill;
  copy.exec('CREATE TABLE items (id INTEGER PRIMARY KEY, name UNIQUE, value)');
  scene.source.db.exec("INSERT INTO items VALUES (1, 'a', 1), (2, 'b', 2); INSERT INTO pairs VALUES ('k', 1, 'v')");
  await refill.run();
  refill.forgetCheckpoint();
  copy.exec("UPDATE items SET name = 'x' WHERE id = 1; INSERT INTO items VALUES (9, 'a', 0); INSERT INTO pairs VALUES ('surplus', 1, 'v')");
  await refill.run();
  expectEqual(refill);
  expect(scene.letters.count('test')).toBe(0);
});

test('a row that came meanwhile and was refused for a surplus row is tried again when that has gone', async () => {
  using refill = new RefillScene();
  const { scene, copy } = refill;
  copy.exec('CREATE TABLE items (id INTEGER PRIMARY KEY, name UNIQUE, value)');
  for (let id = 1; id <= 20; id += 1) scene.source.db.exec(`INSERT INTO items VALUES (${id}, 'name ${id}', 1)`);
  await refill.run();
  refill.forgetCheckpoint();
  copy.exec("INSERT INTO items VALUES (-9, 'new', 0)");
  let inserted = false;
  let refused = 0;
  scene.source.beforeChunk = (table, after): void => {
    if (table === 'items' && after !== null && !inserted) {
      scene.source.insertItem();
      inserted = true;
    }
    refused = Math.max(refused, scene.letters.count('test'));
  };
  const { runner, stop } = refill.start();
  await scene.caughtUp(runner);
  await scene.until(runner, () => scene.letters.count('test') === 0);
  await stop();
  expect({ inserted, refused }).toEqual({ inserted: true, refused: 1 });
  expectEqual(refill);
});

test('a row that is refused in the first chunk is a dead letter, and the sink goes on', async () => {
  using refill = new RefillScene();
  const { scene, copy } = refill;
  copy.exec("CREATE TABLE items (id INTEGER PRIMARY KEY, name, value CHECK (value <> 'poison'))");
  scene.source.db.exec("INSERT INTO items VALUES (1, 'a', 1), (2, 'b', 'poison'), (3, 'c', 3)");
  await refill.run();
  expect(scene.letters.count('test')).toBe(1);
  refill.forgetCheckpoint();
  copy.exec("INSERT INTO items VALUES (9, 'surplus', 0)");
  await refill.run();
  expect(scene.letters.list('test').map(({ table, op }) => [table, op])).toEqual([['items', 'r']]);
  expect(copy.prepare('SELECT id FROM items ORDER BY id').pluck().all()).toEqual([1, 3]);
});

test('where deletes are soft the rows that are gone are marked, not removed', async () => {
  using refill = new RefillScene();
  const { scene, copy } = refill;
  const options = { mapping: { tables: { items: { deleted: 'soft' } } } } as const;
  scene.source.db.exec("INSERT INTO items VALUES (1, 'a', 1), (2, 'b', 2)");
  await refill.run(options);
  refill.forgetCheckpoint();
  scene.source.db.exec('DELETE FROM items WHERE id = 2');
  await refill.run(options);
  expect(copy.prepare('SELECT id, deleted_at IS NULL FROM items ORDER BY id').raw().all()).toEqual([
    [1, 1],
    [2, 0],
  ]);
});
