/**
 * The writer's speed with Waggle beside it and without: single inserts as fast as one process can, in turns on three hives:
 * one that nobody captures, one that a daemon without sinks captures, and the demo's own with all its sinks. The daemons run
 * all the time and are idle while it is another hive's turn.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Place, untilSettled } from '../../test/helpers/settled.ts';
import { WaggleProcess } from '../../test/helpers/waggle-process.ts';
import { quantile } from './progress.ts';
import type { Workspace } from './workspace.ts';
import type { WriterAnswer } from './writer-probe.ts';

const PROBE = fileURLToPath(new URL('./writer-probe.ts', import.meta.url));

export interface WriterSpeed {
  /** Transactions a second, median. */
  readonly perSecond: number;
  /** To the writer without Waggle, turn by turn; the median and all of them. */
  readonly ratio: number;
  readonly ratios: readonly number[];
}

export interface WriterRatio {
  readonly alone: number;
  readonly captured: WriterSpeed;
  readonly allSinks: WriterSpeed;
  /** Rows that were written into the demo's hive. */
  readonly rows: number;
}

export const measureWriter = async (workspace: Workspace, { turns, forMs }: { turns: number; forMs: number }): Promise<WriterRatio> => {
  const dir = join(workspace.dir, 'writer');
  mkdirSync(dir);
  const bare = join(dir, 'bare.sqlite');
  const hive = join(dir, 'captured.sqlite');
  const config = join(dir, 'waggle.yaml');
  writeFileSync(config, 'hive: captured.sqlite\nstate: .waggle\nsinks: {}\n');

  await using alone = await Writer.start(bare);
  await using captured = await Writer.start(hive);
  await using all = await Writer.start(workspace.hive);
  await using daemon = await WaggleProcess.run(config).untilReady();
  const places: Place[] = [
    { hive, stateDir: join(dir, '.waggle'), sinks: [] },
    { hive: workspace.hive, stateDir: workspace.state, sinks: workspace.sinks },
  ];
  const speeds: number[][] = [[], [], []];
  for (let turn = 0; turn < turns; turn += 1) {
    // Another one begins each time, so that a machine that slows down favours nobody.
    for (let step = 0; step < 3; step += 1) {
      const index = (turn + step) % 3;
      speeds[index]!.push(await [alone, captured, all][index]!.write(forMs));
      if (index > 0) await untilSettled(places[index - 1]!);
    }
  }
  await daemon.stop();
  const speedOf = (index: number): WriterSpeed => {
    const ratios = speeds[index]!.map((speed, turn) => speed / speeds[0]![turn]!);
    return { perSecond: quantile(speeds[index]!, 0.5), ratio: quantile(ratios, 0.5), ratios };
  };
  return { alone: quantile(speeds[0]!, 0.5), captured: speedOf(1), allSinks: speedOf(2), rows: all.rows };
};

class Writer implements AsyncDisposable {
  rows = 0;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  /** With its table made, so that capture has something to begin with. */
  static async start(hive: string): Promise<Writer> {
    const writer = new Writer(fork(PROBE, [hive], { execArgv: [], stdio: ['ignore', 'ignore', 'inherit', 'ipc'] }));
    await writer.write(1);
    return writer;
  }

  /** Transactions a second. */
  async write(forMs: number): Promise<number> {
    const answer = once(this.#child, 'message') as Promise<[WriterAnswer]>;
    this.#child.send(forMs);
    const [{ transactions, seconds }] = await answer;
    this.rows += transactions;
    return transactions / seconds;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const exited = once(this.#child, 'exit');
    this.#child.disconnect();
    await exited;
  }
}
