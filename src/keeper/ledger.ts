/**
 * The ledger of WAL generations. A generation is what stands between two resets of the WAL; it begins at its first
 * frame (an empty WAL may show several salts in a row) and is numbered from 1 in each keeper.
 *
 * Guarantee: `observe` moves to the next generation only if the end of the last one is proven, that is, if the pin was
 * armed at exactly its last frame. A pin on slot 0 lets nobody backfill, so a WAL with a frame above the armed one
 * cannot be reset, and a new generation with a frame cannot be reset either. Any other change of salts is PIN_LOST.
 */
import type { WalIndexHeader } from '../sqlite/wal-index.ts';
import { WaggleError } from '../support/errors.ts';
import type { EndedGeneration, Salts } from './spool.ts';

export interface LedgerListener {
  ended(generation: number, lastFrame: number): void;
  begun(generation: number, salts: Salts): void;
}

export class Ledger {
  generation = 1;
  /** Null while the generation has no frame yet. */
  salts: Salts | null = null;
  /** Last committed frame seen of this generation. */
  lastFrame = 0;
  /** The generation before this one, where known. */
  previous: EndedGeneration | null;
  #armedAt: number | null = null;
  readonly #listener: LedgerListener;

  constructor(first: WalIndexHeader, previous: EndedGeneration | null, listener: LedgerListener) {
    this.previous = previous;
    this.#listener = listener;
    if (first.mxFrame > 0) {
      this.salts = { salt1: first.salt1, salt2: first.salt2 };
      this.lastFrame = first.mxFrame;
    }
  }

  /** The pin stands on slot 0, all is backfilled, and nothing up to `frame` (the last) depends on the WAL any more. */
  arm(frame: number): void {
    this.#armedAt = frame;
  }

  disarm(): void {
    this.#armedAt = null;
  }

  /** Takes note of a valid header. Throws PIN_LOST if the WAL was reset without proof. */
  observe(header: WalIndexHeader): void {
    if (this.salts !== null) {
      if (header.salt1 === this.salts.salt1 && header.salt2 === this.salts.salt2) {
        if (header.mxFrame < this.lastFrame) throw pinLost(`frame ${this.lastFrame} of the WAL vanished`);
        this.lastFrame = header.mxFrame;
        return;
      }
      if (this.#armedAt !== this.lastFrame) throw pinLost(`the WAL was reset after frame ${this.lastFrame} although it was pinned`);
      const ended = this.generation;
      const { lastFrame } = this;
      this.previous = { ...this.salts, lastFrame };
      this.generation++;
      this.salts = null;
      this.lastFrame = 0;
      this.#listener.ended(ended, lastFrame);
    }
    if (header.mxFrame === 0) return;
    const { salt1, salt2, mxFrame } = header;
    // A reset whose writer was killed, then a recovery: the old frames are back, and what is backfilled is unknown.
    if (salt1 === this.previous?.salt1 && salt2 === this.previous.salt2) throw pinLost('a generation that had ended came back');
    this.salts = { salt1, salt2 };
    this.lastFrame = mxFrame;
    this.#armedAt = null;
    this.#listener.begun(this.generation, this.salts);
  }
}

const pinLost = (message: string): WaggleError => new WaggleError('PIN_LOST', message);
