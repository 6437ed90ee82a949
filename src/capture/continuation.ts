/**
 * From a saved position over what keepers left behind to the WAL of now: which frames follow, and where they lie
 * (protocol.ts of the keeper, "Over a restart"). Pure: what cannot be proven is no continuation.
 */
import type { Position } from '../change/change.ts';
import { samePrint } from '../keeper/hive-files.ts';
import type { FromKeeper, StartNote } from '../keeper/protocol.ts';
import type { SpooledFrames } from '../hive/wal-tail.ts';

export type Ready = Extract<FromKeeper, { type: 'ready' }>;

/** A generation that ended before the keeper's generation 1; numbered 0, -1, … backwards. */
export interface EarlierGeneration {
  readonly generation: number;
  readonly salt1: number;
  readonly salt2: number;
  readonly lastFrame: number;
}

export interface Continuation {
  /** Number of the position's generation. */
  readonly generation: number;
  readonly earlier: readonly EarlierGeneration[];
  readonly spooled: readonly SpooledFrames[];
}

interface Reached {
  salt1: number;
  salt2: number;
  frame: number;
  readonly segments: { readonly firstFrame: number; readonly lastFrame: number; readonly path: string }[];
}

/** Null: single transactions cannot be had without a gap. `note` belongs to a position at frame 0. */
export const findContinuation = (position: Position, ready: Ready, note: StartNote | null): Continuation | null => {
  if (position.frame > 0) return walk(position, ready, sameChecksum(position, ready.taken));
  const number = note === null ? null : startNumber(note, ready);
  if (number === null) return null;
  // Before its first frame a generation has no salts; those that it got stand in the WAL or with its first segment.
  if (number === 1 && ready.mxFrame === 0) return { generation: 1, earlier: [], spooled: [] };
  const salts = number === 1 ? ready : ready.leftover.find((segment) => segment.firstFrame === 1);
  if (salts === undefined) return null;
  const { salt1, salt2 } = salts;
  const found = walk({ ...position, salt1, salt2 }, ready, true);
  // Another count means that a generation in between is missing.
  return found?.generation === number ? found : null;
};

/**
 * The number, in the daemon's count, of the generation that the position is the beginning of; null: unknown. Another keeper than that
 * of the note must find the database file as it was: then nothing was backfilled, and no generation can have ended.
 */
const startNumber = (note: StartNote, ready: Ready): number | null => {
  if (note.keeper === ready.keeper) return note.generation - ready.number + 1;
  return samePrint(note.print, ready.print) ? 1 : null;
};

/** From a position with salts. `stands`: if its generation is that of the WAL, the WAL's history is the position's. */
const walk = (position: Position, ready: Ready, stands: boolean): Continuation | null => {
  const { salt1, salt2, frame } = position;
  const chain: Reached[] = [{ salt1, salt2, frame, segments: [] }];
  for (const segment of ready.leftover) {
    const at = chain.at(-1)!;
    if (sameSalts(segment, at)) {
      if (segment.lastFrame <= at.frame) continue;
      if (segment.firstFrame > at.frame + 1) return null;
      // Salts can come back; the running checksum tells one history from another.
      if (at === chain[0] && frame > 0 && segment.firstFrame === frame + 1 && !sameChecksum(segment.before, position)) return null;
      at.segments.push(segment);
      at.frame = segment.lastFrame;
    } else if (segment.previous !== null && sameSalts(segment.previous, at) && segment.previous.lastFrame === at.frame && segment.firstFrame === 1) {
      chain.push({ salt1: segment.salt1, salt2: segment.salt2, frame: segment.lastFrame, segments: [segment] });
    }
  }
  const last = chain.at(-1)!;
  const isNow = ready.mxFrame > 0 && sameSalts(ready, last) && ready.mxFrame >= last.frame && (chain.length > 1 || stands);
  const isNext = ready.previous !== null && sameSalts(ready.previous, last) && ready.previous.lastFrame === last.frame;
  if (!ready.proven || (!isNow && !isNext)) return null;

  const lastNumber = isNow ? 1 : 0;
  const number = (index: number): number => lastNumber - (chain.length - 1 - index);
  return {
    generation: number(0),
    earlier: chain
      .map((entry, index) => ({ generation: number(index), salt1: entry.salt1, salt2: entry.salt2, lastFrame: entry.frame }))
      .filter((entry) => entry.generation < 1),
    spooled: chain.flatMap((entry, index) =>
      entry.segments.map(({ firstFrame, lastFrame, path }) => ({ generation: number(index), firstFrame, lastFrame, path })),
    ),
  };
};

const sameSalts = (a: { salt1: number; salt2: number }, b: { salt1: number; salt2: number }): boolean => a.salt1 === b.salt1 && a.salt2 === b.salt2;

interface Sums {
  readonly checksum1: number;
  readonly checksum2: number;
}

const sameChecksum = (a: Sums, b: Sums | null): boolean => b !== null && a.checksum1 === b.checksum1 && a.checksum2 === b.checksum2;
