/** A runner between a logged database and a test sink. */
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { pino } from 'pino';
import { DeadLetterStore } from '../../src/pipeline/dead-letter-store.ts';
import { SinkRunner, type SinkRunnerOptions } from '../../src/pipeline/runner.ts';
import type { SinkStatus } from '../../src/pipeline/sink-status.ts';
import { SinkStore } from '../../src/pipeline/sink-store.ts';
import { LoggedDatabase } from './logged-database.ts';
import { SqliteTestSink } from './sqlite-test-sink.ts';
import { temporaryDirectory } from './temporary.ts';
import { TestClock } from './test-clock.ts';

export class RunnerScene implements Disposable {
  readonly #directory = temporaryDirectory();
  readonly clock = new TestClock();
  readonly source = new LoggedDatabase(this.#directory.path, this.clock);
  readonly store: SinkStore = SinkStore.open(join(this.#directory.path, 'sinks.db'));
  readonly lettersPath: string = join(this.#directory.path, 'dead-letters.db');
  readonly storePath: string = join(this.#directory.path, 'sinks.db');
  readonly letters: DeadLetterStore = DeadLetterStore.open(join(this.#directory.path, 'dead-letters.db'));
  sink = new SqliteTestSink();

  start(options: Partial<SinkRunnerOptions> = {}): { runner: SinkRunner; stop: () => Promise<void>; done: Promise<void> } {
    const controller = new AbortController();
    const runner = new SinkRunner({
      name: 'test',
      hive: 'app',
      sink: this.sink,
      logPath: this.source.logPath,
      head: this.source.head,
      rows: this.source.rows(),
      mapping: {},
      batch: { rows: 20, delayMs: 50 },
      store: this.store,
      deadLetters: null,
      verifyEveryMs: null,
      stateDir: join(this.#directory.path, 'sink'),
      logger: pino({ level: 'silent' }),
      clock: this.clock,
      drainMs: 1_000_000,
      ...options,
    });
    const done = runner.run(controller.signal);
    return {
      runner,
      done,
      stop: () => {
        controller.abort();
        return done;
      },
    };
  }

  /** Resolves when the status is so; fails the test when it never comes to be. */
  async until(runner: SinkRunner, condition: (status: SinkStatus) => boolean): Promise<void> {
    for (let turns = 0; !condition(runner.status); turns += 1) {
      if (turns > 200_000) throw new Error(`the sink is still ${JSON.stringify(runner.status)}`);
      await setImmediate();
    }
  }

  /** Filled, and everything in the log applied. */
  async caughtUp(runner: SinkRunner): Promise<void> {
    await this.until(runner, ({ state, checkpoint }) => state === 'streaming' && checkpoint?.seq === this.source.writer.headSeq);
  }

  /** For each table: rows of the source, rows of the sink. */
  tables(): { source: Record<string, unknown[]>; sink: Record<string, unknown[]> } {
    const names = this.source.catalog.tables.map((table) => table.name);
    return {
      source: Object.fromEntries(names.map((name) => [name, this.source.expected(name)])),
      sink: Object.fromEntries(names.map((name) => [name, this.sink.rows(name)])),
    };
  }

  [Symbol.dispose](): void {
    this.store.close();
    this.letters.close();
    this.source[Symbol.dispose]();
    this.#directory[Symbol.dispose]();
  }
}
