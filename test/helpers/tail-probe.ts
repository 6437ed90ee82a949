/**
 * A small capture for tests of the keeper: follows its messages, reads the frames from the live WAL or the spool, proves
 * every checksum, replays the pages, and checks the writers' counter at each commit.
 */
import { closeSync, existsSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import { KeeperClient, type KeeperClientOptions } from '../../src/keeper/keeper-client.ts';
import type { FromKeeper } from '../../src/keeper/protocol.ts';
import { openSpoolSegment, type Salts } from '../../src/keeper/spool.ts';
import { parseWalIndexHeader, type WalIndexHeader } from '../../src/sqlite/wal-index.ts';
import { FRAME_HEADER_BYTES, frameChecksum, frameOffset, parseWalHeader, type Checksum } from '../../src/sqlite/wal.ts';

/** What a capture would have on disk: it survives the probe. */
export class ProbeState {
  /** Pages as of the position. */
  pages = new Map<number, Buffer>();
  sizePages = 0;
  position: (Salts & { frame: number }) | null = null;
  checksum: Checksum | null = null;
  counter = -1;
  commits = 0;
}

export interface ProbeOptions extends Omit<KeeperClientOptions, 'taken' | 'onMessage'> {
  readonly state: ProbeState;
  /** Where the history cannot be joined, start anew from the file and count it in `gaps`. */
  readonly mayHaveGaps?: boolean;
  /** Called before each read; false: the probe takes nothing now. */
  mayRead?(): boolean;
}

type Message<T extends FromKeeper['type']> = Extract<FromKeeper, { type: T }>;

export class TailProbe implements AsyncDisposable {
  readonly client: KeeperClient;
  readonly messages: FromKeeper[] = [];
  /** Why it cannot go on: 'gap …' when transactions were missed. */
  failure: string | null = null;
  isFresh = false;
  gaps = 0;
  maxMxFrame = 0;
  readonly #options: ProbeOptions;
  readonly #state: ProbeState;
  readonly #segments: Message<'spooled'>[] = [];
  readonly #ends = new Map<number, number>();
  readonly #salts = new Map<number, Salts>();
  /** 0 while leftovers of older generations are read. */
  #generation = 1;
  #ready: Message<'ready'> | null = null;
  #index = -1;
  #wal = -1;
  #timer: NodeJS.Timeout;
  #isOver = false;

  constructor(options: ProbeOptions) {
    this.#options = options;
    this.#state = options.state;
    const { state: _, mayHaveGaps: __, mayRead: ___, ...keeper } = options;
    this.client = KeeperClient.start({ ...keeper, taken: this.#state.position, onMessage: (message) => this.#receive(message) });
    this.#timer = setInterval(() => this.#step(), 1);
    void this.client.ended.then((error) => {
      if (error !== null) this.failure ??= `${error.code}: ${error.message}`;
    });
  }

  get stats(): Message<'stats'>['stats'] | null {
    return this.messages.findLast((message) => message.type === 'stats')?.stats ?? null;
  }

  /** Generations that have ended. */
  get generations(): number {
    return this.#ends.size;
  }

  /** 'end': nothing committed is left to read, and the keeper has emptied the WAL. */
  get position(): 'end' | 'behind' {
    if (this.#ready === null || this.#index < 0) return 'behind';
    const isPast = this.#ends.get(this.#generation) === undefined && this.#salts.get(this.#generation) === undefined;
    return isPast && this.#header()?.mxFrame === 0 ? 'end' : 'behind';
  }

  async stop(): Promise<boolean> {
    const stopped = await this.client.stop();
    this.#finish();
    return stopped?.clean ?? false;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** Ends as if capture had died; the keeper may live on until it notices. */
  abandon(): void {
    this.#finish();
  }

  #finish(): void {
    this.#isOver = true;
    clearInterval(this.#timer);
    if (this.#index >= 0) closeSync(this.#index);
    if (this.#wal >= 0) closeSync(this.#wal);
    this.#index = this.#wal = -1;
  }

  #receive(message: FromKeeper): void {
    if (process.env['PROBE_TRACE'] !== undefined && message.type !== 'stats') console.error(performance.now().toFixed(1), JSON.stringify(message));
    this.messages.push(message);
    if (this.#isOver) return;
    try {
      switch (message.type) {
        case 'ready':
          return this.#start(message);
        case 'begun':
          return void this.#salts.set(message.generation, message);
        case 'generation':
          return void this.#ends.set(message.generation, message.lastFrame);
        case 'spooled':
          return void this.#segments.push(message);
        default:
          return;
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    this.failure ??= error instanceof Error ? (error.stack ?? error.message) : String(error);
    clearInterval(this.#timer);
  }

  /** Joins the saved state to what the keeper found, as protocol.ts describes it; else begins anew from the file. */
  #start(ready: Message<'ready'>): void {
    this.#ready = ready;
    this.#index = openSync(`${this.#options.hive}-shm`, 'r');
    this.#wal = openSync(`${this.#options.hive}-wal`, 'r');
    if (ready.mxFrame > 0) this.#salts.set(1, ready);
    const state = this.#state;
    if (state.position !== null) {
      for (const segment of ready.leftover) {
        const isSame = segment.salt1 === state.position.salt1 && segment.salt2 === state.position.salt2;
        const { previous } = segment;
        const follows =
          previous !== null &&
          previous.salt1 === state.position.salt1 &&
          previous.salt2 === state.position.salt2 &&
          previous.lastFrame === state.position.frame;
        if (!isSame && follows && segment.firstFrame === 1) {
          state.position = { salt1: segment.salt1, salt2: segment.salt2, frame: 0 };
          state.checksum = null;
        } else if (!isSame) continue;
        if (segment.firstFrame <= state.position.frame + 1 && segment.lastFrame > state.position.frame) this.#readSegment(segment.path);
      }
      const { position } = state;
      const { previous } = ready;
      if (ready.proven && ready.mxFrame > 0 && position.salt1 === ready.salt1 && position.salt2 === ready.salt2 && position.frame <= ready.mxFrame) {
        return this.client.release();
      }
      if (previous !== null && previous.salt1 === position.salt1 && previous.salt2 === position.salt2 && previous.lastFrame === position.frame) {
        state.position = null;
        state.checksum = null;
        this.client.drained(1, 0);
        return this.client.release();
      }
      this.gaps++;
      if (this.#options.mayHaveGaps !== true) this.failure ??= 'gap at start';
    }
    this.isFresh = true;
    this.#readFile(ready);
    this.client.release();
  }

  /** The database file as the pin holds it, then the WAL on top. */
  #readFile(ready: Message<'ready'>): void {
    const state = this.#state;
    const bytes = readFileSync(this.#options.hive);
    const pageSize = bytes.readUInt16BE(16);
    state.pages = new Map();
    for (let at = 0; at < bytes.length; at += pageSize) state.pages.set(at / pageSize + 1, Buffer.from(bytes.subarray(at, at + pageSize)));
    state.sizePages = bytes.length / pageSize;
    state.counter = -1;
    state.checksum = null;
    if (ready.mxFrame === 0) {
      state.position = null;
      return;
    }
    state.position = { salt1: ready.salt1, salt2: ready.salt2, frame: 0 };
    if (ready.complete) {
      const last = Buffer.alloc(FRAME_HEADER_BYTES);
      readSync(this.#wal, last, 0, last.length, frameOffset(ready.mxFrame, pageSize));
      state.checksum = { checksum1: last.readUInt32BE(16), checksum2: last.readUInt32BE(20) };
      state.position.frame = ready.mxFrame;
    }
  }

  #step(): void {
    if (this.#ready === null || this.#isOver || this.failure !== null) return;
    if (this.#options.mayRead?.() === false) return;
    try {
      while (this.#readOn());
    } catch (error) {
      this.#fail(error);
    }
  }

  /** True if it may be worth while to go on at once. */
  #readOn(): boolean {
    const state = this.#state;
    const generation = this.#generation;
    const salts = this.#salts.get(generation);
    if (salts === undefined) {
      return false;
    }
    if (state.position === null || state.position.salt1 !== salts.salt1 || state.position.salt2 !== salts.salt2) {
      state.position = { salt1: salts.salt1, salt2: salts.salt2, frame: 0 };
      state.checksum = null;
    }
    const { frame } = state.position;
    const end = this.#ends.get(generation);
    if (end === frame) {
      this.#generation++;
      return true;
    }
    if (end !== undefined && end < frame) throw new Error(`generation ${generation} ended at ${end}, read up to ${frame}`);
    const spooled = this.#segments.find((each) => each.generation === generation && each.firstFrame <= frame + 1 && each.lastFrame > frame);
    if (spooled !== undefined) {
      this.#readSegment(spooled.path);
      this.client.drained(generation, state.position.frame);
      return true;
    }
    const header = this.#header();
    if (header === null || header.salt1 !== salts.salt1 || header.salt2 !== salts.salt2) {
      if (end !== undefined)
        throw new Error(`generation ${generation} ended at ${end}, frames after ${frame} are neither in the WAL nor in the spool`);
      return false;
    }
    this.maxMxFrame = Math.max(this.maxMxFrame, header.mxFrame);
    if (header.mxFrame === frame) return false;
    const pageSize = header.pageSize;
    const count = Math.min(header.mxFrame - frame, 4000);
    const bytes = Buffer.alloc(count * (pageSize + FRAME_HEADER_BYTES));
    const read = readSync(this.#wal, bytes, 0, bytes.length, frameOffset(frame + 1, pageSize));
    const head = Buffer.alloc(32);
    readSync(this.#wal, head, 0, 32, 0);
    const after = this.#header();
    if (after === null || after.salt1 !== salts.salt1 || after.salt2 !== salts.salt2 || read < bytes.length) return false;
    const wal = parseWalHeader(head);
    if (wal === null || wal.salt1 !== salts.salt1) throw new Error('the WAL has no valid header');
    this.#take(bytes, pageSize, wal.bigEndianChecksums, state.checksum ?? wal);
    this.client.drained(generation, state.position.frame);
    return true;
  }

  #readSegment(path: string): void {
    const state = this.#state;
    using reader = openSpoolSegment(path, { verify: true });
    if (reader === null || state.position === null) throw new Error(`torn segment ${path}`);
    const { segment } = reader;
    const first = state.position.frame + 1;
    const count = segment.lastFrame - first + 1;
    const bytes = Buffer.alloc(count * (segment.pageSize + FRAME_HEADER_BYTES));
    reader.readFrames(first, count, bytes);
    if (first === segment.firstFrame && state.checksum !== null && state.checksum.checksum1 !== segment.before.checksum1)
      throw new Error('the segment has another past');
    this.#take(bytes, segment.pageSize, segment.bigEndianChecksums, state.checksum ?? segment.before);
  }

  #take(bytes: Buffer, pageSize: number, bigEndian: boolean, before: Checksum): void {
    const state = this.#state;
    const { position } = state;
    if (position === null) throw new Error('no position');
    let sum = before;
    for (let at = 0; at < bytes.length; at += pageSize + FRAME_HEADER_BYTES) {
      sum = frameChecksum(bytes, at, pageSize, bigEndian, sum);
      if (sum.checksum1 !== bytes.readUInt32BE(at + 16) || sum.checksum2 !== bytes.readUInt32BE(at + 20))
        throw new Error(`frame ${position.frame + 1} has a wrong checksum`);
      state.pages.set(bytes.readUInt32BE(at), Buffer.from(bytes.subarray(at + FRAME_HEADER_BYTES, at + FRAME_HEADER_BYTES + pageSize)));
      position.frame++;
      const size = bytes.readUInt32BE(at + 4);
      if (size > 0) this.#commit(size);
    }
    state.checksum = sum;
  }

  #commit(sizePages: number): void {
    const state = this.#state;
    state.sizePages = sizePages;
    state.commits++;
    const counter = counterOf(state.pages);
    if (counter === null || counter === state.counter) return;
    if (state.counter >= 0 && counter !== state.counter + 1) throw new Error(`commit ${state.counter} is followed by ${counter}`);
    state.counter = counter;
  }

  #header(): WalIndexHeader | null {
    const bytes = Buffer.alloc(136);
    for (let tries = 0; tries < 100; tries++) {
      readSync(this.#index, bytes, 0, bytes.length, 0);
      const header = parseWalIndexHeader(bytes);
      if (typeof header === 'object') return header;
    }
    return null;
  }
}

/** The counter of counting-writer.ts, whose table has its root on page 2. */
const counterOf = (pages: Map<number, Buffer>): number | null => {
  const page = pages.get(2);
  if (page === undefined || page[0] !== 13 || page.readUInt16BE(3) !== 1) return null;
  const at = page.indexOf('COUNT:', page.readUInt16BE(8));
  return Number(page.toString('latin1', at + 6, at + 16));
};

/** Pages in which the replayed state differs from the database file, which nobody has open. */
export const differingPages = (state: ProbeState, hive: string): number[] => {
  if (existsSync(`${hive}-wal`)) {
    const fd = openSync(`${hive}-wal`, 'r');
    const { size } = fstatSync(fd);
    closeSync(fd);
    if (size > 0) throw new Error('the file is not complete by itself');
  }
  const bytes = readFileSync(hive);
  const pageSize = bytes.readUInt16BE(16);
  const differing: number[] = [];
  for (let page = 1; page <= Math.max(bytes.length / pageSize, state.sizePages); page++) {
    const there = bytes.subarray((page - 1) * pageSize, page * pageSize);
    if (!(state.pages.get(page)?.equals(there) ?? there.every((byte) => byte === 0))) differing.push(page);
  }
  return differing;
};
