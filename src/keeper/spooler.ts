/**
 * Which frames are safe outside the WAL: drained by capture, or copied into the spool. Keeps the list of segments and
 * unlinks them when capture has passed them.
 */
import { unlinkSync } from 'node:fs';
import { WaggleError, systemErrorCode } from '../support/errors.ts';
import type { Ledger } from './ledger.ts';
import { FramesGone, writeSpoolSegment, type SpoolSegment } from './spool.ts';

export interface SpoolerOptions {
  readonly dir: string;
  readonly walFd: number;
  readonly pageSize: number;
  readonly ledger: Ledger;
  /** Segments survive a power loss. */
  readonly durable: boolean;
  /** Segments of keepers before, oldest first. */
  readonly leftover: readonly SpoolSegment[];
  /** What capture has durably taken of generation 1. */
  readonly drained: number;
  spooled(segment: SpoolSegment, generation: number): void;
  /** The spool cannot be written at this moment. Called once until it works again. */
  stuck(error: WaggleError): void;
}

const RETRY_MS = 1000;

export class Spooler {
  spooledBytes = 0;
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
    for (const segment of options.leftover) {
      const current = salts !== null && segment.salt1 === salts.salt1 && segment.salt2 === salts.salt2;
      this.#segments.push({ generation: current ? 1 : 0, segment });
      this.#serial = segment.serial + 1;
      if (current && segment.firstFrame <= this.#safe + 1) this.#safe = Math.max(this.#safe, segment.lastFrame);
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
      try {
        unlinkSync(first.segment.path);
      } catch {
        // Gone already, or it stays as a leftover that the next start lists and capture skips.
      }
    }
  }

  /**
   * Copies what is not safe yet up to `frame` (committed). False if that cannot be done now: the disk is full (tried
   * again a second later), or the WAL no longer has the frames.
   */
  spoolTo(frame: number, now: number): boolean {
    const firstFrame = this.safe + 1;
    if (firstFrame > frame) return true;
    const { dir, walFd, pageSize, ledger, durable } = this.#options;
    if (now < this.#stuckUntil || ledger.salts === null) return false;
    try {
      const segment = writeSpoolSegment({
        dir,
        walFd,
        pageSize,
        serial: this.#serial,
        firstFrame,
        lastFrame: frame,
        previous: ledger.previous,
        durable,
        ...ledger.salts,
      });
      this.#serial++;
      this.#segments.push({ generation: ledger.generation, segment });
      this.#safe = frame;
      this.#isStuck = false;
      this.spooledBytes += (frame - firstFrame + 1) * (pageSize + 24);
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

const asSpoolError = (dir: string, error: unknown): WaggleError => {
  const code = systemErrorCode(error);
  if (code === 'ENOSPC' || code === 'EDQUOT') return new WaggleError('DISK_FULL', `no space left for the spool in ${dir}`, { cause: error });
  const message = error instanceof Error ? error.message : String(error);
  return new WaggleError('STATE_UNUSABLE', `cannot write the spool in ${dir}: ${message}`, { cause: error });
};
