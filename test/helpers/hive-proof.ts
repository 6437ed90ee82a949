/**
 * That the log is the hive's history and nothing else: seq without a gap, each transaction the oracle's in order, each change
 * on top of the state before it, and the state after the last one the hive's own.
 */
import Database from 'better-sqlite3';
import { LogReader } from '../../src/log/log-reader.ts';
import { compareWithOracle, type OracleReport, readOracle } from './hive-oracle.ts';
import { readLogHistory, repeatedTxids } from './log-history.ts';
import { TableModel } from './table-model.ts';

/** The hive's rows at the beginning of the log: capture is ready and nobody writes. */
export const beginningOf = (hive: string, log: string): TableModel => {
  using reader = LogReader.open(log);
  const { catalog, head } = reader.info();
  if (catalog === null || head.seq !== 0) throw new Error(`the log is not at its beginning (head ${head.seq})`);
  const database = new Database(hive);
  try {
    return TableModel.read(database, catalog.tables);
  } finally {
    database.close();
  }
};

export interface Proof extends OracleReport {
  readonly transactions: number;
  readonly changes: number;
}

/**
 * Throws what does not hold. `untold`: transactions that a killed application may have committed without its oracle.
 * `beginning` is used up.
 */
export const proveHistory = (options: {
  readonly hive: string;
  readonly log: string;
  readonly beginning: TableModel;
  readonly oracles: readonly string[];
  readonly untold?: number;
}): Proof => {
  const { hive, log, beginning, oracles, untold = 0 } = options;
  const { transactions, changes, catalog } = readLogHistory(log);
  const [repeated] = repeatedTxids(transactions);
  if (repeated !== undefined) throw new Error(`transaction ${repeated} stands in the log twice`);
  const report = compareWithOracle(readOracle(...oracles), transactions, { maxUnknown: untold });
  for (const transaction of transactions) beginning.apply(transaction.changes);
  const database = new Database(hive);
  try {
    TableModel.read(database, catalog.tables).assertEquals(beginning);
  } finally {
    database.close();
  }
  return { ...report, transactions: transactions.length, changes };
};
