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
  await until(() => (probe.generations >= 4) || probe.failure !== null);
  await writer.stop();
  await expectComplete(scene, probe);
});

test('follows a writer without pauses', OPTIONS, async () => {
  await using scene = new KeeperScene();
  const writer = await scene.write();
  const probe = await scene.probe();
  await until(() => (probe.generations >= 4) || probe.failure !== null);
  await writer.stop();
  await expectComplete(scene, probe);
});

test('follows two writers at once', OPTIONS, async () => {
  await using scene = new KeeperScene();
  const one = await scene.write({ rowsPerTransaction: 20, pauseMs: 1 });
  const probe = await scene.probe();
  const two = await scene.write({ rowsPerTransaction: 100, shape: 'update' });
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
    const writer = await scene.write({ rowsPerTransaction: 20, pauseMs: 0 });
    const other = await scene.write({ rowsPerTransaction: 20, pauseMs: 1 });
    const probe = await scene.probe();
    const results = [];
    for (let round = 0; round < 5; round++) {
      const target = other.transactions + 20;
      await until(() => other.transactions >= target);
      results.push(await writer.checkpoint(mode));
    }
    await Promise.all([writer.stop(), other.stop()]);
    await expectComplete(scene, probe);
    expect(results.map((result) => result.busy)).toEqual([0, 0, 0, 0, 0]);
    // 5 s without the keeper's care; the bound is wide because the machine may be busy.
    expect(Math.min(...results.map((result) => result.tookMs))).toBeLessThan(500);
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
  const writer = await scene.write({ rowsPerTransaction: 50, pauseMs: 2 });
  for (let round = 0; round < 4; round++) {
    const probe = await scene.probe();
    expect(probe.failure).toBeNull();
    expect(probe.isFresh).toBe(round === 0);
    const target = writer.transactions + 100;
    await until(() => writer.transactions > target || probe.failure !== null);
    // Between two rounds the application writes a little and must not checkpoint: a pause makes that certain.
    if (round === 3) await writer.stop();
    else await probe.stop();
    if (round === 3) await expectComplete(scene, probe);
    expect(probe.failure).toBeNull();
  }
});
