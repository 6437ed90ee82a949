/**
 * Rows of one table as a few statements: an UNNEST upsert and an UNNEST delete a chunk; many new rows go by COPY (see `copy.ts`). Deletes go first,
 * so that a value of a unique column can move from a deleted row to a new one; within a chunk every key stands once.
 */
import type { Value } from '../../src/change/table.ts';
import type { SinkRowChange } from '../../src/pipeline/sink.ts';
import { arrayColumn, holdsNul } from './array-literal.ts';
import { canWiden, joinKinds, kindFor, type OwnKind } from './column-type.ts';
import type { TableConstraints } from './constraints.ts';
import { copyScript, type Executable } from './copy.ts';
import { refusedValue } from './errors.ts';
import type { Target, TargetColumn, TargetTable } from './target-table.ts';

/** A statement with one array literal a column. */
export interface Statement extends Executable {
  readonly kind: 'upsert' | 'delete';
  readonly writer: TableWriter;
  /** Which column each literal is for. */
  readonly columns: readonly TargetColumn[];
}

// Beyond some thousand rows a statement gains nothing; memory and the time between two signs of life grow.
const CHUNK_ROWS = 5000;
const CHUNK_BYTES = 4 * 1024 * 1024;

export class TableWriter {
  readonly target: TargetTable;
  readonly constraints: TableConstraints;
  /** New rows go by COPY. */
  copies: boolean;
  readonly #shared: Target;
  /** Made before the next chunk is encoded: widening needs that nothing is under way. */
  readonly #settle: () => Promise<void>;
  #upserts: (readonly Value[])[] = [];
  /** Rows of them that are new to the hive, and so most likely to the target. */
  #created: (readonly Value[])[] = [];
  #deletes: (readonly Value[])[] = [];
  #sizeBytes = 0;
  #upsertSql = '';
  #deleteSql = '';

  constructor(target: TargetTable, parts: { constraints: TableConstraints; shared: Target; settle: () => Promise<void> }) {
    const { constraints, shared, settle } = parts;
    this.target = target;
    this.constraints = constraints;
    this.#shared = shared;
    this.#settle = settle;
    this.copies = !constraints.constrained;
    this.#buildSql();
  }

