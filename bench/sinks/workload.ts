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

export class Workload {
  readonly rows: readonly BenchRow[];
  readonly #random = new Random(1);
  readonly #alive: BenchRow[];
  #next = 0;

  constructor(count: number) {
    this.rows = Array.from({ length: count }, () => this.#create());
    this.#alive = [...this.rows];
  }

  /** 60 inserts, 30 updates and 10 deletes of 100, mixed; no key twice, so that there is nothing to coalesce. */
  changes(count: number): BenchChange[] {
    const changes: BenchChange[] = [];
    const created: BenchRow[] = [];
    let untouched = this.#alive.length;
    const pick = (): number => {
      const at = this.#random.int(untouched);
      untouched -= 1;
      [this.#alive[at], this.#alive[untouched]] = [this.#alive[untouched]!, this.#alive[at]!];
      return untouched;
    };
    for (let index = 0; index < count; index += 1) {
      const kind = (index * 37) % 100;
      if (kind < 60) {
        const row = this.#create();
        created.push(row);
        changes.push({ op: 'c', row });
      } else if (kind < 90) {
        const at = pick();
        const [id, createdAt, , age, score, verified, settings] = this.#alive[at]!;
        const row: BenchRow = [id, createdAt, `renamed-${index}`, age + 1, score / 2, 1 - verified, settings];
        this.#alive[at] = row;
        changes.push({ op: 'u', row });
      } else {
        const at = pick();
        changes.push({ op: 'd', row: this.#alive[at]! });
        // Behind the untouched ones the order is nobody's.
        this.#alive[at] = this.#alive.at(-1)!;
        this.#alive.pop();
      }
    }
    this.#alive.push(...created);
    return changes;
  }

  #create(): BenchRow {
    const n = (this.#next += 1);
    const id = `acc_${((n * 2654435761) % 2 ** 32).toString(16).padStart(16, '0')}`;
    return [id, '2026-11-21T00:10:49.686Z', `handle-${n}`, n % 90, n / 3, n % 2, `{"theme":"dark","n":${n}}`];
  }
}

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
