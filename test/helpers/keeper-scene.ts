import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { WriterOptions } from './counting-writer.ts';
import { endKeeper } from './end-keeper.ts';
import { ProbeState, TailProbe, type ProbeOptions } from './tail-probe.ts';
import { WriterProcess } from './writer-process.ts';

/** A hive, its writers and probes, in a directory of its own that goes with the scene. */
export class KeeperScene implements AsyncDisposable {
  readonly dir = mkdtempSync(join(tmpdir(), 'waggle-keeper-'));
  readonly hive = join(this.dir, 'hive.db');
  readonly spoolDir = join(this.dir, 'spool');
  readonly state = new ProbeState();
  readonly #stack = new AsyncDisposableStack();

  constructor() {
    mkdirSync(this.spoolDir);
  }

  async write(options: Partial<WriterOptions> = {}): Promise<WriterProcess> {
    const writer = new WriterProcess({ hive: this.hive, shape: 'insert', rowsPerTransaction: 1, pauseMs: 0, ...options });
    this.#stack.use(writer);
    await until(() => writer.transactions > 0);
    return writer;
  }

  async probe(options: Partial<Omit<ProbeOptions, 'state'>> = {}): Promise<TailProbe> {
    const probe = new TailProbe({ hive: this.hive, spoolDir: this.spoolDir, maxWalBytes: 4 << 20, state: this.state, ...options });
    this.#stack.use(probe);
    await until(() => probe.failure !== null || probe.messages.some((message) => message.type === 'ready'));
    return probe;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
    await endKeeper(this.dir);
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** Polls a condition; throws after the deadline. */
export const until = async (condition: () => boolean | Promise<boolean>, deadlineMs = 20_000): Promise<void> => {
  const end = performance.now() + deadlineMs;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`not within ${deadlineMs} ms: ${condition.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
};
