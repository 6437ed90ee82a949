/**
 * Applies batch after batch until it is killed. `node kill-child.ts TYPE OPTIONS STATE_DIR`. Batch n sets all 100 rows of
 * `killed` to n, adds n to `history`, in parts, and has the checkpoint n. Says `ready` when it applies.
 */
import { CONNECTORS } from '../../connectors/registry.ts';
import { batchOf, checkpointAt, contextOf, remove, sinkTable, upsert } from './sink-changes.ts';

const [type = '', options = '', stateDir = ''] = process.argv.slice(2);
const killed = sinkTable('killed', [
  { name: 'id', type: 'INTEGER', key: true, alwaysInteger: true },
  { name: 'n', type: 'INTEGER' },
]);
const history = sinkTable('history', [
  { name: 'n', type: 'INTEGER', key: true, alwaysInteger: true },
  { name: 'gone', type: 'INTEGER' },
]);

const createSink = await CONNECTORS[type]!.load();
const sink = createSink(CONNECTORS[type]!.options.parse(JSON.parse(options)));
const value = (number: number): number | bigint => (sink.integers === 'bigint' ? BigInt(number) : number);
const checkpoint = await sink.open(contextOf('killed', stateDir));
process.stdout.write('ready\n');
for (let n = (checkpoint?.seq ?? 0) + 1; ; n += 1) {
  const parts = Array.from({ length: 4 }, (_, part) => Array.from({ length: 25 }, (_row, row) => upsert(killed, [value(part * 25 + row), value(n)])));
  await sink.apply(batchOf([[upsert(history, [value(n), value(0)])], ...parts, [remove(history, [value(n - 10)])]], checkpointAt(n)));
}
