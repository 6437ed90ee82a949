/** One committed transaction as the WAL holds it. */
import { FRAME_HEADER_BYTES } from '../sqlite/wal.ts';
import type { FrameSource } from './wal-file.ts';

/** Frames above this many bytes are not kept in memory but read again when their page is asked for. */
export const RESIDENT_BYTES = 8 * 1024 * 1024;

/** What `image` throws when the frames are no longer where they were: ask the tail again after the keeper has told. */
export class FramesMoved extends Error {
  override readonly name = 'FramesMoved';
}

export interface WalTransaction {
  readonly epoch: number;
  /** Number of its commit frame. */
  readonly frame: number;
  /** Database size in pages after it. */
  readonly sizePages: number;
  /** Running checksum as its commit frame stores it. */
  readonly checksum1: number;
  readonly checksum2: number;
  readonly salt1: number;
  readonly salt2: number;
  /** The pages it wrote, each once. */
  readonly pages: readonly number[];
  /** The last image of each page, valid until the tail reads again; null for a transaction that is too large to be kept. */
  readonly images: ReadonlyMap<number, Buffer> | null;
  /** The last image of a page that it wrote. Valid until the next call where `images` is null. Throws FramesMoved then. */
  readonly image: (page: number) => Buffer;
}

/** Reads single frames of a large transaction, proving each that it still is the frame it was. */
export class FrameImages {
  readonly #frames: ReadonlyMap<number, number>;
  readonly #source: (frame: number) => FrameSource | null;
  readonly #stillThere: () => boolean;
  readonly #frame: Buffer;

  constructor(options: {
    frames: ReadonlyMap<number, number>;
    pageSize: number;
    source: (frame: number) => FrameSource | null;
    /** Whether the generation has not been reset, asked after each read. */
    stillThere: () => boolean;
  }) {
    this.#frames = options.frames;
    this.#source = options.source;
    this.#stillThere = options.stillThere;
    this.#frame = Buffer.alloc(FRAME_HEADER_BYTES + options.pageSize);
  }

  image(page: number): Buffer {
    const frame = this.#frames.get(page)!;
    const there = this.#source(frame)?.readFrames(frame, 1, this.#frame) === true && this.#frame.readUInt32BE(0) === page;
    if (!there || !this.#stillThere()) throw new FramesMoved(`frame ${frame} has moved`);
    return this.#frame.subarray(FRAME_HEADER_BYTES);
  }
}
