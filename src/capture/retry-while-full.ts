/** A full disk is waited for: nothing is lost meanwhile, the keeper goes on holding the hive's frames. */
import { setTimeout as delay } from 'node:timers/promises';
import { systemErrorCode, WaggleError } from '../support/errors.ts';

const RETRY_MS = 500;

export interface FullDiskOptions {
  readonly warn: (error: WaggleError) => void;
  /** True: do not wait for space any more, throw DISK_FULL. */
  readonly isStopping: () => boolean;
}

/**
 * Runs `work` again as long as it fails for want of space; warns once. `work` must be repeatable after such a failure.
 * Throws DISK_FULL when it is told to stop meanwhile.
 */
export const retryWhileFull = async <T>(work: () => T | Promise<T>, { warn, isStopping }: FullDiskOptions): Promise<T> => {
  for (let told = false; ; told = true) {
    try {
      return await work();
    } catch (error) {
      const full = asDiskFull(error);
      if (full === null) throw error;
      if (isStopping()) throw full;
      if (!told) warn(full);
      await delay(RETRY_MS);
    }
  }
};

/** The error as DISK_FULL if it says that there is no space, else null. */
export const asDiskFull = (error: unknown): WaggleError | null => {
  if (error instanceof WaggleError) return error.code === 'DISK_FULL' ? error : null;
  const code = systemErrorCode(error);
  if (code !== 'ENOSPC' && code !== 'EDQUOT') return null;
  return new WaggleError('DISK_FULL', 'no space is left under the state directory; capture waits', { cause: error });
};
