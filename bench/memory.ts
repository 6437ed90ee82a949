/**
 * What daemon and keeper take of memory where there is much of something: one large transaction, a large hive, a large backlog. Each
 * in a directory of its own, with the sink `copy` of type sqlite. The kernel tells the peak of each process (VmHWM).
 */
import { rmSync, statSync } from 'node:fs';
import { DaemonScene } from '../test/helpers/daemon-scene.ts';
import { megabytes, peakMemoryBytes } from '../test/helpers/process-memory.ts';
import { SteeredWriter } from '../test/helpers/steered-writer.ts';
import type { WaggleProcess } from '../test/helpers/waggle-process.ts';

const ROW_BYTES = 1000;
const ROWS_A_TRANSACTION = 100_000;
const DEADLINE_MS = 3_600_000;
const SINKS = { copy: '{ type: sqlite, file: copy.sqlite }' };

export interface MemoryRun {
  readonly what: string;
  readonly daemonMb: number;
  readonly keeperMb: number;
  readonly seconds: number;
}

/** Gives the peaks of the life of a daemon that is ready, at the end of `work`. */
const measured = async (what: string, scene: DaemonScene, work: (daemon: WaggleProcess) => Promise<void>): Promise<MemoryRun> => {
  const started = performance.now();
  const daemon = scene.start();
  const ready = await daemon.line('capture is ready', (line) => line['keeper'] !== undefined && line['position'] !== undefined, DEADLINE_MS);
  await work(daemon);
  const keeper = Number(ready['keeper']);
  const run = {
    what,
    daemonMb: megabytes(peakMemoryBytes([daemon.pid])),
    keeperMb: megabytes(peakMemoryBytes([keeper])),
    seconds: (performance.now() - started) / 1000,
  };
  await daemon.stop();
  return run;
};

/** One transaction of so many bytes, taken and applied. */
export const largeTransaction = async (bytes: number): Promise<MemoryRun> => {
  await using scene = new DaemonScene({ hive: 'app.sqlite', sinks: SINKS });
  await using writer = await SteeredWriter.open(scene.hive);
  // Awaited here: behind the return the scene is gone.
  return await measured(`a transaction of ${megabytes(bytes)} MB`, scene, async () => {
    await writer.insert(bytes / ROW_BYTES, ROW_BYTES);
    await scene.settled(['copy'], DEADLINE_MS);
  });
};

/** A hive of so many bytes: its first state and the sink's first fill; then all of it compared after a gap. */
export const largeHive = async (bytes: number): Promise<MemoryRun[]> => {
  await using scene = new DaemonScene({ hive: 'app.sqlite', sinks: SINKS });
  await using writer = await SteeredWriter.open(scene.hive);
  while ((statSync(scene.hive, { throwIfNoEntry: false })?.size ?? 0) < bytes) {
    await writer.insert(ROWS_A_TRANSACTION, ROW_BYTES);
    await writer.do({ do: 'checkpoint', mode: 'TRUNCATE' });
  }
  const size = `a hive of ${megabytes(statSync(scene.hive).size)} MB`;
  const first = await measured(`${size}: first state and first fill`, scene, () => scene.settled(['copy'], DEADLINE_MS));
  // The sink's copy is not what is measured, and the disk is not endless.
  rmSync(scene.path('copy.sqlite'));
  await writer.do({ do: 'exec', sql: 'UPDATE items SET n = -n WHERE id % 1000 = 0' });
  const again = await measured(`${size}: restart and first fill again`, scene, () => scene.settled(['copy'], DEADLINE_MS));
  await scene.endKeeper();
  await writer.do({ do: 'exec', sql: 'UPDATE items SET n = -n WHERE id % 1000 = 1' });
  await writer.do({ do: 'checkpoint', mode: 'TRUNCATE' });
  await writer.do({ do: 'exec', sql: 'UPDATE items SET n = -n WHERE id = 1' });
  const recovered = await measured(`${size}: recovery diff after a gap`, scene, () => scene.settled(['copy'], DEADLINE_MS));
  return [first, again, recovered];
};

/** So many changes while the daemon is away, which keeper, daemon and sink then have to take. */
export const largeBacklog = async (changes: number): Promise<MemoryRun> => {
  await using scene = new DaemonScene({ hive: 'app.sqlite', sinks: SINKS, lines: ['keeper: { spool: 100GB }'] });
  await using writer = await SteeredWriter.open(scene.hive);
  await measured('', scene, () => scene.settled(['copy'], DEADLINE_MS));
  for (let done = 0; done < changes; done += 1000) await writer.insert(Math.min(1000, changes - done), 100);
  // Awaited here: behind the return the scene is gone.
  return await measured(`a backlog of ${(changes / 1e6).toFixed(1)} M changes in 1000 a transaction`, scene, () =>
    scene.settled(['copy'], DEADLINE_MS),
  );
};
