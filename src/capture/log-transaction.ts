/** A transaction's changes as the log takes them. */
import { type Part, PART_BYTES, partBytes } from '../change/change-codec.ts';
import type { TransactionChanges } from '../diff/transaction-diff.ts';
import type { LogTransaction } from '../log/transaction-batch.ts';

/** Microseconds since 1970. */
export const nowUs = (): number => Math.round((performance.timeOrigin + performance.now()) * 1000);

/** The log keeps the single part of a small transaction inline. */
export const joined = (parts: readonly Part[]): readonly Part[] => {
  if (parts.length < 2) return parts;
  const bytes = parts.reduce((sum, part) => sum + part.length, 0);
  return bytes <= PART_BYTES ? [Buffer.concat(parts.map(partBytes))] : parts;
};

/** A transaction that no single commit stands behind. */
export const recoveredTransaction = (at: { epoch: number; frame: number }, { changes, schema, previous }: TransactionChanges): LogTransaction => ({
  epoch: at.epoch,
  frame: at.frame,
  timestampUs: nowUs(),
  origin: null,
  recovered: true,
  changeCount: changes.count,
  parts: joined(changes.parts()),
  catalogVersion: schema.catalog.version,
  previousCatalogVersion: previous.catalog.version,
});