  /** Takes a row change. True: `take` is due. */
  add(change: SinkRowChange): boolean {
    if (change.after === null) {
      this.#deletes.push(change.key);
      this.#count(change.key);
    } else {
      (this.copies && change.op !== 'u' ? this.#created : this.#upserts).push(change.after);
      this.#count(change.after);
    }
    return this.#upserts.length + this.#created.length + this.#deletes.length >= CHUNK_ROWS || this.#sizeBytes >= CHUNK_BYTES;
  }

  /** The statements for what was added since the last time. May widen columns. */
  async take(): Promise<Statement[]> {
    const { columns, table } = this.target;
    const statements: Statement[] = [];
    const created = this.#created;
    let copied = this.#copyOf(created);
    const upserts = copied === null ? [...this.#upserts, ...created] : this.#upserts;
    // Encoded first: this may widen a key column, which the delete must know.
    if (upserts.length > 0) {
      const before = this.#upsertSql;
      const literals: string[] = [];
      for (const index of columns.keys()) literals.push(await this.#encode(upserts, index));
      statements.push({ kind: 'upsert', sql: this.#upsertSql, literals, writer: this, columns });
      // A wider column may want another text of the same value.
      if (copied !== null && this.#upsertSql !== before) copied = this.#copyOf(created);
    }
    if (copied !== null) statements.push(copied);
    if (this.#deletes.length > 0) {
      const rows = this.#possible(this.#deletes);
      const keys = table.key.map((index) => columns[index]!);
      const literals = keys.map((column, place) => arrayColumn(rows, place, column.kind, !this.target.own).literal);
      if (rows.length > 0) statements.unshift({ kind: 'delete', sql: this.#deleteSql, literals, writer: this, columns: keys });
    }
    this.#upserts = [];
    this.#created = [];
    this.#deletes = [];
    this.#sizeBytes = 0;
    return statements;
  }

  /** Null: too few of them to gain by it, or a value that does not fit. */
  #copyOf(rows: readonly (readonly Value[])[]): Statement | null {
    const { columns, own, quoted } = this.target;
    const copy = copyScript(
      quoted,
      rows,
      columns.map((column, index) => ({ ...column, isKey: this.target.table.key.includes(index) })),
      !own,
    );
    if (copy === null) return null;
    const lists = (): string[] => columns.map((column, index) => arrayColumn(rows, index, column.kind, !own).literal);
    return {
      kind: 'upsert',
      sql: this.#upsertSql,
      // Seldom asked for.
      get literals() {
        return lists();
      },
      copy,
      writer: this,
      columns,
    };
  }

  /** Deletes the rows that an upsert of this writer is going to write. */
  clearing(upsert: Statement): Statement {
    const { columns, table } = this.target;
    const [literals, keys] = [table.key.map((index) => upsert.literals[index]!), table.key.map((index) => columns[index]!)];
    return { kind: 'delete', sql: this.#deleteSql, literals, writer: this, columns: keys };
  }

  #count(values: readonly Value[]): void {
    let sizeBytes = 0;
    for (const value of values) sizeBytes += typeof value === 'string' ? value.length : value instanceof Uint8Array ? 2 * value.length : 8;
    this.#sizeBytes += sizeBytes;
  }

  async #encode(rows: readonly (readonly Value[])[], index: number): Promise<string> {
    const column = this.target.columns[index]!;
    if (this.target.table.key.includes(index) && rows.some((row) => row[index] === null))
      throw this.#refused(column, 'a key is NULL, which Postgres does not allow');
    const { literal, misfit } = arrayColumn(rows, index, column.kind, !this.target.own);
    if (misfit === -1) return literal;
    const value = rows[misfit]![index]!;
    if (holdsNul(value)) throw this.#refused(column, 'a text holds the character U+0000, which no text of Postgres can hold');
    if (!this.target.own || !canWiden(column.kind)) throw this.#refused(column, `a value (${storageClass(value)}) does not fit type ${column.type}`);
    if (rows.some((row) => holdsNul(row[index]!)))
      throw this.#refused(column, 'a text holds the character U+0000, which no text of Postgres can hold');
    const from = column.kind;
    const to = rows.reduce<OwnKind>((kind, row) => joinKinds(kind, kindFor(from, row[index]!, this.#shared.infinities)), from);
    await this.#settle();
    await this.target.widen(index, to);
    this.#buildSql();
    return arrayColumn(rows, index, to, false).literal;
  }

  // A key that the key column cannot hold is the key of no row.
  #possible(keys: readonly (readonly Value[])[]): readonly (readonly Value[])[] {
    const { own, columns, table } = this.target;
    const fits = (value: Value, place: number): boolean => {
      if (value === null || holdsNul(value)) return false;
      const { kind } = columns[table.key[place]!]!;
      return arrayColumn([[value]], 0, kind, !own).misfit === -1;
    };
    const suspicious = table.key.some((_, place) => arrayColumn(keys, place, columns[table.key[place]!]!.kind, !own).misfit !== -1);
    return suspicious || keys.some((key) => key.includes(null)) ? keys.filter((key) => key.every(fits)) : keys;
  }

  #refused(column: TargetColumn, reason: string): Error {
    return refusedValue({ target: this.#shared.label, table: this.target.name, column: column.name }, reason);
  }

  #buildSql(): void {
    const { columns, table, quoted } = this.target;
    const names = columns.map((column) => column.quoted);
    const keys = table.key.map((index) => columns[index]!);
    const isKey = new Set(table.key);
    const updates = columns.filter((_, index) => !isKey.has(index)).map((column) => `${column.quoted} = excluded.${column.quoted}`);
    const action = updates.length === 0 ? 'NOTHING' : `UPDATE SET ${updates.join(', ')}`;
    this.#upsertSql =
      `INSERT INTO ${quoted} (${names.join(', ')}) OVERRIDING SYSTEM VALUE SELECT ${columns.map(selected).join(', ')} FROM ${unnest(columns)} ` +
      `ON CONFLICT (${keys.map((column) => column.quoted).join(', ')}) DO ${action}`;
    this.#deleteSql =
      keys.length === 1
        ? `DELETE FROM ${quoted} WHERE ${keys[0]!.quoted} = ANY ($1::${arrayType(keys[0]!)})`
        : `DELETE FROM ${quoted} AS t USING ${unnest(keys)} WHERE ${keys.map((column, place) => `t.${column.quoted} = ${selected(column, place)}`).join(' AND ')}`;
  }
}

// Types that waggle does not know go as text and are converted by the server: an array type of theirs may not exist.
const passedAsText = (column: TargetColumn): boolean => column.kind === 'other';
const arrayType = (column: TargetColumn): string => `${column.type}[]`;
const selected = (column: TargetColumn, place: number): string => `k.c${place}${passedAsText(column) ? `::${column.type}` : ''}`;
const unnest = (columns: readonly TargetColumn[]): string =>
  `unnest(${columns.map((column, place) => `$${place + 1}::${passedAsText(column) ? 'text[]' : arrayType(column)}`).join(', ')}) AS k(${columns.map((_, place) => `c${place}`).join(', ')})`;

const storageClass = (value: Value): string => {
  if (typeof value === 'string') return 'TEXT';
  if (value instanceof Uint8Array) return 'BLOB';
  return typeof value === 'bigint' || Number.isSafeInteger(value) ? 'INTEGER' : 'REAL';
};
