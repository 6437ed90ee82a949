/**
 * The floor of every latency here: watches the hive's directory and prints the number of the newest frame as soon as the wal-index
 * tells of it. No decoding, no log. `argv[2]`: the hive. Says 'ready' on stderr.
 */
import { watch } from 'node:fs';
import { dirname } from 'node:path';
import { WalIndexReader } from '../src/hive/wal-index-reader.ts';

const hive = process.argv[2]!;
const index = new WalIndexReader(hive);
let last = -1;
let askedAt = performance.now();
const look = (): void => {
  const header = index.read();
  if (typeof header === 'object' && header.mxFrame !== last) {
    last = header.mxFrame;
    process.stdout.write(`${last}\n`);
  }
  // A notice comes before the commit is published: asked again for a moment, as capture does.
  if (performance.now() - askedAt < 1) setImmediate(look);
};
watch(dirname(hive), () => {
  askedAt = performance.now();
  look();
});
// The last notice of all may come too early: that one commit is then seen late.
setInterval(look, 100);
process.stderr.write('ready\n');
