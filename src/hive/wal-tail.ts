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
import { readU32 } from '../sqlite/btree-page.ts';
import { FRAME_HEADER_BYTES, frameChecksum } from '../sqlite/wal.ts';
import type { WalIndexHeader } from '../sqlite/wal-index.ts';
import { WaggleError } from '../support/errors.ts';
import { type FrameSource, WalFile } from './wal-file.ts';
import { WalIndexReader } from './wal-index-reader.ts';
import { FrameImages, OpenTransaction, RESIDENT_BYTES, type WalTransaction } from './wal-transaction.ts';

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

export class WalTail implements Disposable {
  readonly #hive: string;
  readonly #pageSize: number;
  readonly #frameBytes: number;
  readonly #index: WalIndexReader;
  #wal: WalFile | null = null;
  #generation: number;
  #epoch: number;
  #salts: Salts | null;
  /** Last frame that was looked at, committed or not yet. */
  #read: number;
  readonly #taken: { -readonly [Key in keyof Position]: Position[Key] };
  /** Last frame of the current generation, once the keeper has told. */
  #lastFrame: number | null = null;
  readonly #ends = new Map<number, number>();
  readonly #begun = new Map<number, Salts>();
  readonly #spooled: SpooledFrames[] = [];
  #spool: { frames: SpooledFrames; reader: SpoolReader } | null = null;
  /** Running checksum of frame `#read`, while every frame's checksum is followed; null: the wal-index vouches. */
  #running: { checksum1: number; checksum2: number } | null;
  /** Frames that were read together, and how many of them were looked at. The views of their pages serve every chunk in this buffer. */
  #buffer: Buffer = Buffer.alloc(0);
  #views: Buffer[] = [];
  #frames = 0;
  #seen = 0;
  /** With the last frame of the chunk all that is committed has been looked at. */
  #isUpToDate = false;
  /** The batch has given a transaction. */
  #hasGiven = false;
  #reopen = true;
  #bigEndian = false;
  readonly #frameHeader = Buffer.alloc(FRAME_HEADER_BYTES);
  readonly #open: OpenTransaction;
  /** `#open` was given and is done with. */
  #isGiven = false;

