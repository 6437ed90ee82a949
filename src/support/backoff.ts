/** Exponential backoff with full jitter: a random delay below a bound that doubles with each failure, up to a cap. */

export interface BackoffOptions {
  readonly firstMs: number;
  readonly capMs: number;
}

export const SINK_BACKOFF: BackoffOptions = { firstMs: 200, capMs: 30_000 };

/** Delay before the next try after `failures` failures in a row (from 1). `random` in [0, 1). */
export const backoffDelayMs = (failures: number, random: number, options: BackoffOptions = SINK_BACKOFF): number =>
  Math.floor(random * Math.min(options.capMs, options.firstMs * 2 ** Math.min(failures - 1, 30)));
