/** Waiting for a condition, with a deadline that names what did not come. */
import { setTimeout as delay } from 'node:timers/promises';

export interface UntilOptions {
  readonly deadlineMs?: number;
  readonly everyMs?: number;
  /** What else to tell when the deadline has passed. */
  readonly told?: () => string;
}

/** The first value that is neither false, null nor undefined. What `condition` throws ends the waiting. */
export const until = async <T>(
  what: string,
  condition: () => T | false | null | undefined | Promise<T | false | null | undefined>,
  { deadlineMs = 30_000, everyMs = 20, told }: UntilOptions = {},
): Promise<T> => {
  const deadline = performance.now() + deadlineMs;
  for (;;) {
    const value = await condition();
    if (value !== false && value !== null && value !== undefined) return value;
    if (performance.now() > deadline) throw new Error(`waited ${deadlineMs} ms for ${what}${told === undefined ? '' : `\n${told()}`}`);
    await delay(everyMs);
  }
};
