import { expect, test } from 'vitest';
import type { Change } from '../../src/change/change.ts';
import { type TableFilter, TableMapping } from '../../src/pipeline/mapping.ts';
import type { SinkChange } from '../../src/pipeline/sink.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { watchTransactions } from '../../src/stream/watch.ts';
import { LoggedDatabase } from '../helpers/logged-database.ts';
import { Random } from '../helpers/random.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';

const watching = (filter: TableFilter): ((change: Change) => SinkChange | null) => {
  const mapping = new TableMapping({ filters: [filter] });
  return (change) => mapping.change(change);
};

test('gives typed events, disposes of capture when the loop is left, throws what ended capture', async () => {
  using directory = temporaryDirectory();
  using source = new LoggedDatabase(directory.path);
  const random = new Random(1);
  source.seed(random, 5);
  let disposed = 0;
  const delivered: number[] = [];
  const failed = new AbortController();
  const options = (tables = {}) => ({
    project: watching(tables),
    start: async () => ({
      logPath: source.logPath,
      head: source.head,
      failed: failed.signal,
      delivered: (seq: number) => void delivered.push(seq),
      [Symbol.asyncDispose]: async () => {
        disposed += 1;
      },
    }),
    context: { hive: 'app', version: '0.1.0' },
    after: 0,
  });
  for (let index = 0; index < 30; index += 1) source.commit(random, 3);
  const seqs: (number | null)[] = [];
  for await (const transaction of watchTransactions(options())) {
    for (const event of transaction.events()) {
      seqs.push(event.seq);
      expect(event.transaction?.id).toBe(transaction.txid);
      expect(event.before === null).toBe(event.op === 'c');
    }
    if (transaction.lastSeq === source.writer.headSeq) break;
  }
  expect(seqs).toEqual(seqs.map((_, index) => index + 1));
  expect(disposed).toBe(1);
  // The one at which the loop was left was not asked beyond.
  expect(delivered.length).toBeGreaterThan(10);
  expect(delivered.at(-1)).toBeLessThan(source.writer.headSeq);

  for await (const transaction of watchTransactions(options({ include: ['notes'] }))) {
    const tables = [...transaction.events()].map((event) => event.source.table);
    expect(new Set(tables)).toEqual(new Set(['notes']));
    if (transaction.lastSeq > source.writer.headSeq - 20) break;
  }

  const ended = watchTransactions({ ...options(), after: 'now' as const }).next();
  failed.abort(new WaggleError('CAPTURE_DIED', 'gone'));
  await expect(ended).rejects.toMatchObject({ code: 'CAPTURE_DIED' });
  expect(disposed).toBe(3);
});