  constructor(options: WalTailOptions) {
    const { hive, pageSize, position, generation } = options;
    this.#hive = hive;
    this.#pageSize = pageSize;
    this.#frameBytes = FRAME_HEADER_BYTES + pageSize;
    this.#index = new WalIndexReader(hive);
    this.#generation = generation;
    this.#epoch = position.epoch;
    this.#taken = { ...position };
    this.#read = position.frame;
    this.#salts = position.frame === 0 ? null : { salt1: position.salt1, salt2: position.salt2 };
    this.#running = position.frame === 0 ? null : position;
    const images = new FrameImages({
      pageSize,
      source: (frame) => (this.#lastFrame === null ? this.#wal : this.#spoolSource(frame)),
      stillThere: () => this.#lastFrame !== null || this.#generationIsLive(),
    });
    this.#open = new OpenTransaction((page, frame) => images.image(page, frame));
  }

  /** Behind the last transaction that `next` gave. */
  get position(): Position {
    return { ...this.#taken };
  }

  /** When the last batch was read there were more frames than it holds. */
  get isBehind(): boolean {
    return !this.#isUpToDate;
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
   * The next transaction of a batch; null: the batch is over. A batch is what `maxBytes` of frames hold, at least one transaction if
   * one is there; the call behind its end begins the next one, and only then its images are gone. Null at once: nothing new, or
   * the wal-index is being written, or the WAL was reset and the keeper has not told of it yet.
   * Throws HIVE_CORRUPT where a checksum fails, PIN_LOST where frames that were there have gone.
   */
  next(maxBytes: number): WalTransaction | null {
    if (this.#isGiven) {
      this.#open.clear();
      this.#isGiven = false;
    }
    for (;;) {
      if (this.#commits()) {
        this.#isGiven = this.#hasGiven = true;
        return this.#open;
      }
      // A chunk that ended inside a transaction is gone on with, in this batch if it has nothing else, or in the next.
      if (this.#hasGiven || !this.#readChunk(maxBytes)) {
        this.#hasGiven = false;
        return null;
      }
    }
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
      Object.assign(this.#taken, { epoch: this.#epoch, frame: 0, salt1: 0, salt2: 0, checksum1: 0, checksum2: 0 });
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

  /** Reads the next frames. False: there are none, or they are not to be had now. */
  #readChunk(maxBytes: number): boolean {
    this.#nextGenerations();
    const ended = this.#lastFrame !== null;
    const available = ended ? this.#lastFrame! : this.#committedFrames();
    if (available === null || available <= this.#read) return false;
    const count = Math.min(available - this.#read, Math.max(1, Math.floor(maxBytes / this.#frameBytes)));
    const first = this.#read + 1;
    const source = ended ? this.#spoolSource(first) : this.#wal;
    if (source === null) {
      throw new WaggleError('PIN_LOST', `frame ${first} of WAL generation ${this.#generation} is neither in the WAL nor in the spool`);
    }
    const take = ended ? Math.min(count, this.#spool!.frames.lastFrame - this.#read) : count;
    const buffer = this.#makeRoom(take);
    if (!source.readFrames(first, take, buffer)) return false;
    if (!ended && !this.#generationIsLive()) return false;
    this.#salts ??= { salt1: buffer.readUInt32BE(8), salt2: buffer.readUInt32BE(12) };
    this.#frames = take;
    this.#seen = 0;
    this.#isUpToDate = this.#read + take === available;
    return true;
  }

  /** The buffer of the chunk before, unless an unfinished transaction still has views of it: fresh memory costs 1 µs a page. */
  #makeRoom(frames: number): Buffer {
    const isFree = this.#open.isEmpty || !this.#open.isResident;
    if (!isFree || this.#buffer.length < frames * this.#frameBytes) {
      this.#buffer = Buffer.allocUnsafeSlow(Math.max(frames * this.#frameBytes, 64 * 1024));
      this.#views = [];
    }
    return this.#buffer;
  }

  #generationIsLive(): boolean {
    const header = this.#index.read();
    // A torn header is a commit in progress: a reset would have been published before it.
    if (header === 'torn') return this.#wal?.readHeader()?.salt1 === this.#salts?.salt1 && this.#wal?.readHeader()?.salt2 === this.#salts?.salt2;
    return header !== 'uninitialised' && header.salt1 === this.#salts?.salt1 && header.salt2 === this.#salts.salt2;
  }

  /** Goes on through the chunk, frame by frame, to the next one that commits. False: it holds no further one. */
  #commits(): boolean {
    const buffer = this.#buffer;
    const open = this.#open;
    const salts = this.#salts!;
    while (this.#seen < this.#frames) {
      const offset = this.#seen * this.#frameBytes;
      const frame = this.#read + 1;
      if (readU32(buffer, offset + 8) !== salts.salt1 || readU32(buffer, offset + 12) !== salts.salt2) {
        throw new WaggleError('HIVE_CORRUPT', `WAL frame ${frame} carries the salts of another generation`);
      }
      if (this.#running !== null) {
        this.#running = frameChecksum(buffer, offset, this.#pageSize, this.#bigEndian, this.#running);
        if (this.#running.checksum1 !== readU32(buffer, offset + 16) || this.#running.checksum2 !== readU32(buffer, offset + 20)) {
          throw new WaggleError('HIVE_CORRUPT', `the checksum of WAL frame ${frame} is wrong`);
        }
      }
      const image = (this.#views[this.#seen] ??= buffer.subarray(offset + FRAME_HEADER_BYTES, offset + this.#frameBytes));
      open.add(readU32(buffer, offset), image, frame);
      this.#seen += 1;
      this.#read = frame;
      const sizePages = readU32(buffer, offset + 4);
      if (sizePages === 0) continue;
      const taken = this.#taken;
      taken.frame = open.frame = frame;
      open.epoch = this.#epoch;
      open.sizePages = sizePages;
      taken.salt1 = open.salt1 = salts.salt1;
      taken.salt2 = open.salt2 = salts.salt2;
      taken.checksum1 = open.checksum1 = readU32(buffer, offset + 16);
      taken.checksum2 = open.checksum2 = readU32(buffer, offset + 20);
      this.#endChunk();
      return true;
    }
    this.#endChunk();
    // Not before the end of a chunk: until then its buffer holds what is looked at.
    if (open.isResident && open.pages.length * this.#pageSize > RESIDENT_BYTES) open.release();
    return false;
  }

  /** From here on the wal-index vouches for every frame (rule above), if the tail has caught up. */
  #endChunk(): void {
    if (this.#seen === this.#frames && this.#isUpToDate) this.#running = null;
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
