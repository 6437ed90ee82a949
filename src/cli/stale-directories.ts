/** What a killed `tail` left in the temporary directory: a copy of somebody's database. The next `tail` of this user removes it. */
import { lstatSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { StateLock } from '../support/state-lock.ts';

/** Younger ones may belong to a `tail` that is about to take its lock. */
const MIN_AGE_MS = 60_000;

/** Removes directories `<prefix>XXXXXX` of this user whose lock nobody holds. What cannot be removed stays. */
export const removeStaleDirectories = (parent: string, prefix: string): void => {
  for (const name of namesIn(parent)) {
    if (!name.startsWith(prefix) || name.length !== prefix.length + 6) continue;
    const path = join(parent, name);
    try {
      const stats = lstatSync(path);
      if (!stats.isDirectory() || stats.uid !== process.getuid?.() || Date.now() - stats.mtimeMs < MIN_AGE_MS) continue;
      if (StateLock.holder(path) === null) rmSync(path, { recursive: true, force: true });
    } catch {
      // Another `tail` was faster, or something in it is not this user's.
    }
  }
};

const namesIn = (directory: string): string[] => {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
};
