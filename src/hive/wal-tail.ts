/**
 * The tail: committed transactions of the hive in commit order, from the live WAL and from the keeper's spool.
 *
 * A generation of the WAL is read up to the wal-index's mxFrame; it ends where the keeper says that it ended, and only
 * then does the next one begin (protocol.ts). A batch of frames is accepted if the wal-index header was valid before, each
 * frame carries the generation's salts, frame mxFrame carries the header's checksum and database size, and the salts are
 * still the same after the read. After a start the running checksum of every frame is followed until the tail has caught
 * up once. Nothing past mxFrame is ever looked at.
 *
 * Not its business: what the frames mean, and who holds them in place (the keeper).
 */
import type { Position } from '../change/change.ts';
import { openSpoolSegment, type SpoolReader } from '../keeper/spool.ts';
import { FRAME_HEADER_BYTES, frameChecksum } from '../sqlite/wal.ts';
import type { WalIndexHeader } from '../sqlite/wal-index.ts';
import { WaggleError } from '../support/errors.ts';
import { type FrameSource, WalFile } from './wal-file.ts';
import { WalIndexReader } from './wal-index-reader.ts';
import { FrameImages, RESIDENT_BYTES, type WalTransaction } from './wal-transaction.ts';

export interface WalTailOptions {
  readonly hive: string;
  readonly pageSize: number;
  /** Everything up to here is taken. With frame 0 the keeper tells the generation's salts (`generationBegun`). */
  readonly position: Position;
  /** Number of the position's generation in the keeper's count. */
  readonly generation: number;
}

/** Frames [firstFrame, lastFrame] of a generation, copied aside by the keeper. */
export interface SpooledFrames {
  readonly generation: number;
  readonly firstFrame: number;
  readonly lastFrame: number;
  readonly path: string;
}

interface Salts {
  readonly salt1: number;
  readonly salt2: number;
}

/** Frames of a transaction whose commit frame has not been read yet. */
interface OpenTransaction {
  /** Newest image of each page; null once they are too many. */
  images: Map<number, Buffer> | null;
  /** Page numbers of its frames, in order. */
  readonly pages: number[];
}

export class WalTail implements Disposable {
  readonly #hive: string;
  readonly #pageSize: number;
  readonly #frameBytes: number;
  readonly #index: WalIndexReader;
  #wal: WalFile | null = null;
  #generation: number;
  #epoch: number;
  #salts: Salts | null;
  /** Last frame read, committed or not yet. */
  #read: number;
  #taken: Position;
  /** Last frame of the current generation, once the keeper has told. */
  #lastFrame: number | null = null;
  readonly #ends = new Map<number, number>();
  readonly #begun = new Map<number, Salts>();
  readonly #spooled: SpooledFrames[] = [];
  #spool: { frames: SpooledFrames; reader: SpoolReader } | null = null;
  /** Running checksum of frame `#read`, while every frame's checksum is followed; null: the wal-index vouches. */
  #running: { checksum1: number; checksum2: number } | null;
  #buffer: Buffer = Buffer.alloc(0);
  #reopen = true;
  #bigEndian = false;
  readonly #frameHeader = Buffer.alloc(FRAME_HEADER_BYTES);
  #open: OpenTransaction = { images: new Map(), pages: [] };

  constructor(options: WalTailOptions) {
    const { hive, pageSize, position, generation } = options;
    this.#hive = hive;
    this.#pageSize = pageSize;
    this.#frameBytes = FRAME_HEADER_BYTES + pageSize;
    this.#index = new WalIndexReader(hive);
    this.#generation = generation;
    this.#epoch = position.epoch;
    this.#taken = position;
    this.#read = position.frame;
    this.#salts = position.frame === 0 ? null : { salt1: position.salt1, salt2: position.salt2 };
    this.#running = position.frame === 0 ? null : position;
  }

  /** Behind the last transaction that `read` gave. */
  get position(): Position {
    return this.#taken;
  }

  /** The keeper's number of the generation that `position` stands in. */
  get generation(): number {
    return this.#generation;
  }

