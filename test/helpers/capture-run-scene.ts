/** A hive that another process writes, and a state directory for capture in this process. */
import { execFile } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import Database from 'better-sqlite3';
import { WalIndexReader } from '../../src/hive/wal-index-reader.ts';
import { CaptureRun } from './capture-run.ts';
import { readLogHistory } from './log-history.ts';
import { TableModel } from './table-model.ts';
import { temporaryDirectory } from './temporary.ts';
import { WalWriter } from './wal-writer.ts';

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

  run(onGap: 'snapshot' | 'fail' = 'fail'): CaptureRun {
    return new CaptureRun({ hive: this.hive, stateDir: this.stateDir, onGap });
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
