/**
 * Holds the WAL with two read transactions in turn: the new one is taken before the old one is dropped.
 *
 * Guarantee: at each moment at least one pin is held that is either
 * - on a read mark of the current generation: nothing above it gets into the database file, the WAL is not reset; or
 * - on slot 0, with every frame up to nBackfill safe outside the WAL: nothing more is backfilled, so the WAL is reset
 *   at most once with frames lost to it, and then everything in it was safe.
 *
 * Which of both a pin is, SQLite does not tell. It is a mark for sure if at no time between a header read before and
 * one read after everything was backfilled (nBackfill only grows within a generation). Else it may be slot 0.
 */
import type { WalIndexHeader } from '../sqlite/wal-index.ts';
import type { Pin } from './connections.ts';
import type { Ledger } from './ledger.ts';

export type Slot = 'mark' | 'zero' | 'unknown';

export interface PinPairOptions {
  readonly pins: readonly [Pin, Pin];
  readonly ledger: Ledger;
  /** A valid header of this moment, already noted in the ledger; null while it stays torn. */
  observe(): WalIndexHeader | null;
  /** Frames of the current generation up to here need the WAL no more. */
  safe(): number;
}

export class PinPair {
  /** The header as read right after the held pin was taken: no frame above its mxFrame gets into the database file. */
  at: WalIndexHeader;
  /** The head as read right before: backfilling gets at least that far. */
  head: number;
  /** 'zero' also stands for a mark at the last frame with everything backfilled, which is as good. */
  slot: Slot;
  /** Counts the times that the pin came to slot 0 from elsewhere: while it stays, nobody may write to the database file. */
  freezes = 1;
  readonly #options: PinPairOptions;
  #held: Pin;
  #spare: Pin;

  /** `options.pins[0]` is held already; `before` and `after` were read around it. */
  constructor(options: PinPairOptions, before: WalIndexHeader, after: WalIndexHeader) {
    this.#options = options;
    [this.#held, this.#spare] = options.pins;
    this.at = after;
    this.head = before.mxFrame;
    this.slot = slotOf(before, after);
  }

  /**
   * Moves the pin to the head, or to slot 0 if everything is backfilled. `undrained`: it would be slot 0, but frames in
   * the database file are not safe yet, so that the old pin stays. `busy`: try again. `beforeRelease` is called when
   * the new pin is held and the old one about to be dropped.
   */
  move(beforeRelease?: () => void): 'moved' | 'undrained' | 'busy' {
    const { ledger, observe, safe } = this.#options;
    const before = observe();
    if (before === null) return 'busy';
    const { generation } = ledger;
    if (!this.#spare.begin()) return 'busy';
    const after = observe();
    if (after === null || ledger.generation !== generation) {
      this.#spare.end();
      return 'busy';
    }
    const slot = slotOf(before, after);
    if (slot !== 'mark' && after.backfill > safe()) {
      this.#spare.end();
      return 'undrained';
    }
    if (slot === 'zero') ledger.arm(after.mxFrame);
    else ledger.disarm();
    beforeRelease?.();
    if (slot === 'zero' && this.slot !== 'zero') this.freezes++;
    [this.#held, this.#spare] = [this.#spare, this.#held];
    this.#spare.end();
    this.at = after;
    this.head = before.mxFrame;
    this.slot = slot;
    return 'moved';
  }

  /** Only a new read transaction repairs a header that a killed writer left torn. */
  repair(): void {
    if (this.#spare.begin()) this.#spare.end();
  }

  /** Has anything happened since the pin was taken? */
  isOld(header: WalIndexHeader): boolean {
    const { at } = this;
    return header.mxFrame !== at.mxFrame || header.backfill !== at.backfill || header.salt1 !== at.salt1 || header.salt2 !== at.salt2;
  }
}

export const slotOf = (before: WalIndexHeader, after: WalIndexHeader): Slot => {
  const same = before.salt1 === after.salt1 && before.salt2 === after.salt2;
  if (same && after.backfill < before.mxFrame) return 'mark';
  return after.backfill === after.mxFrame ? 'zero' : 'unknown';
};
