/**
 * Which frames are safe outside the WAL: drained by capture, or copied into the spool. Keeps the list of segments and
 * unlinks them when capture has passed them.
 */
import { unlinkSync } from 'node:fs';
import { FRAME_HEADER_BYTES } from '../sqlite/wal.ts';
import { WaggleError, systemErrorCode } from '../support/errors.ts';
import type { Ledger } from './ledger.ts';
import { FramesGone, writeSpoolSegment, type Salts, type SpoolSegment } from './spool.ts';

export interface SpoolerOptions {
  readonly dir: string;
  readonly walFd: number;
  readonly pageSize: number;
  readonly ledger: Ledger;
  /** Segments of keepers before, oldest first. */
  readonly leftover: readonly SpoolSegment[];
  /** What capture has durably taken of generation 1. */
  readonly drained: number;
  /** So much may lie in the spool. */
  limitBytes(): number;
  /** Segments survive a power loss. */
  isDurable(): boolean;
  spooled(segment: SpoolSegment, generation: number): void;
  /** The spool cannot be written at this moment. Called once until it works again. */
  stuck(error: WaggleError): void;
}

const RETRY_MS = 1000;

const sizeOf = ({ firstFrame, lastFrame, pageSize }: SpoolSegment): number => (lastFrame - firstFrame + 1) * (pageSize + FRAME_HEADER_BYTES);

export class Spooler {
  /** Copied since the start. */
  spooledBytes = 0;
  /** What lies in the spool now. */
  heldBytes = 0;
  /** What was to be spooled last had no room within the limit. */
  isFull = false;
  readonly #options: SpoolerOptions;
  readonly #segments: { readonly generation: number; readonly segment: SpoolSegment }[] = [];
  #serial = 1;
  #generation = 1;
  #safe: number;
  #stuckUntil = 0;
  #isStuck = false;

  constructor(options: SpoolerOptions) {
    this.#options = options;
    this.#safe = options.drained;
    const { salts } = options.ledger;
    const numbers = numberLeftover(options.leftover, salts);
    for (const [index, segment] of options.leftover.entries()) {
      const generation = numbers[index]!;
      this.#segments.push({ generation, segment });
      this.heldBytes += sizeOf(segment);
      this.#serial = segment.serial + 1;
      if (generation === 1 && segment.firstFrame <= this.#safe + 1) this.#safe = Math.max(this.#safe, segment.lastFrame);
    }
  }

  /** Frames of the current generation up to here need the WAL no more. */
  get safe(): number {
    if (this.#generation !== this.#options.ledger.generation) {
      this.#generation = this.#options.ledger.generation;
      this.#safe = 0;
    }
    return this.#safe;
  }

  /** What no daemon has taken, oldest first. */
  get segments(): SpoolSegment[] {
    return this.#segments.map(({ segment }) => segment);
  }

  /** The spool could not be written when it was last tried. */
  get isStuck(): boolean {
    return this.#isStuck;
  }

  /** Nothing up to `frame` of the current generation will be asked for. */
  skip(frame: number): void {
    this.#safe = Math.max(this.safe, frame);
  }

  /** Capture has durably taken frames of `generation` up to `frame`. */
  drained(generation: number, frame: number): void {
    if (generation === this.#options.ledger.generation) this.#safe = Math.max(this.safe, frame);
    while (true) {
      const first = this.#segments[0];
      if (first === undefined || first.generation > generation) return;
      if (first.generation === generation && first.segment.lastFrame > frame) return;
      this.#segments.shift();
      this.heldBytes -= sizeOf(first.segment);
      try {
        unlinkSync(first.segment.path);
      } catch {
        // Gone already, or it stays as a leftover that the next start lists and capture skips.
      }
    }
  }

  /**
   * Copies what is not safe yet up to `frame` (committed). False if that cannot be done now: the limit is reached, the disk is
   * full (tried again a second later), or the WAL no longer has the frames.
   */
  spoolTo(frame: number, now: number): boolean {
    const firstFrame = this.safe + 1;
    if (firstFrame > frame) return true;
    const { dir, walFd, pageSize, ledger } = this.#options;
    if (now < this.#stuckUntil || ledger.salts === null) return false;
    if (this.heldBytes + (frame - firstFrame + 1) * (pageSize + FRAME_HEADER_BYTES) > this.#options.limitBytes()) {
      this.isFull = true;
      return false;
    }
    try {
      const segment = writeSpoolSegment({
        dir,
        walFd,
        pageSize,
        serial: this.#serial,
        firstFrame,
        lastFrame: frame,
        previous: ledger.previous,
        durable: this.#options.isDurable(),
        ...ledger.salts,
      });
      this.#serial++;
      this.#segments.push({ generation: ledger.generation, segment });
      this.#safe = frame;
      this.#isStuck = false;
      this.isFull = false;
      this.spooledBytes += sizeOf(segment);
      this.heldBytes += sizeOf(segment);
      this.#options.spooled(segment, ledger.generation);
      return true;
    } catch (error) {
      if (error instanceof FramesGone) return false;
      this.#stuckUntil = now + RETRY_MS;
      if (!this.#isStuck) this.#options.stuck(asSpoolError(dir, error));
      this.#isStuck = true;
      return false;
    }
  }
}

/** Generations backwards from the current one (1), as a daemon that walks over the segments counts them. */
const numberLeftover = (leftover: readonly SpoolSegment[], current: Salts | null): number[] => {
  const numbers: number[] = [];
  let after: Salts | null = current;
  let number = 1;
  for (const segment of leftover.toReversed()) {
    if (after === null || segment.salt1 !== after.salt1 || segment.salt2 !== after.salt2) number -= 1;
    after = segment;
    numbers.push(number);
  }
  return numbers.reverse();
};

const asSpoolError = (dir: string, error: unknown): WaggleError => {
  const code = systemErrorCode(error);
  if (code === 'ENOSPC' || code === 'EDQUOT') return new WaggleError('DISK_FULL', `no space left for the spool in ${dir}`, { cause: error });
  const message = error instanceof Error ? error.message : String(error);
  return new WaggleError('STATE_UNUSABLE', `cannot write the spool in ${dir}: ${message}`, { cause: error });
};
