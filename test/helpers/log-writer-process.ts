/**
 * Appends to a log until killed (or `argv[3]` batches), telling each new head over IPC (or on stdout). Transaction n of
 * the log has changes that hold n, so that a reader can check them; every 40th has many parts.
 */
import { ChangeWriter } from '../../src/change/change-codec.ts';
import { LogWriter } from '../../src/log/log-writer.ts';
import { TransactionBatch } from '../../src/log/transaction-batch.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { testTable } from './logged-database.ts';

const [path, batches] = [process.argv[2]!, Number(process.argv[3] ?? Infinity)];
process.on('uncaughtException', (error) => {
  console.log(error instanceof WaggleError ? error.code : String(error));
  process.exit(3);
});

const writer = LogWriter.open({ path, durability: 'os', hive: { path: '/hive' } });
const state = writer.state();
let batchId = state?.batchId ?? 0;
let frame = state?.position.frame ?? 0;
const catalogs = state === null ? [{ version: 1, encoding: 'utf8' as const, tables: [testTable('t', [])] }] : [];
const step = (): void => {
  const transactions = Array.from({ length: 1 + (batchId % 7) }, () => {
    frame += 1;
    const changes = new ChangeWriter();
    const count = frame % 40 === 0 ? 60 : 1 + (frame % 3);
    for (let index = 0; index < count; index += 1) changes.create(0, frame, Buffer.alloc(frame % 40 === 0 ? 15_000 : 20, frame % 256));
    return {
      epoch: 1,
      frame,
      timestampUs: 1,
      origin: null,
      recovered: false,
      changeCount: changes.count,
      parts: changes.parts(),
      catalogVersion: 1,
      previousCatalogVersion: 1,
    };
  });
  batchId += 1;
  const position = { epoch: 1, frame, salt1: 1, salt2: 1, checksum1: 1, checksum2: 1 };
  writer.append({
    batchId,
    position,
    sizePages: 1,
    catalogVersion: 1,
    catalogs: catalogs.splice(0),
    transactions: TransactionBatch.of(...transactions),
  });
  process.send?.({ head: writer.headSeq, frame });
};
const loop = (left: number): void => {
  for (let index = 0; index < 10 && left > 0; index += 1, left -= 1) step();
  if (left > 0) setImmediate(() => loop(left));
  else process.disconnect?.();
};
loop(batches);
