import { type ChildProcess, execFileSync, fork, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { LogReader } from '../../src/log/log-reader.ts';
import { LogWriter } from '../../src/log/log-writer.ts';
import { LogFollower } from '../../src/stream/log-follower.ts';
import { Random } from '../helpers/random.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';

const SCRIPT = join(import.meta.dirname, '../helpers/log-writer-process.ts');
const start = (path: string, batches?: number): ChildProcess =>
  fork(SCRIPT, batches === undefined ? [path] : [path, String(batches)], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });

/** Each transaction follows the one before and holds what its frame says. */
const checkedTransactions = (reader: LogReader, after: { seq: number; frame: number }): { seq: number; frame: number } => {
  let { seq, frame } = after;
  for (;;) {
    const page = reader.transactionsAfter(seq);
    if (page.length === 0) return { seq, frame };
    for (const { info } of page) {
      expect(info.firstSeq).toBe(seq + 1);
      expect(info.frame).toBe(frame + 1);
      ({ lastSeq: seq, frame } = info);
    }
    for (const transaction of page) {
      const changes = [...transaction.changes()].flat();
      const { frame: own, firstSeq } = transaction.info;
      expect(changes.map((change) => change.seq)).toEqual(changes.map((_, index) => firstSeq + index));
      expect(
        changes.every((change) => change.op === 'c' && change.after?.rowid === own && change.after.record.every((byte) => byte === own % 256)),
      ).toBe(true);
    }
  }
};

describe('another process writes', () => {
  test('a follower sees every transaction once, in order, while they are appended', async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, 'log.db');
    const child = start(path, 400);
    await once(child, 'message');
    using reader = LogReader.open(path);
    const stop = new AbortController();
    const follower = new LogFollower({ reader, after: 0, signal: stop.signal, pollMs: 5 });
    let head = 0;
    child.on('message', (message: { head: number }) => {
      head = message.head;
    });
    const exited = once(child, 'exit');
    let seq = 0;
    void exited.then(() => {
      if (seq >= head) stop.abort();
    });
    for await (const { info } of follower) {
      expect(info.firstSeq).toBe(seq + 1);
      seq = info.lastSeq;
      if (child.exitCode !== null && seq >= head) break;
    }
    await exited;
    expect(seq).toBe(reader.head().seq);
    expect(checkedTransactions(reader, { seq: 0, frame: 0 }).seq).toBe(seq);
  });

  test('SIGKILL at random instants: nothing told is lost, nothing is half, seq has no gap', async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, 'log.db');
    const random = new Random(Date.now());
    let place = { seq: 0, frame: 0 };
    for (let round = 0; round < 12; round += 1) {
      const child = start(path);
      let told = { head: 0, frame: 0 };
      let messages = 0;
      const wanted = 1 + random.int(150);
      const enough = new Promise<void>((resolve) => {
        child.on('message', (message: { head: number; frame: number }) => {
          told = message;
          messages += 1;
          if (messages === wanted) resolve();
        });
      });
      await enough;
      child.kill('SIGKILL');
      await once(child, 'exit');
      using writer = LogWriter.open({ path, durability: 'os', hive: { path: '/hive' } });
      expect(writer.headSeq).toBeGreaterThanOrEqual(told.head);
      using reader = LogReader.open(path);
      place = checkedTransactions(reader, place);
      expect(place.seq).toBe(writer.headSeq);
      expect(writer.state()?.position.frame).toBe(place.frame);
    }
  });
});

const canMount = process.platform === 'linux' && spawnSync('unshare', ['-rm', 'true']).status === 0;

test.skipIf(!canMount)('a full disk is DISK_FULL, and the log goes on when there is space again (needs unshare)', () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, 'small', 'log.db');
  const script = `mkdir "$1/small" && mount -t tmpfs -o size=600k tmpfs "$1/small"
    "$2" "$3" "$1/small/log.db" 100000
    mount -o remount,size=60m "$1/small" && "$2" "$3" "$1/small/log.db" 50 && cp "$1"/small/log.db* "$1"/`;
  const output = (() => {
    try {
      return execFileSync('unshare', ['-rm', 'sh', '-c', script, 'sh', directory.path, process.execPath, SCRIPT], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'inherit'],
      });
    } catch (error) {
      throw new Error(`the second run failed for ${path}`, { cause: error });
    }
  })();
  expect(output.trim()).toBe('DISK_FULL');
  using reader = LogReader.open(join(directory.path, 'log.db'));
  const { seq } = checkedTransactions(reader, { seq: 0, frame: 0 });
  expect(seq).toBe(reader.head().seq);
  expect(seq).toBeGreaterThan(300);
});
