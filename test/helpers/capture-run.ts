/** Capture itself (keeper process, tail, diff, mirror, log) in this process, on a hive that another process writes. */
import { execFile } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import Database from 'better-sqlite3';
import { Capture } from '../../src/capture/capture.ts';
import type { FromCapture } from '../../src/capture/protocol.ts';
import { WalIndexReader } from '../../src/hive/wal-index-reader.ts';
import { readLogHistory } from './log-history.ts';
import { TableModel } from './table-model.ts';
import { temporaryDirectory } from './temporary.ts';
import { WalWriter } from './wal-writer.ts';

export class CaptureRun {
  readonly messages: FromCapture[] = [];
  readonly ended: Promise<unknown>;
  readonly #capture: Capture;
  #seen: () => void = () => {};

  constructor(hive: string, stateDir: string, onGap: 'snapshot' | 'fail' = 'fail') {
    const options = {
      hive,
      stateDir,
      durability: 'os',
      onGap,
      tables: { include: null, exclude: [] },
      maxWalBytes: 4 << 20,
      keeper: { outlive: false, spoolBytes: 1e9, patienceMs: 0 },
      retention: { maxAgeMs: null, maxBytes: null },
    } as const;
    this.#capture = new Capture(options, {
      post: (message) => {
        this.messages.push(message);
        this.#seen();
      },
    });
    this.ended = this.#capture.run().then(
      () => null,
      (error: unknown) => error ?? 'failed',
    );
  }

  /** How it began; null: it ended before. */
  async ready(): Promise<string | null> {
    const began = new Promise<string>((resolve) => {
      const look = (): void => {
        const found = this.messages.find((message) => message.type === 'ready');
        if (found !== undefined) resolve(found.beginning);
      };
      this.#seen = look;
      look();
    });
    return Promise.race([began, this.ended.then(() => null)]);
  }

  /** Throws where it did not begin or end as it should. */
  async readyAndStopped(): Promise<void> {
    if ((await this.ready()) === null) throw await this.ended;
    const error = await this.stop();
    if (error !== null) throw error;
  }

  /** Takes what is committed, then ends. Gives the error of its end. */
  async stop(): Promise<unknown> {
    this.#capture.stop();
    return this.ended;
  }
}

export class CaptureRunScene implements AsyncDisposable {
  readonly #directory = temporaryDirectory();
  readonly hive = join(this.#directory.path, 'db.sqlite');
  readonly stateDir = join(this.#directory.path, 'state');
  readonly log = join(this.stateDir, 'log.db');
  readonly writer = new WalWriter(this.hive);

  static async open(): Promise<CaptureRunScene> {
    const scene = new CaptureRunScene();
    mkdirSync(scene.stateDir);
    await scene.writer.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; CREATE TABLE t (id INTEGER PRIMARY KEY, v)');
    return scene;
  }

  run(onGap?: 'snapshot' | 'fail'): CaptureRun {
    return new CaptureRun(this.hive, this.stateDir, onGap);
  }

  /** mxFrame of the WAL. Without a lock, so that none of another process goes. */
  committedFrames(): number {
    using index = new WalIndexReader(this.hive);
    const header = index.read();
    return typeof header === 'string' ? 0 : header.mxFrame;
  }

  /** SQLite's backup API from `source` into the hive, by a process of its own. */
  async restore(source: string): Promise<void> {
    const script = `import Database from 'better-sqlite3'; const source = new Database(process.argv[1]); await source.backup(process.argv[2]); source.close();`;
    await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script, source, this.hive]);
  }

  /** The log's changes on nothing are what SQLite reads. Only after capture has ended: this process opens the hive. */
  check(): { recovered: number } {
    const { transactions, recovered, catalog } = readLogHistory(this.log);
    const model = new TableModel();
    for (const { changes } of transactions) model.apply(changes);
    const db = new Database(this.hive, { readonly: true });
    try {
      TableModel.read(db, catalog.tables).assertEquals(model);
    } finally {
      db.close();
    }
    return { recovered };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.writer[Symbol.asyncDispose]();
    this.#directory[Symbol.dispose]();
  }
}
