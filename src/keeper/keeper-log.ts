/** The log of a keeper that has no terminal: a text file that is started over when it has grown, with one older file beside it. */
import { appendFileSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';

const NAME = 'keeper.log';
const BYTES_MAX = 256 * 1024;

export const keeperLogPath = (dir: string): string => join(dir, NAME);

/** Never throws: a keeper whose disk is full must go on. */
export const logLine = (dir: string, text: string): void => {
  const path = keeperLogPath(dir);
  try {
    if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) > BYTES_MAX) renameSync(path, `${path}.1`);
    appendFileSync(path, `${new Date().toISOString()} ${process.pid} ${text}\n`, { mode: 0o600 });
  } catch {
    // What matters is also in the ledger, and is told to the next daemon.
  }
};
