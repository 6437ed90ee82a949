/** Capture beside several writing processes, and frames as other settings of SQLite write them (docs/named-cases.md). */
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { expect, it } from 'vitest';
import { Replica } from '../../src/capture/replica.ts';
import { mirrorSnapshot } from '../../src/capture/recovery.ts';
import { HiveSnapshot } from '../../src/hive/hive-snapshot.ts';
import { WalIndexReader } from '../../src/hive/wal-index-reader.ts';
import { WalTail } from '../../src/hive/wal-tail.ts';
import { FRAME_HEADER_BYTES, frameChecksum, frameOffset, parseWalHeader, WAL_HEADER_BYTES } from '../../src/sqlite/wal.ts';
import { CaptureRunScene } from '../helpers/capture-run-scene.ts';
import { readLogHistory } from '../helpers/log-history.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';
import { WalWriter } from '../helpers/wal-writer.ts';

const PAGE_SIZE = 4096;

it('four writers of 25 transactions each at once: every one of them, whole, in commit order', { timeout: 60_000 }, async () => {
  await using scene = await CaptureRunScene.open();
  await scene.writer.exec('CREATE TABLE w (id TEXT PRIMARY KEY, writer, number, before)');
  const run = scene.run();
  expect(await run.ready()).not.toBeNull();
  await using stack = new AsyncDisposableStack();
  const writers = [1, 2, 3, 4].map((number) => ({ number, writer: stack.use(new WalWriter(scene.hive)) }));
  await Promise.all(
    writers.map(async ({ number, writer }) => {
      await writer.exec('PRAGMA busy_timeout = 20000');
      for (let step = 1; step <= 25; step += 1) {
        // Two rows that belong together, and how many stood before them: the order of commits.
        const row = (part: string): string => `INSERT INTO w SELECT '${number}-${step}-${part}', ${number}, ${step}, count(*) FROM w`;
        await writer.exec(`BEGIN IMMEDIATE; ${row('a')}; ${row('b')}; COMMIT`);
      }
    }),
  );
  expect(await run.stop()).toBeNull();
  expect(scene.check().recovered).toBe(0);
  const { transactions } = readLogHistory(scene.log);
  const stood = transactions.map(({ changes }) => changes.map((change) => (change.op === 'c' ? Number(change.after?.values()[3]) : null)));
  expect(stood).toEqual(Array.from({ length: 100 }, (_, index) => [index * 2, index * 2 + 1]));
});

it('the schema changes under load: every row between the two versions that it belongs to', { timeout: 60_000 }, async () => {
  await using scene = await CaptureRunScene.open();
  await scene.writer.exec('CREATE TABLE s (id INTEGER PRIMARY KEY, v)');
  const run = scene.run();
  expect(await run.ready()).not.toBeNull();
  await using altering = new WalWriter(scene.hive);
  await altering.exec('PRAGMA busy_timeout = 20000');
  await scene.writer.exec('PRAGMA busy_timeout = 20000');
  const done = new AbortController();
  const load = async (): Promise<number> => {
    let id = 0;
    for (; !done.signal.aborted; id += 1)
      await scene.writer.exec(`INSERT INTO s (id, v) VALUES (${id}, 'row'); UPDATE s SET v = 'old' WHERE id = ${id - 5}`);
    return id;
  };
  const rows = load();
  for (let step = 0; step < 12; step += 1) {
    await altering.exec(`ALTER TABLE s ADD COLUMN c${step} DEFAULT ${step}`);
    await altering.exec(`CREATE TABLE n${step} AS SELECT * FROM s`);
    if (step % 3 === 2) await altering.exec(`ALTER TABLE s DROP COLUMN c${step - 1}; DROP TABLE n${step - 1}; VACUUM`);
  }
  done.abort();
  expect(await rows).toBeGreaterThan(10);
  expect(await run.stop()).toBeNull();
  expect(scene.check().recovered).toBe(0);
});

/** The WAL with each commit frame `times` more often, as SQLite pads it to whole sectors where a disk does not write less. */
const padded = (wal: Buffer, times: number): Buffer => {
  const { bigEndianChecksums, ...header } = parseWalHeader(wal)!;
  const frames: Buffer[] = [];
  let running = { checksum1: header.checksum1, checksum2: header.checksum2 };
  for (let at = WAL_HEADER_BYTES; at < wal.length; at += FRAME_HEADER_BYTES + PAGE_SIZE) {
    const isCommit = wal.readUInt32BE(at + 4) !== 0;
    for (let copies = isCommit ? times + 1 : 1; copies > 0; copies -= 1) {
      const frame = Buffer.from(wal.subarray(at, at + FRAME_HEADER_BYTES + PAGE_SIZE));
      running = frameChecksum(frame, 0, PAGE_SIZE, bigEndianChecksums, running);
      frame.writeUInt32BE(running.checksum1, 16);
      frame.writeUInt32BE(running.checksum2, 20);
      frames.push(frame);
    }
  }
  return Buffer.concat([wal.subarray(0, WAL_HEADER_BYTES), ...frames]);
};

it.each([0, 1, 3])('a commit frame that is repeated %i times as sector padding is no change', async (times) => {
  using directory = temporaryDirectory();
  const made = join(directory.path, 'made.db');
  const hive = join(directory.path, 'hive.db');
  const writer = new Database(made);
  for (const pragma of ['journal_mode = WAL', 'wal_autocheckpoint = 0']) writer.pragma(pragma);
  writer.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, v); PRAGMA wal_checkpoint(TRUNCATE)');
  for (let id = 1; id <= 5; id += 1) writer.exec(`INSERT INTO t VALUES (${id}, zeroblob(${id * 3000}))`);
  copyFileSync(made, hive);
  writeFileSync(`${hive}-wal`, padded(readFileSync(`${made}-wal`), times));
  writer.close();

  // SQLite takes it for what it is.
  const application = new Database(hive);
  expect(application.prepare('SELECT count(*) FROM t').pluck().get()).toBe(5);
  using index = new WalIndexReader(hive);
  const header = index.read();
  if (typeof header === 'string') throw new Error(header);
  expect(frameOffset(header.mxFrame + 1, PAGE_SIZE)).toBe(readFileSync(`${hive}-wal`).length);
  using empty = HiveSnapshot.open(hive, { ...header, mxFrame: 0, complete: true });
  const options = { directory: join(directory.path, 'mirror'), pageSize: PAGE_SIZE, durability: 'os', makeLogDurable: () => {} } as const;
  await using mirror = mirrorSnapshot(empty, options, 1);
  const replica = Replica.read(mirror, { captured: () => true, known: null, firstVersion: 1 });
  using tail = new WalTail({
    hive,
    pageSize: PAGE_SIZE,
    position: { epoch: 1, frame: 0, salt1: 0, salt2: 0, checksum1: 0, checksum2: 0 },
    generation: 1,
  });
  tail.generationBegun(1, header);
  const counts: number[] = [];
  for (let next = tail.next(1 << 20); next !== null; next = tail.next(1 << 20)) {
    counts.push(replica.apply(next).changes.count);
    mirror.commit(counts.length + 1);
  }
  expect(counts).toEqual([1, 2, 3, 4, 5].flatMap(() => [1, ...Array.from({ length: times }, () => 0)]));
  application.close();
});
