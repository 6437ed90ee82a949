/**
 * make-hive's oracle: one line for each transaction that Hive attempted, with the rows that RETURNING gave. Holds captured
 * transactions against it, in order: every change must be explained by the statement's own rows (or by a foreign-key
 * cascade of them), and every row must have its change.
 */
import { readFileSync } from 'node:fs';
import type { Change, RowChange } from '../../src/change/change.ts';
import type { Row } from '../../src/change/row.ts';

type OracleRow = Record<string, string | number | null>;

export interface OracleEntry {
  readonly n: number;
  readonly op: string;
  readonly ok: boolean;
  readonly rows: readonly OracleRow[];
}

/** A transaction as the log tells it. */
export interface CapturedTransaction {
  readonly txid: string;
  readonly recovered: boolean;
  readonly changes: readonly Change[];
}

export interface OracleReport {
  /** Transactions that equal the oracle's, one by one. */
  readonly matched: number;
  readonly recovered: number;
  /** Oracle entries whose effect lies inside recovered transactions. */
  readonly covered: number;
}

const TABLES: Record<string, string> = { acc: 'accounts', pos: 'posts', ses: 'sessions', ron: 'ronin_link_post_editors' };

export const readOracle = (...paths: string[]): OracleEntry[] =>
  paths.flatMap((path) =>
    readFileSync(path, 'utf8')
      .split('\n')
      // A killed writer leaves a torn last line; the transaction it tells of may have committed.
      .filter((line) => line.endsWith('}'))
      .map((line) => JSON.parse(line) as OracleEntry),
  );

/** Entries that must have left a transaction: committed, and with rows. */
export const effective = (entries: readonly OracleEntry[]): OracleEntry[] =>
  entries.filter((entry) => entry.ok && entry.op !== 'read' && (entry.op === 'migration' || (entry.rows?.length ?? 0) > 0));

/**
 * Walks both lists. Throws an error that names the first transaction which is not the oracle's. A recovered transaction may
 * cover any number of entries; `unknown` (after a kill of the writer) allows transactions that the oracle lost.
 */
export const compareWithOracle = (
  entries: readonly OracleEntry[],
  captured: readonly CapturedTransaction[],
  options: { maxUnknown: number } = { maxUnknown: 0 },
): OracleReport => {
  const expected = effective(entries);
  let at = 0;
  let matched = 0;
  let recovered = 0;
  let covered = 0;
  let unknown = 0;
  let loose = false;
  for (const transaction of captured) {
    if (transaction.recovered) {
      recovered += 1;
      loose = true;
      continue;
    }
    // An upsert that sets the name that the account has anyway changes nothing.
    while (expected[at]?.op === 'upsert' && mismatch(expected[at]!, transaction.changes) !== null && at + 1 < expected.length) at += 1;
    const entry = expected[at];
    let reason = entry === undefined ? 'the oracle has no further transaction' : mismatch(entry, transaction.changes);
    if (reason !== null && loose) {
      // What lies between was seen only as a net effect.
      const next = expected.findIndex((candidate, index) => index > at && mismatch(candidate, transaction.changes) === null);
      if (next !== -1) {
        covered += next - at;
        at = next;
        reason = null;
      }
    }
    if (reason !== null) {
      unknown += 1;
      if (unknown > options.maxUnknown) throw new Error(`transaction ${transaction.txid} is not the oracle's ${entry?.n} (${entry?.op}): ${reason}`);
      continue;
    }
    loose = false;
    matched += 1;
    at += 1;
  }
  while (expected[at]?.op === 'upsert') at += 1;
  const left = expected.length - at;
  if (left > 0 && !loose) throw new Error(`${left} transactions of the oracle were not captured, first ${expected[at]!.n} (${expected[at]!.op})`);
  return { matched, recovered, covered: covered + left };
};

/** Why the changes are not this entry's; null: they are. */
const mismatch = (entry: OracleEntry, changes: readonly Change[]): string | null => {
  if (entry.op === 'migration') return changes.some((change) => change.op === 's') ? null : 'no schema change in a migration';
  const rows = changes.filter((change): change is RowChange => change.op === 'c' || change.op === 'u' || change.op === 'd');
  if (rows.length !== changes.length) return 'schema changes outside of a migration';
  const told = new Map(entry.rows.map((row) => [String(row['id']), row]));
  const removed = removedIds(entry, rows);
  for (const change of rows) {
    const row = (change.after ?? change.before)!;
    const values = namedValues(row);
    const id = String(values.get('id'));
    const expected = told.get(id);
    if (change.op === 'd') {
      if (removed.has(id)) {
        const reason = expected === undefined ? null : differs(expected, values);
        if (reason !== null) return `deleted ${id}: ${reason}`;
      } else if (![...removed].some((parent) => refersTo(change.table.name, values, parent))) {
        return `${change.table.name} ${id} was deleted and nothing says so`;
      }
      continue;
    }
    if (expected === undefined) return `${change.table.name} ${id} changed and nothing says so`;
    if (change.table.name !== TABLES[id.slice(0, 3)]) return `${id} in table ${change.table.name}`;
    const reason = differs(expected, values);
    if (reason !== null) return `${id}: ${reason}`;
  }
  const seen = new Set(rows.map((change) => String(namedValues((change.after ?? change.before)!).get('id'))));
  for (const id of told.keys()) if (!seen.has(id)) return `${id} did not change`;
  return null;
};

/** Ids whose rows the statement removed: told by RETURNING, or the old self of a row that changed its key or was replaced. */
const removedIds = (entry: OracleEntry, rows: readonly RowChange[]): Set<string> => {
  const ids = new Set<string>();
  if (entry.op.startsWith('remove')) {
    for (const row of entry.rows) if (Object.keys(row).length > 1) ids.add(String(row['id']));
  } else if (entry.op === 'changeKey') {
    const gone = rows.find((change) => change.op === 'd');
    if (gone !== undefined && rows.length === 2) ids.add(String(namedValues(gone.before!).get('id')));
  } else if (entry.op === 'replace') {
    for (const row of entry.rows) ids.add(String(row['id']));
  }
  return ids;
};

const refersTo = (table: string, values: ReadonlyMap<string, unknown>, id: string): boolean =>
  (table === 'sessions' && values.get('account') === id) ||
  (table === 'ronin_link_post_editors' && (values.get('source') === id || values.get('target') === id));

const differs = (expected: OracleRow, values: ReadonlyMap<string, unknown>): string | null => {
  for (const [column, value] of Object.entries(expected)) {
    if (!values.has(column)) return `column ${column} is missing`;
    if (values.get(column) !== value) return `column ${column} differs`;
  }
  return null;
};

const namedValues = (row: Row): Map<string, unknown> => {
  const values = row.values();
  return new Map(row.table.columns.map((column, index) => [column.name, values[index]]));
};
