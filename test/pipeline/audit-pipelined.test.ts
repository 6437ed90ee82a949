/** A target that can be asked again before it has answered is asked so; what it tells is put down to the right rows all the same. */
import { expect, test } from 'vitest';
import { Row } from '../../src/change/row.ts';
import { Audit, type AuditHost } from '../../src/pipeline/audit.ts';
import { chunkParts } from '../../src/pipeline/batch-parts.ts';
import { TableMapping } from '../../src/pipeline/mapping.ts';
import type { RowDifferences } from '../../src/pipeline/sink.ts';
import { ITEMS } from '../helpers/logged-database.ts';
import { encodeRecord } from '../helpers/record-encoder.ts';

const ROWS = 12_000;
const CHANGED = [3, 6000, 11_000];

test.each([
  { pipelined: true, mends: false, most: 2 },
  { pipelined: true, mends: true, most: 1 },
  { pipelined: false, mends: false, most: 1 },
])('pipelined $pipelined, mends $mends: $most questions at once', async ({ pipelined, mends, most }) => {
  const mapping = new TableMapping({ wants: 'states' });
  const rows = Array.from({ length: ROWS }, (_, id) => new Row(ITEMS, id, encodeRecord([null, 'n', BigInt(id)]), 'utf8'));
  const asOf = { seq: 0, txid: '' };
  const waiting: (() => void)[] = [];
  let atOnce = 0;
  const host: AuditHost = {
    rows: { readRows: () => Promise.resolve({ table: ITEMS, rows, asOf, generation: '0', done: true, share: 1 }) },
    target: {
      ...(pipelined ? { pipelined } : {}),
      compare: async (_table, values): Promise<RowDifferences> => {
        const answered = Promise.withResolvers<void>();
        waiting.push(answered.resolve);
        atOnce = Math.max(atOnce, waiting.length);
        // Answered when nobody asks any more, or when another question stands behind it.
        if (waiting.length > 1) waiting.shift()!();
        else setImmediate(() => setImmediate(() => setImmediate(() => waiting.shift()?.())));
        await answered.promise;
        return { missing: [], changed: [...values.keys()].filter((index) => CHANGED.includes(Number(values[index]![0]))) };
      },
      count: () => Promise.resolve(ROWS),
      keys: () => Promise.resolve([]),
    },
    mapping,
    reach: () => Promise.resolve(true),
    catchUp: () => Promise.resolve(),
    mend: () => Promise.resolve(),
    fillChanges: (chunk, some, { begin }) =>
      [...chunkParts({ ...chunk, rows: some }, { mapping, wants: 'states', begin, empty: false, timestampUs: 0 })].flat(),
    isDeadLetter: () => false,
  };
  const audit = new Audit(host, ['items'], { mends, values: false });
  for (let finished = false; !finished;) finished = await audit.step();
  expect(atOnce).toBe(most);
  expect(audit.result.tables).toMatchObject([{ rows: ROWS, missing: 0, changed: CHANGED.length, surplus: 0 }]);
  expect(audit.result.first.map(({ key }) => key['id'])).toEqual(CHANGED);
});
