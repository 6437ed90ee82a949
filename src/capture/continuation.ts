/**
 * From a saved position over what keepers left behind to the WAL of now: which frames follow, and where they lie
 * (protocol.ts of the keeper, "Over a restart"). Pure: what cannot be proven is no continuation.
 */
import type { Position } from '../change/change.ts';
import type { FromKeeper } from '../keeper/protocol.ts';
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

/** Null: single transactions cannot be had without a gap. */
export const findContinuation = (position: Position, ready: Ready): Continuation | null => {
  const { salt1, salt2, frame } = position;
  const chain: Reached[] = [{ salt1, salt2, frame, segments: [] }];
  for (const segment of ready.leftover) {
    const at = chain.at(-1)!;
    if (sameSalts(segment, at)) {
      if (segment.lastFrame <= at.frame) continue;
      if (segment.firstFrame > at.frame + 1) return null;
      // Salts can come back; the running checksum tells one history from another.
      if (at === chain[0] && segment.firstFrame === frame + 1 && !sameChecksum(segment.before, position)) return null;
      at.segments.push(segment);
      at.frame = segment.lastFrame;
    } else if (segment.previous !== null && sameSalts(segment.previous, at) && segment.previous.lastFrame === at.frame && segment.firstFrame === 1) {
      chain.push({ salt1: segment.salt1, salt2: segment.salt2, frame: segment.lastFrame, segments: [segment] });
    }
  }
  const last = chain.at(-1)!;
  const isNow = ready.mxFrame > 0 && sameSalts(ready, last) && ready.mxFrame >= last.frame;
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

const sameChecksum = (a: { checksum1: number; checksum2: number }, b: { checksum1: number; checksum2: number }): boolean =>
  a.checksum1 === b.checksum1 && a.checksum2 === b.checksum2;
