/**
 * What the next keeper must know to join its first generation to the last one of this keeper: a small JSON file in the
 * spool directory, rewritten when a generation begins or has provably ended.
 *
 *     {"version":1, "current": salts of the generation that has begun, or null while the WAL is empty,
 *      "previous": the generation that ended before it, or null,
 *      "untouched": size and time of the database file since `previous` stands in it completely, or null,
 *      "dropped": when and why the keeper let go of the hive by itself, or null}
 *
 * A generation cannot be reset before it was backfilled, and backfilling writes to the database file. So as long as the
 * file bears the same print, at most one generation has begun since: the one that is found.
 */
import { readFileSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { WalIndexHeader } from '../sqlite/wal-index.ts';
import { replaceFile } from '../support/file.ts';
import { samePrint, type Fingerprint } from './hive-files.ts';
import type { EndedGeneration, Salts } from './spool.ts';

export interface LedgerRecord {
  readonly current: Salts | null;
  readonly previous: EndedGeneration | null;
  readonly untouched: Fingerprint | null;
  readonly dropped: Dropped | null;
}

/** The pin was given up: the next daemon is told. */
export interface Dropped {
  readonly atMs: number;
  readonly reason: string;
}

const NAME = 'ledger.json';

/** Null if there is none, or none that this version reads. A torn one proves nothing and is as good as none. */
export const readLedgerFile = (dir: string): LedgerRecord | null => {
  try {
    const parsed: LedgerRecord & { version: number } = JSON.parse(readFileSync(join(dir, NAME), 'utf8'));
    return parsed.version === 1 ? { ...parsed, dropped: parsed.dropped ?? null } : null;
  } catch {
    return null;
  }
};

/** Never throws: without the file (full disk) the next start takes a recovery diff, which is correct too. */
export const writeLedgerFile = (dir: string, record: LedgerRecord, options: { durable: boolean }): void => {
  const path = join(dir, NAME);
  try {
    replaceFile(path, Buffer.from(JSON.stringify({ version: 1, ...record })), options);
  } catch {
    try {
      unlinkSync(path);
    } catch {
      // An old record proves nothing wrong: its salts or its print no longer match.
    }
  }
};

/** The generation that the one found directly follows, if the record proves it. */
export const findPrevious = (record: LedgerRecord | null, found: WalIndexHeader, print: Fingerprint | null): EndedGeneration | null => {
  if (record === null || record.previous === null) return null;
  const is = (salts: Salts | null): boolean => salts !== null && found.mxFrame > 0 && salts.salt1 === found.salt1 && salts.salt2 === found.salt2;
  if (is(record.previous)) return null;
  if (is(record.current)) return record.previous;
  return record.current === null && samePrint(record.untouched, print) ? record.previous : null;
};