  generationEnded(generation: number, lastFrame: number): void {
    if (generation === this.#generation) this.#lastFrame = lastFrame;
    else this.#ends.set(generation, lastFrame);
  }

  /** The first frame of a generation was seen, with these salts. */
  generationBegun(generation: number, salts: Salts): void {
    if (generation === this.#generation && this.#salts === null) this.#salts = { salt1: salts.salt1, salt2: salts.salt2 };
    else if (generation > this.#generation) this.#begun.set(generation, { salt1: salts.salt1, salt2: salts.salt2 });
  }

  framesSpooled(frames: SpooledFrames): void {
    this.#spooled.push(frames);
  }

  /**
   * The next whole transactions, their images valid until the next call; as many as `maxBytes` of frames hold (at least one if one is there). Empty: nothing new, or the
   * wal-index is being written, or the WAL was reset and the keeper has not told of it yet.
   * Throws HIVE_CORRUPT where a checksum fails, PIN_LOST where frames that were there have gone.
   */
  read(maxBytes: number): WalTransaction[] {
    const found: WalTransaction[] = [];
    while (found.length === 0) {
      // A read that ended inside a transaction is gone on with, in this call or in the next.
      this.#nextGenerations();
      const ended = this.#lastFrame !== null;
      const available = ended ? this.#lastFrame! : this.#committedFrames();
      if (available === null || available <= this.#read) return found;
      const count = Math.min(available - this.#read, Math.max(1, Math.floor(maxBytes / this.#frameBytes)));
      if (!this.#readFrames(count, ended, found)) return found;
      if (this.#read === available) this.#running = null;
    }
    return found;
  }

  /**
   * Everything that is committed now has been read. False also while it cannot be known: the wal-index is being written, or
   * the keeper has yet to tell how a generation ended or began.
   */
  isCaughtUp(): boolean {
    this.#nextGenerations();
    if (this.#lastFrame !== null) return false;
    const header = this.#index.read();
    if (header === 'torn') return false;
    if (header === 'uninitialised' || this.#salts === null) return header === 'uninitialised' || header.mxFrame === 0;
    return header.salt1 === this.#salts.salt1 && header.salt2 === this.#salts.salt2 && header.mxFrame === this.#read;
  }

  [Symbol.dispose](): void {
    this.#index[Symbol.dispose]();
    this.#wal?.[Symbol.dispose]();
    this.#spool?.reader[Symbol.dispose]();
  }

  /** Moves on to the generation that follows, over empty ones too. */
  #nextGenerations(): void {
    while (this.#lastFrame !== null && this.#read >= this.#lastFrame) {
      this.#generation += 1;
      this.#epoch += 1;
      this.#read = 0;
      this.#salts = this.#begun.get(this.#generation) ?? null;
      this.#begun.delete(this.#generation);
      this.#reopen = true;
      this.#running = null;
      this.#taken = { epoch: this.#epoch, frame: 0, salt1: 0, salt2: 0, checksum1: 0, checksum2: 0 };
      this.#lastFrame = this.#ends.get(this.#generation) ?? null;
      this.#ends.delete(this.#generation);
    }
  }

  /** mxFrame of the live generation, proven; null: ask again later. */
  #committedFrames(): number | null {
    if (this.#salts === null) return null;
    const header = this.#index.read();
    if (header === 'torn' || header === 'uninitialised' || header.mxFrame === 0) return null;
    if (header.salt1 !== this.#salts.salt1 || header.salt2 !== this.#salts.salt2) return null;
    if (header.mxFrame < this.#read) {
      throw new WaggleError('PIN_LOST', `the WAL went back from frame ${this.#read} to ${header.mxFrame}`);
    }
    if (header.mxFrame === this.#read) return this.#read;
    // The last close deletes the file; a new generation can stand in a new one.
    if (this.#reopen) this.#reopenWal();
    return !this.#reopen && this.#isLastFrame(header) ? header.mxFrame : null;
  }

  /** Frame mxFrame is the commit frame that the header speaks of. */
  #isLastFrame(header: WalIndexHeader): boolean {
    const head = this.#frameHeader;
    if (this.#wal?.readFrameHeader(header.mxFrame, head) !== true) return false;
    return (
      head.readUInt32BE(4) === header.sizePages &&
      head.readUInt32BE(8) === header.salt1 &&
      head.readUInt32BE(12) === header.salt2 &&
      head.readUInt32BE(16) === header.checksum1 &&
      head.readUInt32BE(20) === header.checksum2
    );
  }

  #reopenWal(): void {
    this.#wal?.[Symbol.dispose]();
    this.#wal = WalFile.open(this.#hive, this.#pageSize);
    const header = this.#wal?.readHeader() ?? null;
    // Salts must match both the WAL's header and the wal-index; until then the file is not looked at again.
    this.#reopen = header === null || header.salt1 !== this.#salts?.salt1 || header.salt2 !== this.#salts.salt2;
    if (header !== null) this.#bigEndian = header.bigEndianChecksums;
  }

  /** Reads the next `count` frames and appends the transactions that end in them. False: not to be had now. */
  #readFrames(count: number, ended: boolean, found: WalTransaction[]): boolean {
    const first = this.#read + 1;
    const source = ended ? this.#spoolSource(first) : this.#wal;
    if (source === null) {
      throw new WaggleError('PIN_LOST', `frame ${first} of WAL generation ${this.#generation} is neither in the WAL nor in the spool`);
    }
    const take = ended ? Math.min(count, this.#spool!.frames.lastFrame - this.#read) : count;
    const buffer = this.#chunk(take * this.#frameBytes);
    if (!source.readFrames(first, take, buffer)) return false;
    if (!ended && !this.#generationIsLive()) return false;
    this.#salts ??= { salt1: buffer.readUInt32BE(8), salt2: buffer.readUInt32BE(12) };
    this.#split(buffer, take, found);
    return true;
  }

  /** The buffer of the read before, unless an unfinished transaction still has views of it: fresh memory costs 1 µs a page. */
  #chunk(bytes: number): Buffer {
    const isFree = this.#open.images === null || this.#open.images.size === 0;
    if (!isFree || this.#buffer.length < bytes) this.#buffer = Buffer.allocUnsafeSlow(Math.max(bytes, 64 * 1024));
    return this.#buffer;
  }

  #generationIsLive(): boolean {
    const header = this.#index.read();
    // A torn header is a commit in progress: a reset would have been published before it.
    if (header === 'torn') return this.#wal?.readHeader()?.salt1 === this.#salts?.salt1 && this.#wal?.readHeader()?.salt2 === this.#salts?.salt2;
    return header !== 'uninitialised' && header.salt1 === this.#salts?.salt1 && header.salt2 === this.#salts.salt2;
  }

  #split(buffer: Buffer, count: number, found: WalTransaction[]): void {
    const salts = this.#salts!;
    for (let index = 0; index < count; index += 1) {
      const offset = index * this.#frameBytes;
      const frame = this.#read + 1;
      if (buffer.readUInt32BE(offset + 8) !== salts.salt1 || buffer.readUInt32BE(offset + 12) !== salts.salt2) {
        throw new WaggleError('HIVE_CORRUPT', `WAL frame ${frame} carries the salts of another generation`);
      }
      if (this.#running !== null) {
        this.#running = frameChecksum(buffer, offset, this.#pageSize, this.#bigEndian, this.#running);
        if (this.#running.checksum1 !== buffer.readUInt32BE(offset + 16) || this.#running.checksum2 !== buffer.readUInt32BE(offset + 20)) {
          throw new WaggleError('HIVE_CORRUPT', `the checksum of WAL frame ${frame} is wrong`);
        }
      }
      const page = buffer.readUInt32BE(offset);
      const image = buffer.subarray(offset + FRAME_HEADER_BYTES, offset + this.#frameBytes);
      this.#open.images?.set(page, image);
      this.#open.pages.push(page);
      this.#read = frame;
      const sizePages = buffer.readUInt32BE(offset + 4);
      if (sizePages !== 0) found.push(this.#commit(frame, sizePages, buffer, offset));
    }
    if (this.#open.pages.length * this.#pageSize > RESIDENT_BYTES) this.#open.images = null;
  }

  #commit(frame: number, sizePages: number, buffer: Buffer, offset: number): WalTransaction {
    const { images, pages: written } = this.#open;
    this.#open = { images: new Map(), pages: [] };
    const checksum1 = buffer.readUInt32BE(offset + 16);
    const checksum2 = buffer.readUInt32BE(offset + 20);
    this.#taken = { epoch: this.#epoch, frame, ...this.#salts!, checksum1, checksum2 };
    if (images === null) {
      const frames = new Map(written.map((page, index) => [page, frame - written.length + 1 + index]));
      return this.#transaction({ frame, sizePages, checksum1, checksum2, pages: [...frames.keys()], images, image: this.#largeImages(frames) });
    }
    const pages = images.size === written.length ? written : [...images.keys()];
    const image = (page: number): Buffer => images.get(page)!;
    return this.#transaction({ frame, sizePages, checksum1, checksum2, pages, images, image });
  }

  #transaction(parts: Omit<WalTransaction, 'epoch' | 'salt1' | 'salt2'>): WalTransaction {
    const { salt1, salt2 } = this.#salts!;
    return { epoch: this.#epoch, salt1, salt2, ...parts };
  }

  #largeImages(frames: ReadonlyMap<number, number>): (page: number) => Buffer {
    const reader = new FrameImages({
      frames,
      pageSize: this.#pageSize,
      source: (frame) => (this.#lastFrame === null ? this.#wal : this.#spoolSource(frame)),
      stillThere: () => this.#lastFrame !== null || this.#generationIsLive(),
    });
    return (page) => reader.image(page);
  }

  /** The spool segment that holds this frame of the current generation. */
  #spoolSource(frame: number): FrameSource | null {
    const holds = (frames: SpooledFrames): boolean =>
      frames.generation === this.#generation && frames.firstFrame <= frame && frames.lastFrame >= frame;
    if (this.#spool === null || !holds(this.#spool.frames)) {
      const frames = this.#spooled.find(holds);
      if (frames === undefined) return null;
      const reader = openSpoolSegment(frames.path, { verify: false });
      if (reader === null) throw new WaggleError('STATE_CORRUPT', `spool segment ${frames.path} cannot be read`);
      this.#spool?.reader[Symbol.dispose]();
      this.#spool = { frames, reader };
      // Checksums may have to be followed before the live WAL was ever opened.
      this.#bigEndian = reader.segment.bigEndianChecksums;
    }
    const { reader } = this.#spool;
    return { readFrames: (first, count, into) => reader.readFrames(first, count, into) === count * this.#frameBytes };
  }

  /** Forgets spool segments of generations that are behind. Call when the position is durable. */
  forgetSpooled(): void {
    for (let index = this.#spooled.length - 1; index >= 0; index -= 1) {
      const frames = this.#spooled[index]!;
      if (frames.generation < this.#generation || (frames.generation === this.#generation && frames.lastFrame <= this.#taken.frame)) {
        this.#spooled.splice(index, 1);
      }
    }
  }
}
