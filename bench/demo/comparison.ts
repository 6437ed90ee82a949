/**
 * After everything has ended: every row of every table in the hive and in what each sink made of it, and every transaction
 * of the log beside what the application knows that it committed.
 */
import Database from 'better-sqlite3';
import { compareWithOracle, type CapturedTransaction, readOracle } from '../../test/helpers/hive-oracle.ts';
import { replayJsonl } from '../../test/helpers/jsonl-replay.ts';
import { type LogHistory, readLogHistory, repeatedTxids } from '../../test/helpers/log-history.ts';
import { withPglite, withPostgres } from '../../test/helpers/postgres-text.ts';
import { difference, type Difference, readSqliteRows, readSqliteRowsLike, type RowSet } from '../../test/helpers/row-sets.ts';
import { say } from './progress.ts';
import type { Workspace } from './workspace.ts';

/** What the applications know that they committed, beside the oracles of Hive's lives. */
export interface Told {
  /** Transactions that a killed application may have committed and could not write down any more. */
  readonly untold: number;
  /** Tables with one row a transaction, numbered from 1, and how many. */
  readonly probes: Readonly<Record<string, number>>;
}

export interface Comparison {
  readonly history: LogHistory;
  /** Rows of the hive, times the places they were compared with. */
  readonly rowsCompared: number;
  readonly lost: number;
  readonly duplicated: number;
  /** Everything that did not compare, in words. */
  readonly faults: readonly string[];
}

export const compareAll = async (workspace: Workspace, told: Told): Promise<Comparison> => {
  const faults: string[] = [];
  let [rowsCompared, lost, duplicated] = [0, 0, 0];
  const judge = (name: string, found: Difference): void => {
    rowsCompared += found.rows;
    lost += found.missing;
    duplicated += found.surplus;
    if (found.first !== null) faults.push(`${name}: ${found.first}`);
    say(`${name}: ${found.rows} rows compared, ${found.missing} missing, ${found.surplus} surplus`);
  };
  const exact = readSqliteRows(workspace.hive, 'exact');
  const text = readSqliteRows(workspace.hive, 'text');
  judge('hive = SQLite copy (values and their types)', difference(exact, readSqliteRowsLike(workspace.copy, exact, 'exact')));
  judge('hive = PGlite', difference(text, await withPglite(workspace.pg, text)));
  if (workspace.databaseUrl !== null) judge('hive = Postgres', difference(text, await withPostgres(workspace.databaseUrl, workspace.schema, text)));

  const replay = replayJsonl(workspace.jsonl);
  judge(`hive = replay of ${replay.events} lines of JSON`, difference(text, replay.rowsLike(text)));
  const history = readLogHistory(workspace.log);
  const order = [...replay.faults];
  if (replay.lastSeq !== history.changes) order.push(`the file ends at seq ${replay.lastSeq}, the log at ${history.changes}`);
  for (const txid of repeatedTxids(history.transactions)) order.push(`transaction ${txid} stands in the log twice`);
  if (order.length > 0) duplicated += order.length;
  faults.push(...order.slice(0, 3));
  say(`log and file: seq 1 to ${history.changes} without a gap, each change on top of the state before it: ${order.length === 0 ? 'yes' : 'NO'}`);

  const transactions = compareTransactions(workspace, history, told);
  lost += transactions.lost;
  faults.push(...transactions.faults);
  return { history, rowsCompared, lost, duplicated, faults };
};

/** One by one with the application's own record of them. */
const compareTransactions = (workspace: Workspace, history: LogHistory, { untold, probes }: Told): { lost: number; faults: string[] } => {
  const faults: string[] = [];
  let lost = 0;
  const tableOf = ({ changes }: CapturedTransaction): string => (changes[0]!.op === 's' ? changes[0]!.name : changes[0]!.table.name);
  const isProbe = (transaction: CapturedTransaction): boolean => tableOf(transaction) in probes;
  try {
    // What was committed before capture began is not in the log but in the first fill.
    const fill: CapturedTransaction = { txid: 'first fill', recovered: true, changes: [] };
    const ofHive = history.transactions.filter((transaction) => !isProbe(transaction));
    const report = compareWithOracle(readOracle(...workspace.oracles), [fill, ...ofHive], { maxUnknown: untold });
    say(
      `transactions: ${report.matched} of Hive equal its own record one by one; ${report.covered} lie before the first fill or in ${report.recovered - 1} recovered ones`,
    );
  } catch (error) {
    lost += 1;
    faults.push(error instanceof Error ? error.message : String(error));
  }
  for (const [table, count] of Object.entries(probes)) {
    const single = history.transactions.filter((transaction) => tableOf(transaction) === table && transaction.changes[0]!.op === 'c');
    const ids = single.map(({ changes }) => (changes.length === 1 && changes[0]!.op === 'c' ? Number(changes[0]!.after!.values()[0]) : 0));
    const inOrder = ids.length === count && ids.every((id, index) => id === index + 1);
    say(`transactions: ${ids.length} of ${count} inserts into ${table}, in order: ${inOrder ? 'yes' : 'NO'}`);
    if (inOrder) continue;
    lost += Math.max(1, count - ids.length);
    faults.push(`of ${count} commits into ${table} the log has ${ids.length}, or in another order`);
  }
  return { lost, faults };
};

/** Proof that the comparison finds something: one row of the copy is changed, one is removed. */
export const tamper = (workspace: Workspace, rows: RowSet = readSqliteRows(workspace.copy, 'exact')): void => {
  if ((rows.get('posts')?.count ?? 0) < 2) throw new Error('there is nothing to tamper with');
  const database = new Database(workspace.copy);
  database.exec(
    `UPDATE posts SET likes = likes + 1 WHERE id = (SELECT min(id) FROM posts); DELETE FROM posts WHERE id = (SELECT max(id) FROM posts)`,
  );
  database.close();
  say('tampered with the SQLite copy: one row changed, one removed');
};
