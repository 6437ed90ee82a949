/**
 * What can happen to a hive while waggle is down, or under its feet: real SQLite processes, a real keeper. Whatever it was, the log's
 * changes on nothing are what SQLite reads, and what nobody could see one by one stands in a transaction marked `recovered`.
 */
import { copyFileSync, existsSync, readFileSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import Database from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import type { CaptureRun } from '../helpers/capture-run.ts';
import { CaptureRunScene } from '../helpers/capture-run-scene.ts';
import { until } from '../helpers/until.ts';
import { WalWriter } from '../helpers/wal-writer.ts';

const OPTIONS = { timeout: 60_000 };
const FIRST =
  "INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, zeroblob(9000)); CREATE TABLE k (id TEXT PRIMARY KEY, v); INSERT INTO k VALUES ('a', 1)";
const WHILE_DOWN = "UPDATE t SET v = 'other' WHERE id = 1; DELETE FROM t WHERE id = 3; INSERT INTO k VALUES ('b', 2)";
const AFTER = "INSERT INTO t VALUES (100, 'after')";

const SUFFIXES = ['', '-wal', '-shm'];
const removeAll = (path: string): void => SUFFIXES.forEach((suffix) => rmSync(path + suffix, { force: true }));

/** Captured up to FIRST. */
const captured = async (): Promise<{ scene: CaptureRunScene; run: CaptureRun }> => {
  const scene = await CaptureRunScene.open();
  const run = scene.run();
  expect(await run.ready()).not.toBeNull();
  await scene.writer.exec(FIRST);
  await until('the first rows are in the log', () => run.messages.some((message) => message.type === 'head'));
  return { scene, run };
};

/** Captured, then stopped in order. */
const stopped = async (): Promise<CaptureRunScene> => {
  const { scene, run } = await captured();
  expect(await run.stop()).toBeNull();
  return scene;
};

/** Starts again, takes AFTER by `writer`; gives how it began and how many transactions were recovered. */
const goOn = async (scene: CaptureRunScene, writer: WalWriter): Promise<{ beginning: string | null; recovered: number }> => {
  const run = scene.run();
  expect(await run.ready()).not.toBeNull();
  await writer.exec(AFTER);
  expect(await run.stop()).toBeNull();
  const ready = run.messages.find((message) => message.type === 'ready');
  return { beginning: ready?.beginning ?? null, recovered: scene.check().recovered };
};

const keeperPid = (run: CaptureRun): number => run.messages.findLast((message) => message.type === 'ready')!.keeperPid;
const warned = (run: CaptureRun, code: string): boolean => run.messages.some((message) => message.type === 'warning' && message.error.code === code);

describe('while waggle was down', () => {
  it('nothing happened: no comparison', OPTIONS, async () => {
    await using scene = await stopped();
    expect(await goOn(scene, scene.writer)).toEqual({ beginning: 'resumed', recovered: 0 });
  });

  it('the application went on in the same WAL: one by one', OPTIONS, async () => {
    await using scene = await stopped();
    await scene.writer.exec(WHILE_DOWN);
    expect(await goOn(scene, scene.writer)).toEqual({ beginning: 'resumed', recovered: 0 });
  });

  it('the WAL was reset', OPTIONS, async () => {
    await using scene = await stopped();
    await scene.writer.exec(WHILE_DOWN);
    await scene.writer.exec(
      `PRAGMA wal_checkpoint(TRUNCATE); INSERT INTO t VALUES (4, 'four'); PRAGMA wal_checkpoint(TRUNCATE); INSERT INTO t VALUES (5, 5)`,
    );
    expect(await goOn(scene, scene.writer)).toEqual({ beginning: 'recovered', recovered: 1 });
  });

  it('the application closed: the WAL is gone', OPTIONS, async () => {
    await using scene = await stopped();
    await scene.writer.exec(`PRAGMA wal_checkpoint(RESTART); ${WHILE_DOWN}; PRAGMA wal_checkpoint(RESTART); UPDATE t SET v = 0`);
    await scene.writer[Symbol.asyncDispose]();
    expect(existsSync(`${scene.hive}-wal`)).toBe(false);
    await using writer = new WalWriter(scene.hive);
    expect(await goOn(scene, writer)).toEqual({ beginning: 'recovered', recovered: 1 });
  });

  it('WAL → DELETE → WAL', OPTIONS, async () => {
    await using scene = await stopped();
    await scene.writer.exec(`PRAGMA journal_mode = DELETE; ${WHILE_DOWN}`);
    // In between it is refused, with what to do.
    expect(await scene.run().ended).toMatchObject({ code: 'HIVE_NOT_WAL', hint: expect.stringContaining('--enable-wal') });
    await scene.writer.exec(`PRAGMA journal_mode = WAL; INSERT INTO t VALUES (4, 'four')`);
    expect(await goOn(scene, scene.writer)).toEqual({ beginning: 'recovered', recovered: 1 });
  });

  it('another file was renamed into its place', OPTIONS, async () => {
    await using scene = await stopped();
    await scene.writer[Symbol.asyncDispose]();
    const other = `${scene.hive}.other`;
    const db = new Database(other);
    db.pragma('journal_mode = WAL');
    db.exec(
      `CREATE TABLE t (id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 'one'), (7, 'seven'); CREATE TABLE n (a); INSERT INTO n VALUES (1)`,
    );
    db.close();
    renameSync(other, scene.hive);
    await using writer = new WalWriter(scene.hive);
    expect(await goOn(scene, writer)).toEqual({ beginning: 'recovered', recovered: 1 });
  });

  it('a backup was copied over the stopped application’s file', OPTIONS, async () => {
    await using scene = await stopped();
    await scene.writer.exec('PRAGMA wal_checkpoint(TRUNCATE)');
    const backup = readFileSync(scene.hive);
    await scene.writer.exec(WHILE_DOWN);
    await scene.writer[Symbol.asyncDispose]();
    writeFileSync(scene.hive, backup);
    await using writer = new WalWriter(scene.hive);
    const { recovered } = await goOn(scene, writer);
    // What came while it was down was never seen, and the backup is what was logged last.
    expect(recovered).toBe(0);
  });

  it('a shorter file took its place', OPTIONS, async () => {
    await using scene = await CaptureRunScene.open();
    await scene.writer.exec('PRAGMA wal_checkpoint(TRUNCATE)');
    const empty = readFileSync(scene.hive);
    const run = scene.run();
    await run.ready();
    await scene.writer.exec(FIRST);
    expect(await run.stop()).toBeNull();
    await scene.writer[Symbol.asyncDispose]();
    expect(empty.length).toBeLessThan(statSync(scene.hive).size);
    writeFileSync(scene.hive, empty);
    await using writer = new WalWriter(scene.hive);
    expect(await goOn(scene, writer)).toEqual({ beginning: 'recovered', recovered: 1 });
  });

  it('the file was cut off: HIVE_CORRUPT, and everything is there when it was restored', OPTIONS, async () => {
    await using scene = await stopped();
    await scene.writer[Symbol.asyncDispose]();
    const whole = readFileSync(scene.hive);
    // In an overflow chain of t, between its pages, and inside its root.
    for (const sizeBytes of [3 * 4096 + 100, 3 * 4096, 4096 + 1]) {
      writeFileSync(scene.hive, whole);
      truncateSync(scene.hive, sizeBytes);
      expect(await scene.run().ended, `${sizeBytes} bytes`).toMatchObject({ code: 'HIVE_CORRUPT' });
    }
    writeFileSync(scene.hive, whole);
    await using writer = new WalWriter(scene.hive);
    expect((await goOn(scene, writer)).recovered).toBe(0);
  });

  it('deleted and made anew with an inode number that comes back (Hive’s restore)', OPTIONS, async ({ skip }) => {
    await using scene = await stopped();
    await scene.writer.exec(`PRAGMA wal_checkpoint(TRUNCATE)`);
    const backup = `${scene.hive}.backup`;
    copyFileSync(scene.hive, backup);
    await scene.writer.exec(`${WHILE_DOWN}; PRAGMA wal_checkpoint(TRUNCATE); ${WHILE_DOWN.replace("'b', 2", "'c', 3")}`);
    await scene.writer[Symbol.asyncDispose]();
    const { ino } = statSync(scene.hive);
    removeAll(scene.hive);
    const restored = `${scene.hive}.restoring`;
    const spare: string[] = [];
    for (let tries = 0; tries < 64; tries += 1) {
      copyFileSync(backup, restored);
      if (statSync(restored).ino === ino) break;
      renameSync(restored, `${restored}-${tries}`);
      spare.push(`${restored}-${tries}`);
    }
    if (!existsSync(restored)) skip('this file system does not give an inode number again');
    renameSync(restored, scene.hive);
    await using writer = new WalWriter(scene.hive);
    await writer.exec("UPDATE t SET v = 'restored' WHERE id = 2; PRAGMA wal_checkpoint(TRUNCATE); DELETE FROM k");
    expect((await goOn(scene, writer)).beginning).toBe('recovered');
  });

  it('salts come back with another history: the frame of the position is another one', OPTIONS, async () => {
    const { scene, run } = await captured();
    await using _scene = scene;
    const earlier = ['', '-wal'].map((suffix) => readFileSync(scene.hive + suffix));
    const frames = scene.committedFrames();
    expect(frames).toBeGreaterThan(0);
    await scene.writer.exec(WHILE_DOWN);
    const position = scene.committedFrames();
    expect(position).toBeGreaterThan(frames);
    await until('it is taken', () => run.messages.filter((message) => message.type === 'head').length > 1);
    // Keeper, capture and application die; the file and its WAL are put back as they were before, with the same salts.
    process.kill(keeperPid(run), 'SIGKILL');
    await run.stop();
    await scene.writer.kill();
    removeAll(scene.hive);
    ['', '-wal'].forEach((suffix, index) => writeFileSync(scene.hive + suffix, earlier[index]!));
    await using writer = new WalWriter(scene.hive);
    await writer.exec("UPDATE t SET v = 'another' WHERE id = 2");
    for (let id = 10; scene.committedFrames() < position + 3; id += 1) await writer.exec(`INSERT INTO t VALUES (${id}, 'another history')`);
    expect(await goOn(scene, writer)).toEqual({ beginning: 'recovered', recovered: 1 });
  });

  it('the mirror was damaged: a new first state, or STATE_CORRUPT with on_gap: fail', OPTIONS, async () => {
    await using scene = await stopped();
    // A start takes what stands in the mirror's redo into its page file.
    await goOn(scene, scene.writer);
    await scene.run('fail').readyAndStopped();
    const pages = `${scene.stateDir}/mirror/pages`;
    const bytes = readFileSync(pages);
    // Page 2, the root of t, is no b-tree page any more.
    bytes[4096] = 0x33;
    writeFileSync(pages, bytes);
    expect(await scene.run('fail').ended).toMatchObject({ code: 'STATE_CORRUPT' });
    const run = scene.run('snapshot');
    expect(await run.ready()).not.toBeNull();
    expect(warned(run, 'STATE_CORRUPT')).toBe(true);
    expect(run.messages.find((message) => message.type === 'ready')?.beginning).toBe('first');
    expect(await run.stop()).toBeNull();
  });
});

describe('under its feet', () => {
  it('the pin is lost and the WAL reset: PIN_LOST, and one recovered transaction', OPTIONS, async () => {
    const { scene, run } = await captured();
    await using _scene = scene;
    // A keeper that cannot move its pin; the application's checkpoint waits for it, and gets through when its locks go.
    process.kill(keeperPid(run), 'SIGSTOP');
    const done = scene.writer.exec(
      `PRAGMA busy_timeout = 20000; ${WHILE_DOWN}; PRAGMA wal_checkpoint(TRUNCATE); INSERT INTO t VALUES (4, 'four'); UPDATE t SET v = 'again' WHERE id = 1`,
    );
    await until('the commits stand in the WAL', () => scene.committedFrames() > 3);
    process.kill(keeperPid(run), 'SIGKILL');
    await done;
    await until('capture begins again', () => run.messages.filter((message) => message.type === 'ready').length > 1);
    await scene.writer.exec(AFTER);
    expect(await run.stop()).toBeNull();
    // The new keeper finds a reset that no armed pin allowed.
    expect(run.messages.filter((message) => message.type === 'ready').map(({ beginning }) => beginning)).toEqual(['first', 'recovered']);
    expect(scene.check().recovered).toBe(1);
  });

  it('the application deletes the three files and renames a backup into place while it runs (Hive’s restore)', OPTIONS, async () => {
    const { scene, run } = await captured();
    await using _scene = scene;
    const backup = `${scene.hive}.backup`;
    await scene.writer.exec(`VACUUM INTO '${backup}'`);
    await scene.writer.exec(WHILE_DOWN);
    await scene.writer[Symbol.asyncDispose]();
    const db = new Database(backup);
    db.pragma('journal_mode = WAL');
    db.close();
    removeAll(scene.hive);
    renameSync(backup, scene.hive);
    await using writer = new WalWriter(scene.hive);
    await writer.exec("UPDATE t SET v = 'restored' WHERE id = 2");
    await until('the new file is captured', () => run.messages.filter((message) => message.type === 'ready').length > 1);
    await writer.exec(AFTER);
    expect(await run.stop()).toBeNull();
    expect(run.messages.flatMap((message) => (message.type === 'warning' ? [`${message.error.code}: ${message.error.message}`] : []))).toContainEqual(
      expect.stringMatching(/^HIVE_REPLACED/),
    );
    expect(scene.check().recovered).toBeGreaterThan(0);
  });

  it('the backup API writes another database into it: one transaction, as any other', OPTIONS, async () => {
    const { scene, run } = await captured();
    await using _scene = scene;
    const backup = `${scene.hive}.backup`;
    await scene.writer.exec(`VACUUM INTO '${backup}'`);
    await scene.writer.exec(WHILE_DOWN);
    await scene.restore(backup);
    await scene.writer.exec(AFTER);
    expect(await run.stop()).toBeNull();
    expect(scene.check().recovered).toBe(0);
  });

  it('journal_mode=DELETE is refused to the application, and nothing is lost', OPTIONS, async () => {
    const { scene, run } = await captured();
    await using _scene = scene;
    await expect(scene.writer.exec('PRAGMA busy_timeout = 50; PRAGMA journal_mode = DELETE')).rejects.toThrow(/locked/);
    await scene.writer.exec(AFTER);
    expect(await run.stop()).toBeNull();
    expect(scene.check().recovered).toBe(0);
  });

  it('locking_mode=EXCLUSIVE at the start: told with a hint, tried again, and captured when it ends', OPTIONS, async () => {
    await using scene = await CaptureRunScene.open();
    await scene.writer.exec("PRAGMA locking_mode = EXCLUSIVE; INSERT INTO t VALUES (1, 'exclusive')");
    const run = scene.run();
    await until('it is told', () => warned(run, 'HIVE_LOCKED'));
    await scene.writer.exec('PRAGMA locking_mode = NORMAL; SELECT count(*) FROM t');
    expect(await run.ready()).not.toBeNull();
    await scene.writer.exec(AFTER);
    expect(await run.stop()).toBeNull();
  });

  it('the race at start: commits and resets while capture begins, ten times', { timeout: 120_000 }, async () => {
    await using scene = await CaptureRunScene.open();
    await scene.writer.exec('PRAGMA wal_autocheckpoint = 20; CREATE TABLE n (i INTEGER PRIMARY KEY, v)');
    // The log begins on empty tables, so that it must tell of every row.
    await scene.run().readyAndStopped();
    let row = 0;
    for (let round = 0; round < 10; round += 1) {
      const run = scene.run();
      const begun = new AbortController();
      const ready = run.ready().then(() => begun.abort());
      while (!begun.signal.aborted)
        await scene.writer.exec(`INSERT INTO n VALUES (${(row += 1)}, zeroblob(2000)); UPDATE n SET v = ${row} WHERE i = ${row >> 1}`);
      await ready;
      await scene.writer.exec(`DELETE FROM n WHERE i = ${row}`);
      expect(await run.stop()).toBeNull();
    }
    scene.check();
  });
});
