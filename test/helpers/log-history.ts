/** The whole log, read as any reader reads it: transactions in order, and proof that seq has no gap. */
import { LogReader } from '../../src/log/log-reader.ts';
import type { Catalog } from '../../src/change/table.ts';
import type { CapturedTransaction } from './hive-oracle.ts';

export interface LogHistory {
  readonly transactions: readonly CapturedTransaction[];
  readonly changes: number;
  readonly recovered: number;
  readonly catalog: Catalog;
}

/** Throws where a seq is missing or comes twice. */
export const readLogHistory = (path: string): LogHistory => {
  using reader = LogReader.open(path);
  const { catalog, head } = reader.info();
  if (catalog === null) throw new Error(`${path} has no catalog: nothing was captured`);
  const transactions: CapturedTransaction[] = [];
  let seq = 0;
  for (;;) {
    const found = reader.transactionsAfter(seq, { maxTransactions: 500 });
    if (found.length === 0) break;
    for (const { info, ...transaction } of found.map((each) => ({ info: each.info, changes: [...each.changes()].flat() }))) {
      const { changes } = transaction;
      changes.forEach((change, index) => {
        if (change.seq !== seq + index + 1) throw new Error(`seq ${change.seq} follows ${seq + index} in transaction ${info.txid}`);
      });
      if (info.firstSeq !== seq + 1 || info.lastSeq !== seq + changes.length)
        throw new Error(`transaction ${info.txid} is ${info.firstSeq}–${info.lastSeq} and holds ${changes.length} changes after ${seq}`);
      transactions.push({ txid: info.txid, recovered: info.recovered, changes });
      seq = info.lastSeq;
    }
  }
  if (seq !== head.seq) throw new Error(`the log ends at ${seq}, its head is ${head.seq}`);
  return { transactions, changes: seq, recovered: transactions.filter((transaction) => transaction.recovered).length, catalog };
};

/** What has the right of a txid to come only once. */
export const repeatedTxids = (transactions: readonly CapturedTransaction[]): string[] => {
  const seen = new Set<string>();
  return transactions.filter(({ txid }) => seen.size === seen.add(txid).size).map(({ txid }) => txid);
};
