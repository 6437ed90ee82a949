import Database from 'better-sqlite3';
import { cpSync, openSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync, writeSync, readSync, closeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { KeeperClient } from '../../src/keeper/keeper-client.ts';
import type { FromKeeper } from '../../src/keeper/protocol.ts';
import type { WaggleError } from '../../src/support/errors.ts';
import { parseWalIndexHeader } from '../../src/sqlite/wal-index.ts';
import { KeeperScene, until } from '../helpers/keeper-scene.ts';

const OPTIONS = { timeout: 30_000 };

/** Starts a keeper that must fail; gives its error. */
const failureOf = async (scene: KeeperScene, hive = scene.hive): Promise<WaggleError | null> => {
  await using client = KeeperClient.start({ hive, spoolDir: scene.spoolDir, maxWalBytes: 1 << 24, taken: null, onMessage: () => {} });
  return await client.ended;
};

const makeDatabase = (path: string, mode: string): void => {
  const database = new Database(path);
  database.pragma(`journal_mode = ${mode}`);
  database.exec('CREATE TABLE t (a); INSERT INTO t VALUES (1)');
  database.close();
};

test('a file that is not in WAL mode is refused and left as it is', OPTIONS, async () => {
  await using scene = new KeeperScene();
  makeDatabase(scene.hive, 'DELETE');
  const before = readFileSync(scene.hive);
  const files = readdirSync(scene.dir);
  expect((await failureOf(scene))?.code).toBe('HIVE_NOT_WAL');
  expect(readFileSync(scene.hive).equals(before)).toBe(true);
  expect(readdirSync(scene.dir)).toEqual(files);
});

test('missing, empty, no database, a directory', OPTIONS, async () => {
  await using scene = new KeeperScene();
  expect((await failureOf(scene))?.code).toBe('HIVE_MISSING');
  expect((await failureOf(scene, scene.dir))?.code).toBe('HIVE_NOT_A_FILE');
  writeFileSync(scene.hive, '');
  expect((await failureOf(scene))?.code).toBe('HIVE_EMPTY');
  writeFileSync(scene.hive, 'no database at all, but longer than a header would be '.repeat(10));
  expect((await failureOf(scene))?.code).toBe('HIVE_NOT_A_DATABASE');
  expect(readdirSync(scene.dir).toSorted()).toEqual(['hive.db', 'spool']);
});

// A file without permission: test/cli/bad-hive.test.ts, which takes another user's place as root can.

test('an application that locks exclusively', OPTIONS, async () => {
  await using scene = new KeeperScene();
  makeDatabase(scene.hive, 'WAL');
  const database = new Database(scene.hive);
  try {
    database.pragma('locking_mode = EXCLUSIVE');
    database.exec('INSERT INTO t VALUES (2)');
    const failure = await failureOf(scene);
    expect(failure?.code).toBe('HIVE_LOCKED');
    expect(failure?.retryable).toBe(true);
  } finally {
    database.close();
  }
});

test('a file that takes the place of the hive is told, and its WAL is left alone', OPTIONS, async () => {
  await using scene = new KeeperScene();
  const writer = await scene.write({ pauseMs: 5 });
  const probe = await scene.probe();
  const other = `${scene.dir}/other.db`;
  await writer.stop();
  makeDatabase(other, 'WAL');
  for (const suffix of ['', '-wal', '-shm']) rmSync(scene.hive + suffix, { force: true });
  renameSync(other, scene.hive);
  // The application starts on the new file and leaves a WAL.
  const next = await scene.write({ pauseMs: 5 });
  expect((await probe.client.ended)?.code).toBe('HIVE_REPLACED');
  expect(probe.messages.at(-1)?.type).toBe('gap');
  expect(statSync(`${scene.hive}-wal`).size).toBeGreaterThan(0);
  await next.stop();
});

test('a header that a killed writer left torn is repaired', OPTIONS, async () => {
  await using scene = new KeeperScene();
  const writer = await scene.write({ pauseMs: 5 });
  const probe = await scene.probe();
  await until(() => scene.state.commits > 3);
  await writer.kill();
  const fd = openSync(`${scene.hive}-shm`, 'r+');
  const bytes = Buffer.alloc(136);
  // The second copy is written first: this is a writer that died before the first one.
  writeSync(fd, Buffer.from([0xff]), 0, 1, 48 + 16);
  await until(() => {
    readSync(fd, bytes, 0, 136, 0);
    return typeof parseWalIndexHeader(bytes) === 'object';
  });
  closeSync(fd);
  const again = await scene.write({ pauseMs: 5 });
  const seen = scene.state.commits;
  await until(() => scene.state.commits > seen + 3 || probe.failure !== null);
  expect(probe.failure).toBeNull();
  await again.stop();
});

test('signals to the process group do not end it; it works from a worker thread', OPTIONS, async () => {
  await using scene = new KeeperScene();
  makeDatabase(scene.hive, 'WAL');
  const client = new URL('../../src/keeper/keeper-client.ts', import.meta.url).href;
  const worker = new Worker(
    `const { parentPort, workerData } = require('node:worker_threads');
     import(workerData.client).then(({ KeeperClient }) => {
       const keeper = KeeperClient.start({ ...workerData.options, onMessage: (message) => parentPort.postMessage(message) });
       parentPort.on('message', async () => { parentPort.postMessage({ type: 'end', clean: (await keeper.stop())?.clean }); parentPort.close(); });
     });`,
    { eval: true, execArgv: [], workerData: { client, options: { hive: scene.hive, spoolDir: scene.spoolDir, maxWalBytes: 1 << 24, taken: null } } },
  );
  const messages: (FromKeeper | { type: 'end'; clean: boolean })[] = [];
  worker.on('message', (message) => messages.push(message));
  await until(() => messages.some((message) => message.type === 'ready'));
  const ready = messages.find((message) => message.type === 'ready');
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.kill(ready?.pid ?? 0, signal);
  worker.postMessage('hold');
  await until(() => messages.some((message) => message.type === 'end'));
  expect(messages.find((message) => message.type === 'end')?.clean).toBe(true);
});

test('a file copied over the hive after idle seconds meets no WAL, and is told', OPTIONS, async () => {
  await using scene = new KeeperScene();
  const writer = await scene.write({ pauseMs: 5 });
  const probe = await scene.probe();
  await writer.stop();
  await until(() => statSync(`${scene.hive}-wal`).size === 0 && probe.position === 'end');
  const copy = `${scene.dir}/copy.db`;
  cpSync(scene.hive, copy);
  const database = new Database(copy);
  expect(database.pragma('integrity_check', { simple: true })).toBe('ok');
  expect(database.prepare('SELECT text FROM counter').pluck().get()).toBe(`COUNT:${String(scene.state.counter).padStart(10, '0')}`);
  database.close();
  expect(probe.failure).toBeNull();
  writeFileSync(scene.hive, readFileSync(copy));
  expect((await probe.client.ended)?.code).toBe('HIVE_REPLACED');
});

test.each([0, 100, 5000])('… also when only %i bytes of it have been copied', OPTIONS, async (bytes) => {
  await using scene = new KeeperScene();
  const writer = await scene.write({ pauseMs: 5 });
  const probe = await scene.probe();
  await writer.stop();
  await until(() => statSync(`${scene.hive}-wal`).size === 0 && probe.position === 'end');
  writeFileSync(scene.hive, readFileSync(scene.hive).subarray(0, bytes));
  expect((await probe.client.ended)?.code).toBe('HIVE_REPLACED');
});

test('a spool that cannot be written holds the WAL, is told once, and goes on when it can', OPTIONS, async () => {
  await using scene = new KeeperScene();
  const writer = await scene.write({ rowsPerTransaction: 200, pauseMs: 3 });
  let mayRead = true;
  const probe = await scene.probe({ mayRead: () => mayRead });
  mayRead = false;
  renameSync(scene.spoolDir, `${scene.spoolDir}.away`);
  await until(() => probe.messages.some((message) => message.type === 'warning'));
  const seen = writer.transactions;
  const { generations } = probe;
  await until(() => writer.transactions > seen + 300);
  expect(probe.generations).toBeLessThanOrEqual(generations + 1);
  expect(probe.messages.filter((message) => message.type === 'warning').length).toBe(1);
  renameSync(`${scene.spoolDir}.away`, scene.spoolDir);
  await until(() => probe.generations > generations + 2 || probe.failure !== null);
  mayRead = true;
  const { transactions } = await writer.stop();
  await until(() => scene.state.commits >= transactions - 10 || probe.failure !== null);
  expect(probe.failure).toBeNull();
});
