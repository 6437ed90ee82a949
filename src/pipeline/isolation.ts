/**
 * Which change of a batch a target refuses.
 *
 * By bisection over how far the batch goes from its first change: the smallest beginning that is refused ends with the change to blame. So a change
 * that is only wrong beside an earlier one (a value that is taken) is found, too. Nothing is committed meanwhile: each step is a rehearsal.
 */
import { WaggleError } from '../support/errors.ts';
import type { SinkChange } from './sink.ts';

export interface Search {
  /** The batch from its first change again, at each call. */
  readonly parts: () => Iterable<SinkChange[]>;
  /** Tries a batch and takes it back: what refused it, or null. */
  readonly rehearse: (parts: Iterable<SinkChange[]>) => Promise<WaggleError | null>;
  /** So many changes from the first are known to pass. */
  readonly passing: number;
}

export interface Blamed {
  readonly change: SinkChange;
  readonly error: WaggleError;
  /** Changes before it: they pass. */
  readonly passing: number;
}

/** Null: the whole batch passes when it is rehearsed. */
export const findRefused = async ({ parts, rehearse, passing }: Search): Promise<Blamed | null> => {
  let low = passing;
  let high = 0;
  for (const part of parts()) high += part.length;
  let error = await rehearse(parts());
  if (error === null || high === 0) return null;
  low = Math.min(low, high - 1);
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    const refused = await rehearse(beginning(parts(), middle));
    if (refused === null) low = middle;
    else [high, error] = [middle, refused];
  }
  let before = 0;
  for (const part of parts()) {
    const change = part[low - before];
    if (change !== undefined) return { change, error, passing: low };
    before += part.length;
  }
  return null;
};

const beginning = function* (parts: Iterable<SinkChange[]>, changes: number): Generator<SinkChange[], void, undefined> {
  let left = changes;
  for (const part of parts) {
    if (left <= 0) return;
    yield part.length <= left ? part : part.slice(0, left);
    left -= part.length;
  }
};

/** A refusal that can be put down to a row. */
export const isRefusal = (error: unknown): error is WaggleError => error instanceof WaggleError && error.code === 'SINK_ROW_REFUSED';
