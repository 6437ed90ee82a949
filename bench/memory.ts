/**
 * What daemon and keeper take of memory where there is much of something: one large transaction, a large hive, a large backlog. Each
 * in a directory of its own, capture alone or with a sink of type sqlite. The kernel tells the peak of each process (VmHWM).
 */
import { statSync } from 'node:fs';
import { DaemonScene } from '../test/helpers/daemon-scene.ts';
import { megabytes, peakMemoryBytes } from '../test/helpers/process-memory.ts';
import { logHead } from '../test/helpers/settled.ts';
import { SteeredWriter } from '../test/helpers/steered-writer.ts';
import { until } from '../test/helpers/until.ts';
import type { WaggleProcess } from '../test/helpers/waggle-process.ts';

const ROW_BYTES = 1000;
const ROWS_A_TRANSACTION = 100_000;
const DEADLINE_MS = 3_600_000;
const COPY = { copy: '{ type: sqlite, file: copy.sqlite }' };

/** What the daemon does beside capture. */
export type With = 'capture alone' | 'with a sink';
const sinksOf = (what: With): Readonly<Record<string, string>> => (what === 'with a sink' ? COPY : {});

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
export const largeTransaction = async (bytes: number, what: With): Promise<MemoryRun> => {
  await using scene = new DaemonScene({ hive: 'app.sqlite', sinks: sinksOf(what) });
  await using writer = await SteeredWriter.open(scene.hive);
  // Awaited here: behind the return the scene is gone.
  return await measured(`a transaction of ${megabytes(bytes)} MB, ${what}`, scene, async () => {
    await writer.insert(bytes / ROW_BYTES, ROW_BYTES);
    await scene.settled(undefined, DEADLINE_MS);
  });
};

/** A hive of so many bytes: its first state and the sink's first fill; then all of it compared after a gap. */
export const largeHive = async (bytes: number): Promise<MemoryRun[]> => {
  await using scene = new DaemonScene({ hive: 'app.sqlite', sinks: COPY });
  await using writer = await SteeredWriter.open(scene.hive);
  while ((statSync(scene.hive, { throwIfNoEntry: false })?.size ?? 0) < bytes) {
    await writer.insert(ROWS_A_TRANSACTION, ROW_BYTES);
    await writer.do({ do: 'checkpoint', mode: 'TRUNCATE' });
  }
  const size = `a hive of ${megabytes(statSync(scene.hive).size)} MB`;
  const first = await measured(`${size}: first state and first fill`, scene, () => scene.settled(['copy'], DEADLINE_MS));
  await writer.do({ do: 'exec', sql: 'UPDATE items SET n = -n WHERE id % 1000 = 0' });
  const again = await measured(`${size}: restart`, scene, () => scene.settled(['copy'], DEADLINE_MS));
  await scene.endKeeper();
  await writer.do({ do: 'exec', sql: 'UPDATE items SET n = -n WHERE id % 1000 = 1' });
  await writer.do({ do: 'checkpoint', mode: 'TRUNCATE' });
  await writer.do({ do: 'exec', sql: 'UPDATE items SET n = -n WHERE id = 1' });
  const recovered = await measured(`${size}: recovery diff after a gap`, scene, () => scene.settled(['copy'], DEADLINE_MS));
  return [first, again, recovered];
};

/** So many changes while the daemon is away, which keeper, daemon and sink then have to take. */
export const largeBacklog = async (changes: number, what: With): Promise<MemoryRun> => {
  await using scene = new DaemonScene({ hive: 'app.sqlite', sinks: sinksOf(what), lines: ['keeper: { spool: 100GB }'] });
  await using writer = await SteeredWriter.open(scene.hive);
  await measured('', scene, () => scene.settled(undefined, DEADLINE_MS));
  const before = logHead(scene.state)!;
  for (let done = 0; done < changes; done += 1000) await writer.insert(Math.min(1000, changes - done), 100);
  // Awaited here: behind the return the scene is gone.
  return await measured(`a backlog of ${(changes / 1e6).toFixed(1)} M changes, 1000 a transaction, ${what}`, scene, async () => {
    // The keeper has emptied the WAL: only the log tells how far capture is.
    await until('all to be captured', () => logHead(scene.state) === before + changes, { deadlineMs: DEADLINE_MS, everyMs: 100 });
    await scene.settled(undefined, DEADLINE_MS);
  });
};
