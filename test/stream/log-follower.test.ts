import { expect, test } from 'vitest';
import { LogReader } from '../../src/log/log-reader.ts';
import { HeadNotice } from '../../src/stream/head-notice.ts';
import { LogFollower } from '../../src/stream/log-follower.ts';
import { LoggedDatabase } from '../helpers/logged-database.ts';
import { Random } from '../helpers/random.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';

test('wakes by the notice alone, gives each transaction once, ends with the signal', async () => {
  using directory = temporaryDirectory();
  using source = new LoggedDatabase(directory.path);
  using reader = LogReader.open(source.logPath);
  const random = new Random(1);
  const stop = new AbortController();
  // The poll is farther away than the test's end.
  const follower = new LogFollower({ reader, after: 0, head: source.head, pollMs: 1_000_000, signal: stop.signal, limits: { maxTransactions: 2 } });
  const seen: number[] = [];
  const expected: number[] = [];
  const commit = (): void => {
    const before = source.writer.headSeq;
    while (source.writer.headSeq === before) source.commit(random);
    expected.push(source.writer.headSeq);
  };
  const done = (async () => {
    for await (const { info } of follower) {
      seen.push(info.lastSeq);
      if (seen.length === 20) stop.abort();
      else if (seen.length >= 10) commit();
    }
  })();
  for (let index = 0; index < 10; index += 1) commit();
  await done;
  expect(seen).toEqual(expected.slice(0, 20));
});

test('starts behind any seq, and polls where no notice comes', async () => {
  using directory = temporaryDirectory();
  using source = new LoggedDatabase(directory.path);
  using reader = LogReader.open(source.logPath);
  const random = new Random(2);
  for (let index = 0; index < 10; index += 1) source.commit(random, 6);
  const after = source.writer.headSeq;
  const follower = new LogFollower({ reader, after, pollMs: 1 })[Symbol.asyncIterator]();
  const next = follower.next();
  while (source.writer.headSeq === after) source.commit(random);
  expect((await next).value?.info.firstSeq).toBe(after + 1);
  await follower.return();
});

test('a wait ends by the notice, by the time, by the signal; and not by an older head', async () => {
  const head = new HeadNotice();
  head.notify(5);
  await head.waitBehind(4, { timeoutMs: 1_000_000 });
  let over = false;
  const waiting = head.waitBehind(5, { timeoutMs: 1_000_000 }).then(() => {
    over = true;
  });
  head.notify(5);
  await new Promise((resolve) => setImmediate(resolve));
  expect(over).toBe(false);
  head.notify(6);
  await waiting;
  await head.waitBehind(6, { timeoutMs: 1 });
  await head.waitBehind(6, { timeoutMs: 1_000_000, signal: AbortSignal.abort() });
  const stop = new AbortController();
  const stopped = head.waitBehind(6, { timeoutMs: 1_000_000, signal: stop.signal });
  stop.abort();
  await stopped;
});
