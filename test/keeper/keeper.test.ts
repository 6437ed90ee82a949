import { expect, test } from 'vitest';
import { statSync } from 'node:fs';
import { KeeperScene, until } from '../helpers/keeper-scene.ts';
import { differingPages, type TailProbe } from '../helpers/tail-probe.ts';

const OPTIONS = { timeout: 60_000 };

/** The probe has followed to the end: every commit seen once and in order, and the file replayed byte for byte. */
const expectComplete = async (scene: KeeperScene, probe: TailProbe): Promise<void> => {
  await until(() => probe.failure !== null || (statSync(`${scene.hive}-wal`).size === 0 && probe.position === 'end'));
  expect(probe.failure).toBeNull();
  expect(await probe.stop()).toBe(true);
  expect(probe.failure).toBeNull();
  expect(differingPages(scene.state, scene.hive)).toEqual([]);
};

test('follows a writer with pauses over many generations', OPTIONS, async () => {
  await using scene = new KeeperScene();
  const writer = await scene.write({ rowsPerTransaction: 500, pauseMs: 4 });
  const probe = await scene.probe();
  await until(() => probe.generations >= 4 || probe.failure !== null);
  await writer.stop();
  await expectComplete(scene, probe);
});

test('follows a writer without pauses', OPTIONS, async () => {
  await using scene = new KeeperScene();
  const writer = await scene.write();
  const probe = await scene.probe();
  await until(() => probe.generations >= 4 || probe.failure !== null);
  await writer.stop();
  await expectComplete(scene, probe);
});

test('follows two writers at once', OPTIONS, async () => {
  await using scene = new KeeperScene();
  const one = await scene.write({ rowsPerTransaction: 20, pauseMs: 1 });
  const probe = await scene.probe();
  const two = await scene.write({ rowsPerTransaction: 100, shape: 'update', pauseMs: 1 });
  await until(() => probe.generations >= 4 || probe.failure !== null);
  await Promise.all([one.stop(), two.stop()]);
  await expectComplete(scene, probe);
});

test('a slow capture finds the rest in the spool', OPTIONS, async () => {
  await using scene = new KeeperScene();
  const writer = await scene.write({ rowsPerTransaction: 200, pauseMs: 3 });
  let mayRead = true;
  const probe = await scene.probe({ mayRead: () => mayRead });
  mayRead = false;
  await until(() => probe.generations >= 3 || probe.failure !== null);
  expect(probe.messages.filter((message) => message.type === 'spooled').length).toBeGreaterThanOrEqual(3);
  mayRead = true;
  await writer.stop();
  await expectComplete(scene, probe);
});

test('the application may close as the last connection and start again', OPTIONS, async () => {
  await using scene = new KeeperScene();
  const first = await scene.write({ rowsPerTransaction: 50, pauseMs: 2 });
  const probe = await scene.probe();
  await first.stop();
  for (let round = 0; round < 4; round++) {
    const writer = await scene.write({ rowsPerTransaction: 50, pauseMs: round % 2 });
    await until(() => writer.transactions > 100);
    await writer.stop();
  }
  await expectComplete(scene, probe);
});

for (const mode of ['FULL', 'RESTART', 'TRUNCATE'] as const) {
  test(`the application's own ${mode} checkpoint gets through under load`, OPTIONS, async () => {
    await using scene = new KeeperScene();
    const writer = await scene.write({ rowsPerTransaction: 20, pauseMs: 1 });
    const other = await scene.write({ rowsPerTransaction: 20, pauseMs: 1 });
    const probe = await scene.probe();
    const tookMs: number[] = [];
    const gaveUpMs: number[] = [];
    while (tookMs.length < 5) {
      const target = other.transactions + 20;
      await until(() => other.transactions >= target);
      // Two checkpoints at the same instant: SQLite lets one give up at once, whoever runs the other.
      const result = await writer.checkpoint(mode);
      (result.busy === 0 ? tookMs : gaveUpMs).push(result.tookMs);
    }
    await Promise.all([writer.stop(), other.stop()]);
    await expectComplete(scene, probe);
    // 5 s without the keeper's care; milliseconds on a machine that is not busy.
    expect(tookMs.toSorted((a, b) => a - b)[2]).toBeLessThan(500);
    expect(Math.max(0, ...gaveUpMs)).toBeLessThan(500);
  });
}

