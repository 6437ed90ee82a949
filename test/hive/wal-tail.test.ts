/** The tail over a real WAL that another process writes: generations, spool, large transactions, what has gone. */
import { copyFileSync, mkdirSync, openSync, closeSync, truncateSync, writeFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { WalIndexReader } from '../../src/hive/wal-index-reader.ts';
import { WalTail } from '../../src/hive/wal-tail.ts';
import { FramesMoved, RESIDENT_BYTES } from '../../src/hive/wal-transaction.ts';
import { writeSpoolSegment } from '../../src/keeper/spool.ts';
import type { WalIndexHeader } from '../../src/sqlite/wal-index.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';
import { WalWriter } from '../helpers/wal-writer.ts';

const PAGE_SIZE = 4096;
const START = { epoch: 1, frame: 0, salt1: 0, salt2: 0, checksum1: 0, checksum2: 0 };

class Scene implements AsyncDisposable {
  readonly #directory = temporaryDirectory();
  readonly path = join(this.#directory.path, 'db');
  readonly spool = join(this.#directory.path, 'spool');
  readonly writer = new WalWriter(this.path);
  #serial = 0;

  static async open(): Promise<Scene> {
    const scene = new Scene();
    mkdirSync(scene.spool);
    await scene.writer.exec(
      'PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (id INTEGER PRIMARY KEY, v); PRAGMA wal_checkpoint(TRUNCATE)',
    );
    return scene;
  }

  header(): WalIndexHeader {
    using index = new WalIndexReader(this.path);
    const header = index.read();
    if (typeof header === 'string') throw new Error(header);
    return header;
  }

  tail(position = START, generation = 1): WalTail {
    return new WalTail({ hive: this.path, pageSize: PAGE_SIZE, position, generation });
  }

  /** What the keeper does before a hand-over. */
  spoolFrames(tail: WalTail, generation: number, firstFrame: number): number {
    const { mxFrame, salt1, salt2 } = this.header();
    const walFd = openSync(`${this.path}-wal`, 'r');
    const segment = writeSpoolSegment({
      dir: this.spool,
      serial: (this.#serial += 1),
      walFd,
      pageSize: PAGE_SIZE,
      firstFrame,
      lastFrame: mxFrame,
      salt1,
      salt2,
      previous: null,
    });
    closeSync(walFd);
    tail.framesSpooled({ generation, firstFrame, lastFrame: mxFrame, path: segment.path });
    tail.generationEnded(generation, mxFrame);
    return mxFrame;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.writer[Symbol.asyncDispose]();
    this.#directory[Symbol.dispose]();
  }
}

interface Taken {
  readonly txid: string;
  readonly frame: number;
  readonly pages: readonly number[];
  readonly images: ReadonlyMap<number, Buffer>;
}

/** One batch of the tail, copied: its transactions live until the next is asked for. */
const batchOf = (tail: WalTail, maxBytes = 1 << 20): Taken[] => {
  const batch: Taken[] = [];
  for (let next = tail.next(maxBytes); next !== null; next = tail.next(maxBytes)) {
    const transaction = next;
    const { epoch, frame, pages } = transaction;
    const image = (page: number): Buffer => Buffer.from(transaction.image(page));
    batch.push({ txid: `${epoch}:${frame}`, frame, pages: [...pages], images: new Map(pages.map((page) => [page, image(page)])) });
  }
  return batch;
};

const txidsOf = (batch: readonly Taken[]): string[] => batch.map(({ txid }) => txid);

describe('WalTail', () => {
  it('gives whole transactions, nothing of an open or rolled-back one, and knows when it has all', async () => {
    await using scene = await Scene.open();
    using tail = scene.tail();
    expect([batchOf(tail), tail.isCaughtUp()]).toEqual([[], true]);
    await scene.writer.exec('INSERT INTO t VALUES (1, zeroblob(10000)); INSERT INTO t VALUES (2, 2)');
    // The keeper has not told of the generation yet: salts alone prove nothing.
    expect([batchOf(tail), tail.isCaughtUp()]).toEqual([[], false]);
    tail.generationBegun(1, scene.header());
    const found = batchOf(tail);
    expect(found.length).toBe(2);
    expect(found[1]!.frame).toBe(scene.header().mxFrame);
    expect(new Set(found[0]!.pages).size).toBe(found[0]!.pages.length);
    await scene.writer.exec('PRAGMA cache_size = 5; BEGIN; UPDATE t SET v = zeroblob(200000)');
    expect(batchOf(tail)).toEqual([]);
    await scene.writer.exec('ROLLBACK');
    expect([batchOf(tail), tail.isCaughtUp()]).toEqual([[], true]);
    await scene.writer.exec('INSERT INTO t VALUES (3, 3)');
    expect(txidsOf(batchOf(tail))).toEqual([`1:${scene.header().mxFrame}`]);
    expect(tail.position).toMatchObject({ epoch: 1, frame: scene.header().mxFrame, checksum1: scene.header().checksum1 });
  });

  it('a transaction that is read in many pieces is one transaction, with the last image of each page', async () => {
    await using scene = await Scene.open();
    using tail = scene.tail();
    await scene.writer.exec(
      `PRAGMA cache_size = 5; BEGIN; INSERT INTO t VALUES (1, zeroblob(400000)); UPDATE t SET v = randomblob(400000); INSERT INTO t VALUES (2, 'end'); COMMIT; INSERT INTO t VALUES (9, 9)`,
    );
    tail.generationBegun(1, scene.header());
    const found: Taken[] = [];
    for (let batch = batchOf(tail, 5 * PAGE_SIZE); batch.length > 0; batch = batchOf(tail, 5 * PAGE_SIZE)) found.push(...batch);
    expect(found.length).toBe(2);
    const wal = readFileSync(`${scene.path}-wal`);
    const last = new Map<number, number>();
    for (let frame = 1; frame <= found[0]!.frame; frame += 1) last.set(wal.readUInt32BE(32 + (frame - 1) * (PAGE_SIZE + 24)), frame);
    expect(new Set(found[0]!.images.keys())).toEqual(new Set(last.keys()));
    for (const [page, frame] of last) {
      const offset = 32 + (frame - 1) * (PAGE_SIZE + 24) + 24;
      expect(found[0]!.images.get(page)!.equals(wal.subarray(offset, offset + PAGE_SIZE))).toBe(true);
    }
  });

  it('goes from generation to generation, through the spool where the WAL was handed over, over empty ones too', async () => {
    await using scene = await Scene.open();
    using tail = scene.tail();
    await scene.writer.exec('INSERT INTO t VALUES (1, 1)');
    tail.generationBegun(1, scene.header());
    expect(batchOf(tail).length).toBe(1);
    const taken = tail.position.frame;
    await scene.writer.exec('INSERT INTO t VALUES (2, 2); INSERT INTO t VALUES (3, zeroblob(50000))');
    const end = scene.spoolFrames(tail, 1, taken + 1);
    await scene.writer.exec('PRAGMA wal_checkpoint(TRUNCATE); INSERT INTO t VALUES (4, 4)');
    expect(tail.isCaughtUp()).toBe(false);
    expect(txidsOf(batchOf(tail))).toEqual([`1:${taken + 1}`, `1:${end}`]);
    expect(batchOf(tail)).toEqual([]);
    // Generation 2 never got a frame, says the keeper; then comes 3.
    tail.generationEnded(2, 0);
    tail.generationBegun(3, scene.header());
    expect(txidsOf(batchOf(tail))).toEqual([`3:${scene.header().mxFrame}`]);
    expect([tail.generation, tail.isCaughtUp()]).toEqual([3, true]);
  });

  it('a reset that the keeper has not told of gives nothing; frames that are nowhere are PIN_LOST', async () => {
    await using scene = await Scene.open();
    using tail = scene.tail();
    await scene.writer.exec('INSERT INTO t VALUES (1, 1)');
    tail.generationBegun(1, scene.header());
    batchOf(tail);
    await scene.writer.exec('INSERT INTO t VALUES (2, 2); PRAGMA wal_checkpoint(RESTART); INSERT INTO t VALUES (3, 3)');
    expect([batchOf(tail), tail.isCaughtUp()]).toEqual([[], false]);
    tail.generationEnded(1, tail.position.frame + 1);
    expect(() => batchOf(tail)).toThrow(expect.objectContaining({ code: 'PIN_LOST' }));
  });

  it('resumes behind a position and proves every frame; a flipped bit is HIVE_CORRUPT', async () => {
    await using scene = await Scene.open();
    await scene.writer.exec('INSERT INTO t VALUES (1, 1)');
    const { mxFrame, salt1, salt2, checksum1, checksum2 } = scene.header();
    const position = { epoch: 4, frame: mxFrame, salt1, salt2, checksum1, checksum2 };
    await scene.writer.exec('INSERT INTO t VALUES (2, zeroblob(20000)); INSERT INTO t VALUES (3, 3)');
    using tail = scene.tail(position);
    expect(txidsOf(batchOf(tail)).at(-1)).toBe(`4:${scene.header().mxFrame}`);
    const wal = readFileSync(`${scene.path}-wal`);
    const at = 32 + (mxFrame + 1) * (PAGE_SIZE + 24) + 3000;
    wal[at] = wal[at]! ^ 1;
    writeFileSync(`${scene.path}-wal`, wal);
    using damaged = scene.tail(position);
    expect(() => batchOf(damaged)).toThrow(expect.objectContaining({ code: 'HIVE_CORRUPT' }));
    using other = scene.tail({ ...position, checksum1: 1 });
    expect(() => batchOf(other)).toThrow(expect.objectContaining({ code: 'HIVE_CORRUPT' }));
  });

  it('a transaction that is too large for memory is read again: from the WAL, then from the spool, else FramesMoved', async () => {
    await using scene = await Scene.open();
    using tail = scene.tail();
    const megabytes = Math.ceil(RESIDENT_BYTES / (1 << 20)) + 4;
    await scene.writer.exec(`PRAGMA synchronous = OFF; INSERT INTO t VALUES (1, randomblob(${megabytes} * 1048576))`);
    tail.generationBegun(1, scene.header());
    const large = tail.next(2 << 20);
    expect([large!.isResident, large!.frame]).toEqual([false, scene.header().mxFrame]);
    const wal = readFileSync(`${scene.path}-wal`);
    const check = (): void => {
      for (let frame = 3; frame <= large!.frame; frame += 1999) {
        const offset = 32 + (frame - 1) * (PAGE_SIZE + 24);
        expect(large!.image(wal.readUInt32BE(offset)).equals(wal.subarray(offset + 24, offset + 24 + PAGE_SIZE))).toBe(true);
      }
    };
    check();
    copyFileSync(`${scene.path}-wal`, `${scene.path}-copy`);
    await scene.writer.exec('PRAGMA wal_checkpoint(RESTART); INSERT INTO t VALUES (2, 2)');
    expect(() => large!.image(large!.pages[5]!)).toThrow(FramesMoved);
    // As if the keeper had copied the frames before it let the WAL go.
    const { salt1, salt2 } = { salt1: wal.readUInt32BE(16), salt2: wal.readUInt32BE(20) };
    const walFd = openSync(`${scene.path}-copy`, 'r');
    const { path } = writeSpoolSegment({
      dir: scene.spool,
      serial: 1,
      walFd,
      pageSize: PAGE_SIZE,
      firstFrame: 1,
      lastFrame: large!.frame,
      salt1,
      salt2,
      previous: null,
    });
    closeSync(walFd);
    tail.framesSpooled({ generation: 1, firstFrame: 1, lastFrame: large!.frame, path });
    tail.generationEnded(1, large!.frame);
    check();
    tail.generationBegun(2, scene.header());
    // The batch is over; the next one begins behind it.
    expect(tail.next(1 << 20)).toBeNull();
    expect(txidsOf(batchOf(tail))).toEqual([`2:${scene.header().mxFrame}`]);
  });

  it('a WAL that was cut off below mxFrame gives nothing', async () => {
    await using scene = await Scene.open();
    using tail = scene.tail();
    await scene.writer.exec('INSERT INTO t VALUES (1, 1)');
    tail.generationBegun(1, scene.header());
    truncateSync(`${scene.path}-wal`, 100);
    expect(batchOf(tail)).toEqual([]);
  });
});
