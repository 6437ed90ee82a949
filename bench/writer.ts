/**
 * What waggle costs the application: its speed with and without, in turns, on the three shapes of DESIGN "Numbers". With
 * means capture, keeper and log in processes of their own, as `waggle run` has them, taking every change. Beside it triggers
 * into a log table, which is what everybody else installs.
 */
import { fork } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CaptureClient } from '../src/capture/capture-client.ts';
import type { KeeperStats } from '../src/keeper/protocol.ts';
import { LogReader } from '../src/log/log-reader.ts';
import type { ShapeWriterOptions, ShapeWriterResult } from './shape-writer.ts';
import type { Shape } from './shapes.ts';

export type Companion = 'alone' | 'waggle' | 'triggers';

export interface WriterRun extends ShapeWriterResult {
  readonly rowsPerSecond: number;
  readonly maxWalBytes: number;
  /** Two seconds after the writer's last commit; null where waggle did not run. */
  readonly walBytesAfter: number | null;
  readonly keeper: KeeperStats | null;
  readonly captured: number;
}

const SCRIPT = fileURLToPath(new URL('./shape-writer.ts', import.meta.url));

/** One run in a fresh database. */
export const runWriter = async (shape: Shape, companion: Companion, options: { seconds: number; pauseMs?: number }): Promise<WriterRun> => {
  const directory = mkdtempSync(join(tmpdir(), 'waggle-bench-'));
  const hive = join(directory, 'hive.sqlite');
  const state = join(directory, 'state');
  mkdirSync(state);
  const writerOptions: ShapeWriterOptions = {
    hive,
    shape,
    seconds: options.seconds,
    triggers: companion === 'triggers',
    pauseMs: options.pauseMs ?? 0,
  };
  const writer = fork(SCRIPT, [JSON.stringify(writerOptions)], { execArgv: [] });
  const next = <T>(): Promise<T> =>
    new Promise((resolve, reject) => {
      writer.once('message', (message) => resolve(message as T));
      writer.once('exit', (code) => reject(new Error(`the writer ended with ${code}`)));
    });
  try {
    await next();
    let keeper: KeeperStats | null = null;
    const capture = companion === 'waggle' ? await startCapture(hive, state, (stats) => (keeper = stats)) : null;
    let maxWalBytes = 0;
    const sampling = setInterval(() => (maxWalBytes = Math.max(maxWalBytes, walSize(hive))), 10);
    const answer = next<ShapeWriterResult>();
    const exited = new Promise((resolve) => writer.once('exit', resolve));
    // The writer must not be the last connection to close: what it leaves behind is what is measured.
    writer.send('start');
    const result = await answer;
    clearInterval(sampling);
    await exited;
    let walBytesAfter: number | null = null;
    let captured = 0;
    if (capture !== null) {
      await new Promise((resolve) => setTimeout(resolve, 2000));
      walBytesAfter = walSize(hive);
      const error = await capture.stop();
      if (error !== null) throw error;
      using reader = LogReader.open(join(state, 'log.db'));
      captured = reader.head().seq;
      // A row that one transaction updates twice is one change.
      if (captured > result.rows || captured < result.rows * 0.97) throw new Error(`${captured} changes captured of ${result.rows} rows`);
    }
    return { ...result, rowsPerSecond: result.rows / result.seconds, maxWalBytes, walBytesAfter, keeper, captured };
  } finally {
    writer.kill('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  }
};

const startCapture = async (hive: string, stateDir: string, onKeeper: (stats: KeeperStats) => void): Promise<CaptureClient> => {
  const capture = CaptureClient.inProcess(
    {
      hive,
      stateDir,
      durability: 'os',
      onGap: 'fail',
      tables: { include: null, exclude: [] },
      maxWalBytes: 16 << 20,
      keeper: { outlive: false, spoolBytes: 1e9, patienceMs: 0 },
      retention: { maxAgeMs: null, maxBytes: null },
    },
    { onKeeper },
  );
  await capture.ready;
  return capture;
};

const walSize = (hive: string): number => statSync(`${hive}-wal`, { throwIfNoEntry: false })?.size ?? 0;
