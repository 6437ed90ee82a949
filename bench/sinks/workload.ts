/** The rows that sinks are measured with: Hive's shape, a text key and six further columns, about 120 bytes. */
import type Database from 'better-sqlite3';
import { sinkTable } from '../../test/connectors/sink-changes.ts';
import { Random } from '../../test/helpers/random.ts';
import type { SinkTable } from '../../src/pipeline/sink.ts';

export type BenchRow = readonly [id: string, createdAt: string, handle: string, age: number, score: number, verified: number, settings: string];

export interface BenchChange {
  readonly op: 'c' | 'u' | 'd';
  /** As it becomes; of a `d`, as it was. */
  readonly row: BenchRow;
}

export const COLUMNS = [
  { name: 'id', type: 'TEXT', key: true },
  { name: 'ronin.createdAt', type: 'DATETIME' },
  { name: 'handle', type: 'TEXT' },
  { name: 'age', type: 'INTEGER' },
  { name: 'score', type: 'REAL' },
  { name: 'verified', type: 'BOOLEAN' },
  { name: 'settings', type: 'TEXT' },
] as const;

/** The table of the hive. */
export const TABLE = 'accounts';

/** What a sink is told of the table under another name. */
export const sinkTableOf = (name: string): SinkTable => sinkTable(name, COLUMNS);

/** Names and types of a target, as the list of a CREATE TABLE. `quote`: names that need it. */
export const columnList = (types: readonly string[], quote: (name: string) => string): string =>
  `(${COLUMNS.map(({ name }, index) => `${quote(name)} ${types[index]}`).join(', ')}, PRIMARY KEY (id))`;

/**
 * Keeps numbers only and makes rows when they are asked for: rows that lie in memory for the floor would slow down the garbage collector under a
 * sink that keeps none.
 */
export class Workload {
  readonly #count: number;
  readonly #random = new Random(1);
  readonly #alive: number[];
  /** How often a row was updated. */
  readonly #versions = new Map<number, number>();
  #next: number;

  constructor(count: number) {
    this.#count = count;
    this.#next = count;
    this.#alive = Array.from({ length: count }, (_, n) => n);
  }

  /** The rows that are there at first. */
  rows(): BenchRow[] {
    return Array.from({ length: this.#count }, (_, n) => rowOf(n, 0));
  }

  /** 60 inserts, 30 updates and 10 deletes of 100, mixed; no key twice, so that there is nothing to coalesce. */
  changes(count: number): BenchChange[] {
    const changes: BenchChange[] = [];
    const created: number[] = [];
    let untouched = this.#alive.length;
    // Behind the untouched ones the order is nobody's.
    const pick = (): number => {
      const at = this.#random.int(untouched);
      untouched -= 1;
      [this.#alive[at], this.#alive[untouched]] = [this.#alive[untouched]!, this.#alive[at]!];
      return untouched;
    };
    for (let index = 0; index < count; index += 1) {
      const kind = (index * 37) % 100;
      if (kind < 60) {
        created.push(this.#next);
        changes.push({ op: 'c', row: rowOf(this.#next, 0) });
        this.#next += 1;
        continue;
      }
      const at = pick();
      const n = this.#alive[at]!;
      const version = this.#versions.get(n) ?? 0;
      if (kind < 90) {
        this.#versions.set(n, version + 1);
        changes.push({ op: 'u', row: rowOf(n, version + 1) });
      } else {
        changes.push({ op: 'd', row: rowOf(n, version) });
        this.#alive[at] = this.#alive.at(-1)!;
        this.#alive.pop();
      }
    }
    for (const n of created) this.#alive.push(n);
    return changes;
  }
}

const rowOf = (n: number, version: number): BenchRow => {
  const id = `acc_${((n * 2654435761) % 2 ** 32).toString(16).padStart(16, '0')}`;
  const handle = version === 0 ? `handle-${n}` : `renamed-${n}-${version}`;
  return [id, '2026-11-21T00:10:49.686Z', handle, (n + version) % 90, n / 3 / (version + 1), (n + version) % 2, `{"theme":"dark","n":${n}}`];
};

/** The table in a fresh hive, with the rows. */
export const createHive = (db: Database.Database, rows: readonly BenchRow[]): void => {
  db.pragma('journal_mode = WAL');
  db.exec(`CREATE TABLE ${TABLE} (${COLUMNS.map(({ name, type }) => `"${name}" ${type}`).join(', ')}, PRIMARY KEY (id))`);
  const insert = db.prepare(`INSERT INTO ${TABLE} VALUES (?, ?, ?, ?, ?, ?, ?)`);
  db.transaction(() => {
    for (const row of rows) insert.run(row);
  })();
};

/** What the application executes for these changes, so many a transaction. */
export const hiveScript = (changes: readonly BenchChange[], perTransaction: number): string =>
  chunksOf(changes, perTransaction)
    .map((chunk) => `BEGIN IMMEDIATE;${chunk.map(statementOf).join(';')};COMMIT;`)
    .join('\n');

const statementOf = ({ op, row }: BenchChange): string => {
  const values = row.map((value) => (typeof value === 'string' ? `'${value}'` : String(value)));
  switch (op) {
    case 'c':
      return `INSERT INTO ${TABLE} VALUES (${values.join(',')})`;
    case 'u':
      return `UPDATE ${TABLE} SET handle=${values[2]},age=${values[3]},score=${values[4]},verified=${values[5]} WHERE id=${values[0]}`;
    case 'd':
      return `DELETE FROM ${TABLE} WHERE id=${values[0]}`;
  }
};

export const chunksOf = <T>(all: readonly T[], size: number): T[][] =>
  Array.from({ length: Math.ceil(all.length / size) }, (_, index) => all.slice(index * size, (index + 1) * size));

/** `\t` between values, a line a row: no value of these rows needs an escape. */
export const linesOf = (rows: readonly (readonly unknown[])[]): string => {
  let text = '';
  for (const row of rows) text += `${row.join('\t')}\n`;
  return text;
};

/** Rows to be written and keys to be deleted: the form in which a script that loads sets of rows wants them. */
export const setsOf = (changes: readonly BenchChange[]): { readonly upserts: readonly BenchRow[]; readonly deletes: readonly string[] } => ({
  upserts: changes.filter(({ op }) => op !== 'd').map(({ row }) => row),
  deletes: changes.filter(({ op }) => op === 'd').map(({ row }) => row[0]),
});
