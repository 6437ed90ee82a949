/** Applies batch after batch (`kill-batch.ts`) until it is killed. `node kill-child.ts TYPE OPTIONS STATE_DIR`. Says `ready` when it applies. */
import { CONNECTORS } from '../../connectors/registry.ts';
import { killBatch } from './kill-batch.ts';
import { contextOf } from './sink-changes.ts';

const [type = '', options = '', stateDir = ''] = process.argv.slice(2);

const createSink = await CONNECTORS[type]!.load();
const sink = createSink(CONNECTORS[type]!.options.parse(JSON.parse(options)));
const integer = (value: number): number | bigint => (sink.integers === 'bigint' ? BigInt(value) : value);
const checkpoint = await sink.open(contextOf('killed', stateDir));
process.stdout.write('ready\n');
for (let n = (checkpoint?.seq ?? 0) + 1; ; n += 1) await sink.apply(killBatch(n, integer));
