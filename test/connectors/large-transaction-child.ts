/**
 * A runner that brings a new sink from the begin of a log to its head, without a first fill. `node large-transaction-child.ts LOG TYPE OPTIONS STATE_DIR`.
 * Prints the seq of its checkpoint and the most memory that it took.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { CONNECTORS } from '../../connectors/registry.ts';
import { LogReader } from '../../src/log/log-reader.ts';
import { SinkRunner } from '../../src/pipeline/runner.ts';
import { SinkStore } from '../../src/pipeline/sink-store.ts';
import { HeadNotice } from '../../src/stream/head-notice.ts';
import { batchOf, contextOf } from './sink-changes.ts';

const [logPath = '', type = '', options = '', stateDir = ''] = process.argv.slice(2);

export interface LargeTransactionResult {
  readonly seq: number | null;
  readonly error: string | null;
  readonly peakBytes: number;
}

mkdirSync(stateDir, { recursive: true });
const createSink = await CONNECTORS[type]!.load();
const sink = createSink(CONNECTORS[type]!.options.parse(JSON.parse(options)));
using reader = LogReader.open(logPath);
const { logId, term } = reader.info();
await sink.open(contextOf('large', stateDir));
await sink.apply(batchOf([], { logId, term, seq: 0, txid: '', fill: null }));
await sink.close();
const store = SinkStore.open(join(stateDir, 'sinks.db'));
const runner = new SinkRunner({
  name: 'large',
  hive: 'hive',
  sink,
  logPath,
  head: new HeadNotice(),
  rows: null,
  mapping: {},
  fill: false,
  store,
  deadLetters: null,
  verifyEveryMs: null,
  stateDir,
  logger: pino({ level: 'silent' }),
  drainMs: 3_600_000,
});
await runner.run(AbortSignal.abort());
const { checkpoint, error } = runner.status;
store.close();
const result: LargeTransactionResult = {
  seq: checkpoint?.seq ?? null,
  error: error === null ? null : `${error.code} ${error.message}`,
  peakBytes: process.resourceUsage().maxRSS * 1024,
};
process.stdout.write(`${JSON.stringify(result)}\n`);
