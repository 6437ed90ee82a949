/** Memory of daemon and keeper together, as the kernel counts it, at its highest. */
import { expect, it } from 'vitest';
import { DaemonScene, EQUAL } from '../helpers/daemon-scene.ts';
import { megabytes, peakMemoryBytes } from '../helpers/process-memory.ts';
import { freePort } from '../helpers/free-port.ts';
import { sinkStatus } from '../helpers/settled.ts';
import { SteeredWriter } from '../helpers/steered-writer.ts';

const LIMIT_MB = 400;
const LOAD_MS = Number(process.env['WAGGLE_LOAD_MS'] ?? 6000);

it(`stays under ${LIMIT_MB} MB with a transaction of 50 MB, and with a sink that is down under load`, { timeout: 60_000 + LOAD_MS * 2 }, async () => {
  const port = await freePort();
  await using scene = new DaemonScene({
    hive: 'app.sqlite',
    sinks: {
      copy: '{ type: sqlite, file: copy.sqlite }',
      changes: '{ type: jsonl, file: changes.jsonl }',
      down: `{ type: postgres, url: "postgres://nobody@127.0.0.1:${port}/none" }`,
    },
  });
  await using writer = await SteeredWriter.open(scene.hive);
  const daemon = await scene.startReady();
  const keeper = Number(daemon.ready?.['keeper']);
  const peak = (): number => peakMemoryBytes([daemon.pid, keeper]);
  const before = peak();
  await writer.insert(500, 100_000);
  await scene.settled(['copy', 'changes']);
  const afterLarge = peak();
  const { transactions } = await writer.load({ rows: 50, bytes: 1000, pauseMs: 2, forMs: LOAD_MS });
  await scene.settled(['copy', 'changes']);
  const afterLoad = peak();
  console.log(
    `memory of daemon and keeper: ${megabytes(before)} MB at the start, ${megabytes(afterLarge)} MB at most with a transaction of 50 MB, ${megabytes(afterLoad)} MB after ${transactions} transactions with a sink that is down`,
  );
  expect(sinkStatus(scene.state, 'down')?.state).toBe('retrying');
  expect(megabytes(afterLarge)).toBeLessThan(LIMIT_MB);
  expect(megabytes(afterLoad)).toBeLessThan(LIMIT_MB);
  expect(await daemon.stop()).toEqual({ code: 0, signal: null });
  expect(scene.compareCopy(scene.path('copy.sqlite'))).toMatchObject(EQUAL);
});
