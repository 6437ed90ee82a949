/** A hive, its capture in a thread, and runners from its log: what stands before a sink in the daemon. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { pino } from 'pino';
import { CaptureClient } from '../../src/capture/capture-client.ts';
import { LogReader } from '../../src/log/log-reader.ts';
import { SinkRunner } from '../../src/pipeline/runner.ts';
import type { Sink } from '../../src/pipeline/sink.ts';
import { SinkStore } from '../../src/pipeline/sink-store.ts';
import { HeadNotice } from '../../src/stream/head-notice.ts';
import { SteeredWriter } from '../../test/helpers/steered-writer.ts';
import { type BenchChange, createHive, hiveScript, TABLE, type Workload } from './workload.ts';

const CHANGES_A_TRANSACTION = 100;

export class Scene implements AsyncDisposable {
  readonly directory: string;
  readonly #stack: AsyncDisposableStack;
  readonly #capture: CaptureClient;
  readonly #writer: SteeredWriter;
  readonly #store: SinkStore;
  readonly #head: HeadNotice;

  private constructor(parts: {
    directory: string;
    stack: AsyncDisposableStack;
    capture: CaptureClient;
    writer: SteeredWriter;
    store: SinkStore;
    head: HeadNotice;
  }) {
    this.directory = parts.directory;
    this.#stack = parts.stack;
    this.#capture = parts.capture;
    this.#writer = parts.writer;
    this.#store = parts.store;
    this.#head = parts.head;
  }

  /** A hive with the workload's rows, captured. */
  static async open(workload: Workload): Promise<Scene> {
    const directory = mkdtempSync(join(tmpdir(), 'waggle-bench-'));
    await using stack = new AsyncDisposableStack();
    stack.defer(() => rmSync(directory, { recursive: true, force: true }));
    const hive = join(directory, 'hive.sqlite');
    const db = new Database(hive);
    createHive(db, workload.rows());
    db.close();
    const stateDir = join(directory, 'state');
    mkdirSync(stateDir);
    const head = new HeadNotice();
    const capture = stack.use(
      CaptureClient.inThread(
        {
          hive,
          stateDir,
          durability: 'os',
          onGap: 'fail',
          tables: { include: [TABLE], exclude: [] },
          maxWalBytes: 16 << 20,
          keeper: { outlive: false, spoolBytes: 1e9, patienceMs: 0 },
          retention: { maxAgeMs: null, maxBytes: null },
        },
        { onHead: (seq) => head.notify(seq) },
      ),
    );
    await capture.ready;
    const store = stack.use(SinkStore.open(join(stateDir, 'sinks.db')));
    const writer = stack.use(await SteeredWriter.open(hive));
    return new Scene({ directory, stack: stack.move(), capture, writer, store, head });
  }

  /** The application commits the changes; resolves when they are in the log. */
  async write(changes: readonly BenchChange[]): Promise<void> {
    using reader = LogReader.open(this.#logPath);
    const { seq } = reader.head();
    await this.#writer.do({ do: 'exec', sql: hiveScript(changes, CHANGES_A_TRANSACTION) });
    while (reader.head().seq < seq + changes.length) await delay(5);
  }

  /**
   * A runner brings the sink, its rows in `table`, from where it stands to the head of the log: fills it first if it is new. Milliseconds from the
   * connection to the last commit.
   */
  async run(sink: Sink, table: string): Promise<number> {
    const timed = timedSink(sink);
    const runner = new SinkRunner({
      name: table,
      hive: 'bench',
      sink: timed.sink,
      logPath: this.#logPath,
      head: this.#head,
      rows: this.#capture,
      mapping: { tables: { [TABLE]: { to: table } } },
      store: this.#store,
      deadLetters: null,
      verifyEveryMs: null,
      stateDir: join(this.directory, 'sinks', table),
      logger: pino({ level: 'silent' }),
      drainMs: 3_600_000,
    });
    using reader = LogReader.open(this.#logPath);
    const { seq } = reader.head();
    const stop = new AbortController();
    const ended = runner.run(stop.signal);
    for (;;) {
      const { state, checkpoint, error } = runner.status;
      if (error !== null) throw new Error(`${error.code} ${error.message}`);
      if (state === 'streaming' && checkpoint?.seq === seq) break;
      await delay(1);
    }
    stop.abort();
    await ended;
    return timed.appliedAt() - timed.openedAt();
  }

  get #logPath(): string {
    return join(this.directory, 'state', 'log.db');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

/** Without the time to connect, which a sink takes once. */
const timedSink = (sink: Sink): { sink: Sink; openedAt: () => number; appliedAt: () => number } => {
  let [openedAt, appliedAt] = [0, 0];
  return {
    openedAt: () => openedAt,
    appliedAt: () => appliedAt,
    sink: {
      wants: sink.wants,
      ...(sink.integers === undefined ? {} : { integers: sink.integers }),
      open: async (context) => {
        const checkpoint = await sink.open(context);
        openedAt = performance.now();
        return checkpoint;
      },
      apply: async (batch) => {
        await sink.apply(batch);
        appliedAt = performance.now();
      },
      close: () => sink.close(),
    },
  };
};
