/** A keeper that goes on without its daemon: who it speaks with, when it ends, and that nothing is missed meanwhile. */
import Database from 'better-sqlite3';
import { existsSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { KeeperClient } from '../../src/keeper/keeper-client.ts';
import { KeeperConnection, readKeeperStatus, stopKeeper } from '../../src/keeper/keeper-connection.ts';
import { startKeeper } from '../../src/keeper/keeper-process.ts';
import { EXIT_LOCKED, LOCK_NAME, type FromKeeper, type KeeperOptions } from '../../src/keeper/protocol.ts';
import { FileLock } from '../../src/support/file-lock.ts';
import { KeeperScene, until } from '../helpers/keeper-scene.ts';
import { megabytes, peakMemoryBytes } from '../helpers/process-memory.ts';
import { differingPages, type TailProbe } from '../helpers/tail-probe.ts';

const OPTIONS = { timeout: 60_000 };
const OTHER_VERSION = fileURLToPath(new URL('../helpers/other-version-keeper.ts', import.meta.url));

const isAlive = (pid: number | undefined): boolean => existsSync(`/proc/${pid}/exe`);
const isHeld = (scene: KeeperScene): boolean => FileLock.isHeld(join(scene.spoolDir, LOCK_NAME));
const logOf = (scene: KeeperScene): string => readFileSync(join(scene.spoolDir, 'keeper.log'), 'utf8');

/** The probe goes as a killed daemon goes. */
const leave = async (probe: TailProbe): Promise<void> => {
  await probe.client.detach();
  probe.abandon();
};

const follow = (scene: KeeperScene, probe: TailProbe, commits: number): Promise<void> => {
  const seen = scene.state.commits;
  return until(() => scene.state.commits > seen + commits || probe.failure !== null);
};

const expectComplete = async (scene: KeeperScene, probe: TailProbe): Promise<void> => {
  await until(() => probe.failure !== null || (statSync(`${scene.hive}-wal`).size === 0 && probe.position === 'end'));
  expect(probe.failure).toBeNull();
  expect(await probe.stop()).toBe(true);
  expect(differingPages(scene.state, scene.hive)).toEqual([]);
};

const keeperOptions = (scene: KeeperScene): KeeperOptions => ({
  durable: false,
  hive: scene.hive,
  spoolDir: scene.spoolDir,
  maxWalBytes: 4 << 20,
  outlive: true,
  spoolBytes: 1e9,
  patienceMs: 60_000,
  taken: null,
});

test('goes on alone over many generations; the next daemon finds every commit', OPTIONS, async () => {
  await using scene = new KeeperScene();
  let writer = await scene.write({ rowsPerTransaction: 200, pauseMs: 3 });
  const first = await scene.probe({ outlive: true });
  await follow(scene, first, 50);
  const { pid } = first.client;
  await leave(first);
  for (let round = 0; round < 3; round += 1) {
    const seen = writer.transactions;
    await until(() => writer.transactions > seen + 100);
    // The application's own restart: its last connection is closed.
    await writer.stop();
    writer = await scene.write({ rowsPerTransaction: 200, pauseMs: round });
  }
  const alone = await readKeeperStatus(scene.spoolDir);
  expect(alone).toMatchObject({ pid, attached: false });
  expect(alone!.undrainedFrames).toBeGreaterThan(1000);
  expect(alone!.spool.bytes).toBeGreaterThan(1_000_000);
  const second = await scene.probe({ outlive: true });
  expect(second.client.pid).toBe(pid);
  expect(second.isFresh).toBe(false);
  await follow(scene, second, 50);
  await writer.stop();
  await until(async () => second.failure !== null || (await readKeeperStatus(scene.spoolDir))!.spool.bytes === 0);
  await expectComplete(scene, second);
  expect(isAlive(pid)).toBe(false);
});

test('daemons come and go at any moment beside a writer without a pause', OPTIONS, async () => {
  await using scene = new KeeperScene();
  const writer = await scene.write({ rowsPerTransaction: 20, pauseMs: 0 });
  let probe = await scene.probe({ outlive: true });
  const { pid } = probe.client;
  for (let round = 0; round < 12; round += 1) {
    await follow(scene, probe, 20 + round * 10);
    await leave(probe);
    probe = await scene.probe({ outlive: true });
    expect(probe.failure).toBeNull();
    expect(probe.isFresh).toBe(false);
  }
  expect(probe.client.pid).toBe(pid);
  await writer.stop();
  // From the sources only the first keeper of a fresh clone needs more: it compiles for those that come after it.
  expect(megabytes(peakMemoryBytes([pid!]))).toBeLessThan(80);
  await expectComplete(scene, probe);
});

test('the limit of the spool: the pin is dropped, which the next daemon is told, with a gap', OPTIONS, async () => {
  await using scene = new KeeperScene();
  const writer = await scene.write({ rowsPerTransaction: 200, pauseMs: 3 });
  const probe = await scene.probe({ outlive: true, spoolBytes: 3_000_000 });
  await follow(scene, probe, 20);
  await leave(probe);
  await until(() => !isHeld(scene));
  expect(logOf(scene)).toContain("the keeper lets go of the hive: the spool's limit of 3.0 MB is reached (keeper.spool)");
  // The WAL is the application's again: it starts over.
  await writer.checkpoint('TRUNCATE');
  const seen = writer.transactions;
  await until(() => writer.transactions > seen + 20);
  const next = await scene.probe({ outlive: true, spoolBytes: 3_000_000, mayHaveGaps: true });
  await until(() => next.messages.some((message) => message.type === 'warning'));
  expect(next.messages.find((message) => message.type === 'warning')?.error).toMatchObject({
    code: 'PIN_LOST',
    message: expect.stringContaining('keeper.spool') as string,
  });
  expect(next.gaps).toBe(1);
  await writer.stop();
  await expectComplete(scene, next);
});

test('the limit of the spool with a daemon that takes nothing: it is told at once', OPTIONS, async () => {
  await using scene = new KeeperScene();
  const writer = await scene.write({ rowsPerTransaction: 200, pauseMs: 3 });
  let mayRead = true;
  const probe = await scene.probe({ outlive: true, spoolBytes: 3_000_000, mayRead: () => mayRead });
  mayRead = false;
  await until(() => probe.failure !== null);
  expect(probe.failure).toContain('PIN_LOST: the keeper lets go of the hive');
  await writer.stop();
});

test('a transaction that is larger than the spool may be waits in the WAL for a daemon that is attached', OPTIONS, async () => {
  await using scene = new KeeperScene();
  const writer = await scene.write({ rowsPerTransaction: 1, pauseMs: 3 });
  let mayRead = true;
  const probe = await scene.probe({ outlive: true, spoolBytes: 3_000_000, mayRead: () => mayRead });
  await follow(scene, probe, 20);
  mayRead = false;
  await writer.stop();
  const large = await scene.write({ rowsPerTransaction: 40_000, pauseMs: 600_000 });
  await until(() => large.transactions === 1);
  // Each answer comes from a turn in which it looked whether to spool.
  for (let turn = 0; turn < 200; turn += 1) await readKeeperStatus(scene.spoolDir);
  const { undrainedFrames, spool } = (await readKeeperStatus(scene.spoolDir))!;
  expect(undrainedFrames * 4120).toBeGreaterThan(3_000_000);
  expect(undrainedFrames * 4120).toBeLessThan(6_000_000);
  expect(spool.bytes).toBe(0);
  mayRead = true;
  await large.stop();
  await expectComplete(scene, probe);
});

test('patience: the pin is dropped; if nothing happened since, nothing is missing', OPTIONS, async () => {
  await using scene = new KeeperScene();
  const writer = await scene.write({ rowsPerTransaction: 20, pauseMs: 3 });
  const first = await scene.probe({ outlive: true, patienceMs: 300 });
  await follow(scene, first, 20);
  await leave(first);
  await writer.stop();
  await until(() => !isHeld(scene));
  expect(logOf(scene)).toContain('(keeper.patience)');
  const second = await scene.probe({ outlive: true, patienceMs: 300 });
  expect(second.failure).toBeNull();
  expect(second.isFresh).toBe(false);
  await until(() => second.messages.some((message) => message.type === 'warning'));
  expect(second.messages.find((message) => message.type === 'warning')?.error.message).toContain('keeper.patience');
  // It is told once.
  await second.stop();
  const third = await scene.probe({ outlive: true });
  await third.stop();
  expect(third.messages.some((message) => message.type === 'warning')).toBe(false);
});

test('a hive that is deleted ends it, and so does a state directory that is deleted', OPTIONS, async () => {
  for (const gone of ['hive', 'spool'] as const) {
    await using scene = new KeeperScene();
    const writer = await scene.write({ pauseMs: 5 });
    const probe = await scene.probe({ outlive: true });
    await leave(probe);
    await writer.stop();
    if (gone === 'spool') rmSync(scene.spoolDir, { recursive: true });
    else for (const suffix of ['', '-wal', '-shm']) rmSync(scene.hive + suffix, { force: true });
    await until(() => !isAlive(probe.client.pid));
  }
});

test('one daemon at a time, one keeper at a time', OPTIONS, async () => {
  await using scene = new KeeperScene();
  await (await scene.write({ pauseMs: 5 })).stop();
  const probe = await scene.probe({ outlive: true });
  const messages: FromKeeper[] = [];
  const second = KeeperClient.start({ ...keeperOptions(scene), onMessage: (message) => messages.push(message) });
  expect((await second.ended)?.code).toBe('STATE_IN_USE');
  expect(messages).toEqual([]);
  const { child } = startKeeper(keeperOptions(scene));
  expect(await new Promise((resolve) => void child.once('exit', resolve))).toBe(EXIT_LOCKED);
  // A daemon that is just dying is waited for.
  const waiting = KeeperClient.start({ ...keeperOptions(scene), onMessage: (message) => messages.push(message) });
  await leave(probe);
  await until(() => messages.some((message) => message.type === 'ready'));
  expect(waiting.pid).toBe(probe.client.pid);
  await waiting.stop();
});

test('a daemon that dies before it has let the pin move holds nothing up', OPTIONS, async () => {
  await using scene = new KeeperScene();
  const writer = await scene.write({ rowsPerTransaction: 200, pauseMs: 3 });
  const client: KeeperClient = KeeperClient.start({
    ...keeperOptions(scene),
    onMessage: (message) => {
      if (message.type === 'ready') void client.detach();
    },
  });
  expect(await client.ended).toBeNull();
  await until(async () => (await readKeeperStatus(scene.spoolDir))!.generation > 2);
  await stopKeeper(scene.spoolDir);
  // Or before it has said a word.
  startKeeper(keeperOptions(scene)).pipe.destroy();
  await until(() => isHeld(scene));
  await until(async () => ((await readKeeperStatus(scene.spoolDir))?.generation ?? 0) > 2);
  await writer.stop();
});

test('a keeper that crashes leaves the WAL as it is, and says why', OPTIONS, async () => {
  await using scene = new KeeperScene();
  const writer = await scene.write({ rowsPerTransaction: 5, pauseMs: 20 });
  const first = await scene.probe({ outlive: true });
  await follow(scene, first, 5);
  await writer.kill();
  // A fault of our own; its connection is the last one, whose close would delete the WAL.
  await leave(first);
  (await KeeperConnection.toRunning(scene.spoolDir))!.send({ type: 'attach' } as never);
  await until(() => !isHeld(scene));
  expect(logOf(scene)).toMatch(/crashed: TypeError: .*\n +at /);
  expect(statSync(`${scene.hive}-wal`).size).toBeGreaterThan(0);
  const second = await scene.probe({ outlive: true });
  expect(second.failure).toBeNull();
  expect(second.isFresh).toBe(false);
  await (await scene.write()).stop();
  await expectComplete(scene, second);
});

test('many daemons that start at the same instant get one keeper', OPTIONS, async () => {
  await using scene = new KeeperScene();
  await (await scene.write({ pauseMs: 5 })).stop();
  const pids = new Set<number>();
  const clients = Array.from({ length: 5 }, () => {
    const client: KeeperClient = KeeperClient.start({
      ...keeperOptions(scene),
      onMessage: (message) => {
        if (message.type !== 'ready') return;
        pids.add(message.pid);
        void client.detach();
      },
    });
    return client;
  });
  expect(await Promise.all(clients.map((client) => client.ended.then((error) => error?.message ?? null)))).toEqual(clients.map(() => null));
  expect(pids.size).toBe(1);
});

test('a keeper of another version is replaced, the new pin before the old one is dropped', OPTIONS, async () => {
  await using scene = new KeeperScene();
  for (const [shape, pauseMs] of [
    ['insert', 0],
    ['update', 2],
    ['insert', 30],
  ] as const) {
    const writer = await scene.write({ shape, rowsPerTransaction: 20, pauseMs });
    const first = await scene.probe({ outlive: true, mayHaveGaps: true });
    await follow(scene, first, 30);
    // Another version takes over from this one in the same way.
    const before = first.client.pid;
    await leave(first);
    const running = (await KeeperConnection.toRunning(scene.spoolDir))!;
    expect(await running.ask({ type: 'retire' }, 'retired')).not.toBeNull();
    const other = startKeeper({ ...keeperOptions(scene), taken: scene.state.position }, OTHER_VERSION);
    await until(() => logOf(scene).includes(`${other.child.pid} holds`));
    running.end();
    other.pipe.destroy();
    await until(() => !isAlive(before));
    const second = await scene.probe({ outlive: true });
    expect(second.failure).toBeNull();
    expect(second.isFresh).toBe(false);
    expect(second.client.pid).not.toBe(other.child.pid);
    await until(() => !isAlive(other.child.pid));
    const log = logOf(scene);
    const places = [
      `${other.child.pid} makes room for another keeper`,
      `${second.client.pid} holds ${scene.hive}`,
      `${other.child.pid} another keeper holds the hive: ends`,
    ].map((line) => log.indexOf(line));
    expect(places.every((place) => place > 0)).toBe(true);
    expect(places).toEqual(places.toSorted((a, b) => a - b));
    await follow(scene, second, 30);
    await writer.stop();
    await expectComplete(scene, second);
  }
});

test('a daemon that dies while it replaces a keeper: the old one goes on', OPTIONS, async () => {
  await using scene = new KeeperScene();
  const writer = await scene.write({ rowsPerTransaction: 20, pauseMs: 1 });
  const first = await scene.probe({ outlive: true });
  await follow(scene, first, 30);
  await leave(first);
  const connection = (await KeeperConnection.toRunning(scene.spoolDir))!;
  expect(await connection.ask({ type: 'retire' }, 'retired')).not.toBeNull();
  expect(isHeld(scene)).toBe(false);
  expect(await KeeperConnection.toRunning(scene.spoolDir)).toBeNull();
  const seen = writer.transactions;
  await until(() => writer.transactions > seen + 50);
  connection.end();
  await until(() => isHeld(scene));
  await until(async () => (await readKeeperStatus(scene.spoolDir)) !== null);
  const second = await scene.probe({ outlive: true });
  expect(second.client.pid).toBe(first.client.pid);
  expect(second.failure).toBeNull();
  expect(second.isFresh).toBe(false);
  await writer.stop();
  await expectComplete(scene, second);
});

test('a state directory too deep for the address of a socket; a socket that a killed keeper left', OPTIONS, async () => {
  await using scene = new KeeperScene();
  const spoolDir = join(scene.dir, 'd'.repeat(100), 'e'.repeat(100), 'spool');
  mkdirSync(spoolDir, { recursive: true });
  const writer = await scene.write({ pauseMs: 5 });
  const first = await scene.probe({ outlive: true, spoolDir });
  await leave(first);
  const { pid } = (await readKeeperStatus(spoolDir))!;
  expect(pid).toBe(first.client.pid);
  process.kill(pid, 'SIGKILL');
  await until(() => !FileLock.isHeld(join(spoolDir, LOCK_NAME)));
  expect(existsSync(join(spoolDir, 'keeper.sock'))).toBe(true);
  expect(statSync(dirname(spoolDir)).isDirectory()).toBe(true);
  const second = await scene.probe({ outlive: true, spoolDir, mayHaveGaps: true });
  expect(second.failure).toBeNull();
  await writer.stop();
  await leave(second);
  expect((await stopKeeper(spoolDir))?.stopped?.clean).toBe(true);
});

test('a fault of the hive is told, and leaves no keeper behind', OPTIONS, async () => {
  await using scene = new KeeperScene();
  const database = new Database(scene.hive);
  database.exec('CREATE TABLE t (a)');
  database.close();
  const client = KeeperClient.start({ ...keeperOptions(scene), onMessage: () => {} });
  expect((await client.ended)?.code).toBe('HIVE_NOT_WAL');
  await until(() => !isHeld(scene));
});
