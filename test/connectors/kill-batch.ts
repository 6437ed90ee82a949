/** What the runner that is killed applies: batch n sets all 100 rows of `killed` to n, adds n to `history`, in parts, and has the checkpoint n. */
import type { Batch } from '../../src/pipeline/sink.ts';
import { batchOf, checkpointAt, remove, sinkTable, upsert } from './sink-changes.ts';

const killed = sinkTable('killed', [
  { name: 'id', type: 'INTEGER', key: true, alwaysInteger: true },
  { name: 'n', type: 'INTEGER' },
]);
const history = sinkTable('history', [
  { name: 'n', type: 'INTEGER', key: true, alwaysInteger: true },
  { name: 'gone', type: 'INTEGER' },
]);

/** Changes of a batch, and more. */
const SEQS = 1000;

/** `integer`: in the form that the sink asks for. Every process gives the changes of a batch the same seqs. */
export const killBatch = (n: number, integer: (value: number) => number | bigint): Batch => {
  const parts = Array.from({ length: 4 }, (_, part) =>
    Array.from({ length: 25 }, (_row, row) => upsert(killed, [integer(part * 25 + row), integer(n)])),
  );
  let seq = n * SEQS;
  const numbered = [[upsert(history, [integer(n), integer(0)])], ...parts, [remove(history, [integer(n - 10)])]].map((part) =>
    part.map((change) => ({ ...change, source: { ...change.source, seq: (seq += 1) } })),
  );
  return batchOf(numbered, checkpointAt(n));
};
