/** One committed transaction as the WAL holds it. */
import { FRAME_HEADER_BYTES } from '../sqlite/wal.ts';
import type { FrameSource } from './wal-file.ts';

/** Frames above this many bytes are not kept in memory but read again when their page is asked for. */
export const RESIDENT_BYTES = 8 * 1024 * 1024;

/** What `image` throws when the frames are no longer where they were: ask the tail again after the keeper has told. */
export class FramesMoved extends Error {
  override readonly name = 'FramesMoved';
}

/** Valid until the tail is asked for the next one. */
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
  /** All images are in memory and stay valid until the tail begins another batch. False: it is too large for that. */
  readonly isResident: boolean;
  has(page: number): boolean;
  /** The last image of a page that it wrote. Where it is not resident: valid until the next call, and throws FramesMoved. */
  image(page: number): Buffer;
}

/** Above this many pages they are found by hashing. */
const LISTED_PAGES = 8;

/**
 * The transaction that the tail is reading, and then gives. One object serves them all: most transactions write one to three pages,
 * and a Map and a view for each cost more than comparing the pages.
 */
export class OpenTransaction implements WalTransaction {
  epoch = 0;
  frame = 0;
  sizePages = 0;
  checksum1 = 0;
  checksum2 = 0;
  salt1 = 0;
  salt2 = 0;
  pages: number[] = [];
  isResident = true;
  readonly #readFrame: (page: number, frame: number) => Buffer;
  /** Newest image and its frame, in the order of `pages`. */
  #images: Buffer[] = [];
  #frames: number[] = [];
  #places: Map<number, number> | null = null;

  /** `readFrame`: reads an image again, see FrameImages. */
  constructor(readFrame: (page: number, frame: number) => Buffer) {
    this.#readFrame = readFrame;
  }

  get isEmpty(): boolean {
    return this.pages.length === 0;
  }

  clear(): void {
    if (this.pages.length > LISTED_PAGES) {
      this.pages = [];
      this.#images = [];
      this.#frames = [];
      this.#places = null;
    } else {
      this.pages.length = this.#images.length = this.#frames.length = 0;
    }
    this.isResident = true;
  }

  add(page: number, image: Buffer, frame: number): void {
    let place = this.#placeOf(page);
    if (place === -1) {
      place = this.pages.length;
      this.pages.push(page);
      if (this.#places !== null) this.#places.set(page, place);
      else if (place === LISTED_PAGES) this.#places = new Map(this.pages.map((each, index) => [each, index]));
    }
    this.#frames[place] = frame;
    if (this.isResident) this.#images[place] = image;
  }

  /** It has become too large: lets go of the images. */
  release(): void {
    this.isResident = false;
    this.#images = [];
  }

  has(page: number): boolean {
    return this.#placeOf(page) !== -1;
  }

  image(page: number): Buffer {
    const place = this.#placeOf(page);
    return this.isResident ? this.#images[place]! : this.#readFrame(page, this.#frames[place]!);
  }

  #placeOf(page: number): number {
    return this.#places === null ? this.pages.indexOf(page) : (this.#places.get(page) ?? -1);
  }
}

/** Reads single frames of a large transaction, proving each that it still is the frame it was. */
export class FrameImages {
  readonly #source: (frame: number) => FrameSource | null;
  readonly #stillThere: () => boolean;
  readonly #frame: Buffer;

  constructor(options: {
    pageSize: number;
    source: (frame: number) => FrameSource | null;
    /** Whether the generation has not been reset, asked after each read. */
    stillThere: () => boolean;
  }) {
    this.#source = options.source;
    this.#stillThere = options.stillThere;
    this.#frame = Buffer.alloc(FRAME_HEADER_BYTES + options.pageSize);
  }

  image(page: number, frame: number): Buffer {
    const there = this.#source(frame)?.readFrames(frame, 1, this.#frame) === true && this.#frame.readUInt32BE(0) === page;
    if (!there || !this.#stillThere()) throw new FramesMoved(`frame ${frame} has moved`);
    return this.#frame.subarray(FRAME_HEADER_BYTES);
  }
}
