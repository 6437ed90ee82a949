import { statSync } from 'node:fs';
import { expect, test } from 'vitest';
import { KeeperScene, until } from '../helpers/keeper-scene.ts';
import { differingPages } from '../helpers/tail-probe.ts';

/** Set WAGGLE_CHAOS_ROUNDS for a long run. */
const ROUNDS = Number(process.env['WAGGLE_CHAOS_ROUNDS'] ?? 12);

const pick = <T>(values: readonly [T, ...T[]]): T => values[Math.floor(Math.random() * values.length)] ?? values[0];

test('kills of writers and keepers, checkpoints and restarts in any order', { timeout: 20_000 + ROUNDS * 6000 }, async () => {
  await using scene = new KeeperScene();
  const start = () => scene.write({ shape: pick(['insert', 'update']), rowsPerTransaction: pick([1, 20, 300]), pauseMs: pick([0, 1, 4]) });
  let writer = await start();
  let probe = await scene.probe({ mayHaveGaps: true });
  let killed = 0;
  let gaps = 0;
  let isSlow = false;
  for (let round = 0; round < ROUNDS; round++) {
    const seen = scene.state.commits;
    await until(() => scene.state.commits > seen + 30 || probe.failure !== null);
    expect(probe.failure).toBeNull();
    isSlow = Math.random() < 0.3;
    const act = pick(['kill writer', 'kill keeper', 'stop writer', 'stop keeper', 'TRUNCATE', 'RESTART', 'hold'] as const);
    if (act === 'kill writer') await writer.kill();
    else if (act === 'stop writer') await writer.stop();
    else if (act === 'TRUNCATE' || act === 'RESTART') await writer.checkpoint(act);
    else if (act === 'hold') {
      probe.client.hold();
      const before = probe.messages.length;
      await until(() => probe.messages.slice(before).some((message) => message.type === 'snapshot') || probe.failure !== null);
      probe.client.release();
    } else {
      if (act === 'kill keeper') {
        killed++;
        process.kill(probe.client.pid ?? 0, 'SIGKILL');
        await probe.client.ended;
        probe.abandon();
      } else await probe.stop();
      probe = await scene.probe({ mayHaveGaps: true, mayRead: () => !isSlow || Math.random() < 0.02 });
      gaps += probe.gaps;
    }
    if (act === 'kill writer' || act === 'stop writer') writer = await start();
  }
  await writer.stop();
  isSlow = false;
  await until(() => probe.failure !== null || (statSync(`${scene.hive}-wal`).size === 0 && probe.position === 'end'));
  expect(probe.failure).toBeNull();
  expect(await probe.stop()).toBe(true);
  expect(differingPages(scene.state, scene.hive)).toEqual([]);
  console.log(`${ROUNDS} rounds, ${killed} keepers killed, ${gaps} gaps at a start`);
});