test('a killed writer leaves nothing that is taken for a commit', OPTIONS, async () => {
  await using scene = new KeeperScene();
  const first = await scene.write({ rowsPerTransaction: 300, pauseMs: 0 });
  const probe = await scene.probe();
  await first.kill();
  for (let round = 0; round < 6; round++) {
    const writer = await scene.write({ rowsPerTransaction: 300, pauseMs: 0 });
    const target = Math.random() * 60;
    await until(() => writer.transactions > target);
    await writer.kill();
  }
  await (await scene.write()).stop();
  await expectComplete(scene, probe);
});

test('an orderly end and a new start join without a gap', OPTIONS, async () => {
  await using scene = new KeeperScene();
  let writer = await scene.write({ rowsPerTransaction: 20, pauseMs: 5 });
  for (const then of ['goes on', 'goes on', 'ends', 'ends and starts again'] as const) {
    const probe = await scene.probe();
    expect(probe.failure).toBeNull();
    const seen = scene.state.commits;
    await until(() => scene.state.commits > seen + 20 || probe.failure !== null);
    if (then !== 'goes on') await writer.stop();
    const isClean = await probe.stop();
    expect(probe.failure).toBeNull();
    if (then === 'goes on') continue;
    expect(isClean).toBe(true);
    // Its first frames after the pause; more than SQLite's 1000 would reset the WAL.
    writer = await scene.write({ pauseMs: 20 });
  }
  const probe = await scene.probe();
  expect(probe.isFresh).toBe(false);
  await writer.stop();
  await expectComplete(scene, probe);
});

test('what was checkpointed while nobody held the pin is a gap', OPTIONS, async () => {
  await using scene = new KeeperScene();
  const writer = await scene.write({ pauseMs: 5 });
  const first = await scene.probe();
  await until(() => scene.state.commits > 5);
  await first.stop();
  await writer.checkpoint('TRUNCATE');
  const seen = writer.transactions;
  await until(() => writer.transactions > seen + 5);
  const probe = await scene.probe();
  expect(probe.failure).toBe('gap at start');
});

test('a killed keeper loses nothing of the generation that the WAL still has', OPTIONS, async () => {
  await using scene = new KeeperScene();
  const writer = await scene.write({ rowsPerTransaction: 5, pauseMs: 20 });
  for (let round = 0; round < 3; round++) {
    const probe = await scene.probe();
    expect(probe.failure).toBeNull();
    const seen = scene.state.commits;
    await until(() => scene.state.commits > seen + 5);
    process.kill(probe.client.pid ?? 0, 'SIGKILL');
    expect((await probe.client.ended)?.code).toBe('KEEPER_DIED');
    probe.abandon();
  }
  const probe = await scene.probe();
  expect(probe.isFresh).toBe(false);
  await writer.stop();
  await expectComplete(scene, probe);
});

test('a daemon that dies leaves a keeper that ends by itself and spools the rest', OPTIONS, async () => {
  await using scene = new KeeperScene();
  const writer = await scene.write({ rowsPerTransaction: 5, pauseMs: 20 });
  let mayRead = true;
  const first = await scene.probe({ mayRead: () => mayRead });
  await until(() => scene.state.commits > 5);
  mayRead = false;
  const seen = writer.transactions;
  await until(() => writer.transactions > seen + 10);
  await first.client.detach();
  first.abandon();
  const probe = await scene.probe();
  expect(probe.isFresh).toBe(false);
  await writer.stop();
  await expectComplete(scene, probe);
});
