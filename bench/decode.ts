/**
 * Capture catching up from a backlog beside the speed of the writer that made it: tail, diff, mirror and log, one thread, in
 * this process, against the same transactions written by better-sqlite3 (synchronous=NORMAL, no checkpoints) just before.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { Replica } from '../src/capture/replica.ts';
import { mirrorSnapshot } from '../src/capture/recovery.ts';
import { HiveSnapshot } from '../src/hive/hive-snapshot.ts';
import { WalIndexReader } from '../src/hive/wal-index-reader.ts';
import { WalTail } from '../src/hive/wal-tail.ts';
import { LogWriter } from '../src/log/log-writer.ts';
import { TransactionBatch } from '../src/log/transaction-batch.ts';
import { openShape, prepareShape, type Shape } from './shapes.ts';

export interface DecodeResult {
  readonly rows: number;
  readonly writerSeconds: number;
  readonly captureSeconds: number;
  /** CPU time of the capture alone: steadier than the clock on a busy machine. */
  readonly captureCpuSeconds: number;
}

/** `transactions` of the shape, written and then captured. */
export const runDecode = async (shape: Shape, transactions: number): Promise<DecodeResult> => {
  const directory = mkdtempSync(join(tmpdir(), 'waggle-bench-'));
  const hive = join(directory, 'db.sqlite');
  const db = new Database(hive);
  try {
    db.pragma('journal_mode = WAL');
    db.pragma('synchronous = NORMAL');
    prepareShape(db, shape);
    db.pragma('wal_checkpoint(TRUNCATE)');
    db.pragma('wal_autocheckpoint = 0');
    const step = openShape(db, shape);
    step();
    using index = new WalIndexReader(hive);
    const header = index.read();
    if (typeof header === 'string') throw new Error(`the wal-index is ${header}`);
    mkdirSync(join(directory, 'state'));
    const log = LogWriter.open({ path: join(directory, 'state', 'log.db'), durability: 'os', hive: { path: hive } });
    using snapshot = HiveSnapshot.open(hive, { ...header, complete: false });
    const mirror = mirrorSnapshot(
      snapshot,
      { directory: join(directory, 'state', 'mirror'), pageSize: header.pageSize, durability: 'os', makeLogDurable: () => log.sync() },
      1,
    );
    const replica = Replica.read(mirror, { captured: () => true, known: null, firstVersion: 1 });
    const { salt1, salt2, mxFrame } = header;
    const position = { epoch: 1, frame: mxFrame, salt1, salt2, checksum1: snapshot.checksum1, checksum2: snapshot.checksum2 };
    log.append({
      batchId: 1,
      position,
      sizePages: mirror.sizePages,
      catalogVersion: 1,
      catalogs: [replica.schema.catalog],
      transactions: new TransactionBatch(),
    });

    let rows = 0;
    const started = performance.now();
    for (let count = 0; count < transactions; count += 1) rows += step();
    const written = performance.now();
    const cpu = process.cpuUsage();

    using tail = new WalTail({ hive, pageSize: header.pageSize, position, generation: 1 });
    const batch = new TransactionBatch();
    for (let batchId = 2; ; batchId += 1) {
      let transaction = tail.next(2 << 20);
      if (transaction === null) break;
      for (; transaction !== null; transaction = tail.next(2 << 20)) {
        const { changes } = replica.apply(transaction);
        batch.add({
          epoch: 1,
          frame: transaction.frame,
          timestampUs: 0,
          origin: null,
          recovered: false,
          changeCount: changes.count,
          parts: changes.parts(),
          catalogVersion: 1,
          previousCatalogVersion: 1,
        });
      }
      mirror.commit(batchId);
      log.append({ batchId, position: tail.position, sizePages: mirror.sizePages, catalogVersion: 1, catalogs: [], transactions: batch });
      batch.clear();
      await mirror.afterLogCommit();
    }
    const captured = performance.now();
    const used = process.cpuUsage(cpu);
    // A row that a transaction updates twice is one change.
    if (log.headSeq > rows || log.headSeq < rows * 0.99) throw new Error(`${log.headSeq} changes captured of ${rows} rows`);
    await mirror[Symbol.asyncDispose]();
    log.close();
    return {
      rows,
      writerSeconds: (written - started) / 1000,
      captureSeconds: (captured - written) / 1000,
      captureCpuSeconds: (used.user + used.system) / 1e6,
    };
  } finally {
    db.close();
    rmSync(directory, { recursive: true, force: true });
  }
};
