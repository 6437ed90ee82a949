/** The log of a round against the accounts of its writers, transaction by transaction. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { Change } from '../../src/change/change.ts';
import type { Catalog } from '../../src/change/table.ts';
import type { CapturedTransaction } from '../helpers/hive-oracle.ts';
import { readLogHistory, repeatedTxids } from '../helpers/log-history.ts';
import type { Account, TableAccount, VoidAccount } from './account.ts';
import { HistoryModel } from './history-model.ts';

export interface CheckedHistory {
  readonly model: HistoryModel;
  readonly transactions: number;
  readonly changes: number;
  /** What each transaction held, counted. */
  readonly ops: Readonly<Record<string, number>>;
}

/** Lines of a writer in the order in which they were written; the first transaction that is not the account's ends the check. */
export type AccountLine = Account | VoidAccount;

export const readAccounts = (path: string): AccountLine[] =>
  readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as AccountLine);

export const checkHistory = (options: {
  readonly log: string;
  /** As of capture's beginning. */
  readonly catalog: Catalog;
  /** Of each writer. */
  readonly accounts: readonly (readonly AccountLine[])[];
  /** Of the first and the last account. */
  readonly firstOrder: number;
  readonly lastOrder: number;
}): CheckedHistory => {
  const { log, catalog, accounts, firstOrder, lastOrder } = options;
  const byOrder = accountsByOrder(accounts);
  const first = byOrder.get(firstOrder)!;
  const model = new HistoryModel(catalog, first.tables);
  const history = readLogHistory(log);
  const [repeated] = repeatedTxids(history.transactions);
  assert.equal(repeated, undefined, 'a txid that comes twice');
  const ops: Record<string, number> = { vacuum: 0, c: 0, u: 0, d: 0, t: 0, s: 0 };
  let order = firstOrder;
  let transactions = 0;
  for (const transaction of history.transactions) {
    for (const change of transaction.changes) ops[change.op]! += 1;
    const told = orderOf(transaction.changes);
    const account = told === null ? null : (byOrder.get(told) ?? null);
    try {
      assert(!transaction.recovered, 'the transaction is marked recovered');
      if (told === null) {
        ops['vacuum']! += 1;
        checkVacuum(model, transaction);
        model.apply(transaction.changes);
        continue;
      }
      assert.equal(told, order + 1, 'order of commits');
      assert(account !== null, 'no writer has an account of it');
      order = told;
      for (const { name, sum } of account.before ?? []) assert.equal(model.tables.get(name)?.sum, sum, `content of table ${name} before`);
      const changed = model.apply(transaction.changes);
      if (account.names !== undefined) assert.deepEqual([...model.tables.keys()].toSorted(), account.names.toSorted(), 'tables');
      const named = new Set(account.tables.map((table) => table.name));
      for (const name of changed) assert(named.has(name) || !model.tables.has(name), `table ${name} changed, and the transaction did not touch it`);
      for (const table of account.tables) model.compare(table);
      transactions += 1;
    } catch (error) {
      throw new Error(describe({ error, transaction, order: told, account, accounts, model }), { cause: error });
    }
  }
  assert.equal(order, lastOrder, `the log ends with order ${order}, the writers with ${lastOrder}`);
  ops['idle'] = model.idleUpdates;
  return { model, transactions, changes: history.changes, ops };
};

const accountsByOrder = (accounts: readonly (readonly AccountLine[])[]): Map<number, Account> => {
  const byOrder = new Map<number, Account>();
  for (const lines of accounts) {
    lines.forEach((line, index) => {
      if ('void' in line) return;
      const next = lines[index + 1];
      if (next !== undefined && 'void' in next && next.void === line.order) return;
      assert(!byOrder.has(line.order), `two accounts of order ${line.order}`);
      byOrder.set(line.order, line);
    });
  }
  return byOrder;
};

/** The counter after the transaction; null where it did not count (VACUUM cannot). */
const orderOf = (changes: readonly Change[]): number | null => {
  for (const change of changes) if (change.op === 'u' && change.table.name === 'fuzz_order') return Number(change.after!.values()[1]);
  return null;
};

/** VACUUM gives rows other rowids, and nothing else: a rowid can then be another row's. */
const checkVacuum = (model: HistoryModel, { changes }: CapturedTransaction): void => {
  const gone: string[] = [];
  const come: string[] = [];
  for (const change of changes) {
    assert(change.op !== 's' && change.op !== 't', `${change.op} in a transaction that is no writer's`);
    if (change.before !== null) gone.push(`${change.table.name}: ${model.valuesOf(change.before)}`);
    if (change.after !== null) come.push(`${change.table.name}: ${model.valuesOf(change.after)}`);
  }
  assert.deepEqual(come.toSorted(), gone.toSorted(), 'rows of a VACUUM');
};

/** All that helps to find out: the transaction, what its writer did, and the rows that differ. */
const describe = (what: {
  error: unknown;
  transaction: CapturedTransaction;
  order: number | null;
  account: Account | null;
  accounts: readonly (readonly AccountLine[])[];
  model: HistoryModel;
}): string => {
  const { error, transaction, order, account, accounts, model } = what;
  const lines = [
    `transaction ${transaction.txid} (order ${order}, writer ${account?.writer}): ${error instanceof Error ? error.message : String(error)}`,
    `  statements:`,
    ...(account?.statements ?? []).map((sql) => `    ${sql.replaceAll('\n', ' ').slice(0, 300)}`),
    `  changes: ${transaction.changes.length}`,
    ...transaction.changes
      .slice(0, 20)
      .map(
        (change) => `    ${change.seq} ${change.op} ${change.op === 's' ? `${change.name} ${change.table?.sql.slice(0, 200)}` : change.table.name}`,
      ),
  ];
  for (const table of account?.tables ?? []) {
    const { log, sqlite } = model.difference(table.name, viewOf(table, account!, accounts[account!.writer]!));
    if (log.length + sqlite.length === 0) continue;
    lines.push(`  table ${table.name}: ${log.length} rows only in the log, ${sqlite.length} only in SQLite`);
    lines.push(
      ...log.slice(0, 5).map((text) => `    log    ${text.slice(0, 300)}`),
      ...sqlite.slice(0, 5).map((text) => `    SQLite ${text.slice(0, 300)}`),
    );
  }
  return lines.join('\n');
};

/** All rows of a table, as the writer told them with all its accounts up to this one. */
const viewOf = (table: TableAccount, account: Account, lines: readonly AccountLine[]): Set<string> => {
  let view = new Set<string>();
  for (const line of lines) {
    if ('void' in line) continue;
    const told = line.tables.find((each) => each.name === table.name);
    if (told !== undefined) {
      // A table that was dropped meanwhile, and came again, is told anew.
      if (told.added.length === told.rows) view = new Set();
      for (const text of told.removed) view.delete(text);
      for (const text of told.added) view.add(text);
    }
    if (line === account) break;
  }
  return view;
};
