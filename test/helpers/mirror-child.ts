/** Takes batches into a mirror and a real log until it is killed. argv: directory, seed, number of batches. */
import { join } from 'node:path';
import { LogWriter } from '../../src/log/log-writer.ts';
import { TransactionBatch } from '../../src/log/transaction-batch.ts';
import { Mirror } from '../../src/mirror/mirror.ts';
import { batchesOf, createMirror, optionsFor, takeBatch } from './mirror-scene.ts';

const [directory, seed, count] = [process.argv[2]!, Number(process.argv[3]), Number(process.argv[4])];
const position = { epoch: 1, frame: 0, salt1: 1, salt2: 1, checksum1: 1, checksum2: 1 };
const log = LogWriter.open({ path: join(directory, 'log.db'), durability: 'os', hive: { path: '/hive' } });
const options = optionsFor(join(directory, 'mirror'), () => log.sync());
const append = (batchId: number, sizePages: number): void =>
  void log.append({
    batchId,
    position: { ...position, frame: batchId },
    sizePages,
    catalogVersion: 1,
    catalogs: [],
    transactions: new TransactionBatch(),
  });

let mirror: Mirror;
const state = log.state();
if (state === null) {
  mirror = createMirror(options);
  append(1, mirror.sizePages);
} else {
  const opened = Mirror.open(options, state.batchId);
  if (!(opened instanceof Mirror)) throw new Error(opened.invalid);
  mirror = opened;
}
let isReady = false;
for (const batch of batchesOf(seed, count)) {
  if (batch.id <= (state?.batchId ?? 1)) continue;
  takeBatch(mirror, batch);
  append(batch.id, mirror.sizePages);
  await mirror.afterLogCommit();
  // Each life takes one at least.
  if (!isReady) process.stdout.write('ready\n');
  isReady = true;
  if (batch.id % 2 === 0) await new Promise((resolve) => setImmediate(resolve));
}
process.stdout.write('done\n');
setInterval(() => {}, 1000);
