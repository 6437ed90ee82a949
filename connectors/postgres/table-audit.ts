/**
 * Reading a target table back, for `verify` and `resync`. The hive's rows are sent as `apply` sends them, and the server compares: so a value is the
 * same exactly if writing it again would change nothing, whatever the column's type.
 */
import type { Value } from '../../src/change/table.ts';
import type { ColumnDifference, RowDifferences, SinkTable } from '../../src/pipeline/sink.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { arrayColumn } from './array-literal.ts';
import { plainNumber } from '../value-text.ts';
import { type ColumnKind, kindOfType } from './column-type.ts';
import { quoteName, targetColumnName, targetTableName } from './names.ts';
import { qualified, type Target } from './target-table.ts';

interface AuditColumn {
  readonly name: string;
  readonly quoted: string;
  /** Without its modifier, as parameters are declared. */
  readonly type: string;
  /** With it: `numeric(10,2)`. */
  readonly fullType: string;
  readonly kind: ColumnKind;
}

/** Types without an operator `=`. */
const WITHOUT_EQUALITY = new Set(['json', 'xml', 'point']);

export class TableAudit {
  readonly #target: Target;
  readonly #table: SinkTable;
  readonly #quoted: string;
  readonly #own: boolean;
  /** By name; empty: there is no such table. */
  readonly #found: ReadonlyMap<string, AuditColumn>;

  private constructor(target: Target, table: SinkTable, state: { own: boolean; found: ReadonlyMap<string, AuditColumn> }) {
    this.#target = target;
    this.#table = table;
    this.#quoted = qualified(target, targetTableName(table.name));
    this.#own = state.own;
    this.#found = state.found;
  }

  static async open(target: Target, table: SinkTable): Promise<TableAudit> {
    const name = targetTableName(table.name);
    const rows = await target.session.query(
      `SELECT a.attname::text AS name, format_type(a.atttypid, -1) AS type, format_type(a.atttypid, a.atttypmod) AS full_type,
              EXISTS (SELECT FROM ${qualified(target, 'waggle_table')} w WHERE w.relation = $2)::text AS own
       FROM pg_attribute a WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped`,
      [qualified(target, name), name],
    );
    const found = new Map(
      rows.map((row) => {
        const [column, type] = [row['name']!, row['type']!];
        const kind = kindOfType(type);
        return [column, { name: column, quoted: quoteName(column), type, fullType: row['full_type']!, kind }] as const;
      }),
    );
    return new TableAudit(target, table, { own: rows[0]?.['own'] === 'true', found });
  }

  async compare(rows: readonly (readonly Value[])[]): Promise<RowDifferences> {
    if (this.#found.size === 0) return { missing: [...rows.keys()], changed: [] };
    const columns = this.#table.columns.map((column) => this.#column(column.name));
    const { sent, odd, literals } = this.#encode(rows, columns);
    const there = await this.#there(odd.map((index) => rows[index]!));
    const result = { missing: odd.filter((_, place) => !there.has(place)), changed: odd.filter((_, place) => there.has(place)) };
    if (sent.length === 0) return result;
    for (const row of await this.#target.session.query(this.#compareSql(columns), literals)) {
      const index = sent[Number(row['i']) - 1]!;
      if (row['missing'] === 'true') result.missing.push(index);
      else result.changed.push(index);
    }
    return result;
  }

  async differences(rows: readonly (readonly Value[])[]): Promise<ColumnDifference[][]> {
    if (this.#found.size === 0) return rows.map(() => []);
    const found: ColumnDifference[][] = [];
    // One by one: they are few, and a value that its column cannot hold must not hide those of the others.
    for (const row of rows) found.push(await this.#differencesOf(row));
    return found;
  }

  async #differencesOf(row: readonly Value[]): Promise<ColumnDifference[]> {
    const columns = this.#table.columns.map((column) => this.#column(column.name));
    const fits = columns.map((column, place) => arrayColumn([row], place, column.kind, !this.#own).misfit === -1);
    if (this.#table.key.some((place) => !fits[place])) return [];
    const sent = row.map((value, place) => (fits[place] ? value : null));
    const told = columns.flatMap((column, place) =>
      this.#isCompared(place)
        ? [`(${fits[place] ? this.#differs(column, place) : 'true'})::text AS d${place}, t.${column.quoted}::text AS v${place}`]
        : [],
    );
    if (told.length === 0) return [];
    const [answer] = await this.#target.session.query(
      `SELECT ${told.join(', ')} FROM ${this.#parameters(columns)} JOIN ${this.#quoted} t ON ${this.#match(columns)}`,
      columns.map((column, place) => arrayColumn([sent], place, column.kind, !this.#own).literal),
    );
    if (answer === undefined) return [];
    return columns.flatMap(({ kind }, place) =>
      answer[`d${place}`] === 'true' ? [{ column: place, wanted: row[place]!, found: valueOf(kind, answer[`v${place}`] ?? null) }] : [],
    );
  }

  /** Of which of these rows the key is there; indexes. */
  async #there(rows: readonly (readonly Value[])[]): Promise<Set<number>> {
    const columns = this.#keyColumns();
    const keys = rows.map((row) => this.#table.key.map((index) => row[index]!));
    const { sent, literals } = this.#encode(keys, columns);
    if (sent.length === 0) return new Set();
    const match = columns.map((column, place) => `t.${column.quoted} = ${parameter(column, place)}`);
    const found = await this.#target.session.query(
      `SELECT k.i::text AS i FROM ${this.#parameters(columns)} JOIN ${this.#quoted} t ON ${match.join(' AND ')}`,
      literals,
    );
    return new Set(found.map((row) => sent[Number(row['i']) - 1]!));
  }

  async count(): Promise<number> {
    if (this.#found.size === 0) return 0;
    const [row] = await this.#target.session.query(`SELECT count(*)::text AS n FROM ${this.#quoted} WHERE ${this.#living()}`, []);
    return Number(row?.['n'] ?? 0);
  }

  async keys(after: readonly Value[] | null, limit: number): Promise<Value[][]> {
    if (this.#found.size === 0) return [];
    const columns = this.#keyColumns();
    const strange = columns.find((column) => !comesBack(column));
    if (strange !== undefined)
      throw new WaggleError(
        'SINK_NOT_READABLE',
        `${this.#target.label}, table ${this.#table.name}: keys of type ${strange.fullType} cannot be compared with the hive's`,
      );
    const names = columns.map((column) => column.quoted).join(', ');
    const behind = after === null ? '' : `AND (${names}) > (${columns.map((column, place) => `$${place + 1}::text::${column.fullType}`).join(', ')})`;
    const rows = await this.#target.session.query(
      `SELECT ${columns.map((column, place) => `${column.quoted}::text AS c${place}`).join(', ')} FROM ${this.#quoted} WHERE ${this.#living()} ${behind} ORDER BY ${names} LIMIT ${limit}`,
      (after ?? []).map(parameterOf),
    );
    return rows.map((row) => columns.map((column, place) => valueOf(column.kind, row[`c${place}`] ?? null)));
  }

  /** A value that its column cannot hold is not in it: such rows are `odd`, and not sent. */
  #encode(rows: readonly (readonly Value[])[], columns: readonly AuditColumn[]): { sent: number[]; odd: number[]; literals: string[] } {
    const odd = new Set<number>();
    for (;;) {
      const sent = [...rows.keys()].filter((index) => !odd.has(index));
      const chosen = odd.size === 0 ? rows : sent.map((index) => rows[index]!);
      const literals: string[] = [];
      for (const [index, column] of columns.entries()) {
        const { literal, misfit } = arrayColumn(chosen, index, column.kind, !this.#own);
        if (misfit !== -1) {
          odd.add(sent[misfit]!);
          break;
        }
        literals.push(literal);
      }
      if (literals.length === columns.length) return { sent, odd: [...odd], literals };
    }
  }

  #compareSql(columns: readonly AuditColumn[]): string {
    const differs = columns.flatMap((column, place) => (this.#isCompared(place) ? [this.#differs(column, place)] : []));
    const absent = `t.${columns[this.#table.key[0]!]!.quoted} IS NULL`;
    return (
      `SELECT k.i::text AS i, (${absent})::text AS missing FROM ${this.#parameters(columns)} ` +
      `LEFT JOIN ${this.#quoted} t ON ${this.#match(columns)} WHERE ${[absent, ...differs].join(' OR ')}`
    );
  }

  /** Neither of the key, which is the same in both, nor of the change. */
  #isCompared(place: number): boolean {
    return !this.#table.key.includes(place) && this.#table.columns[place]!.volatile !== true;
  }

  #differs(column: AuditColumn, place: number): string {
    const cast = WITHOUT_EQUALITY.has(column.type) ? '::text' : '';
    return `t.${column.quoted}${cast} IS DISTINCT FROM ${parameter(column, place)}${cast}`;
  }

  #match(columns: readonly AuditColumn[]): string {
    return this.#table.key.map((place) => `t.${columns[place]!.quoted} = ${parameter(columns[place]!, place)}`).join(' AND ');
  }

  /** The rows that are sent, as `k`. */
  #parameters(columns: readonly AuditColumn[]): string {
    const passed = columns.map((column, place) => `$${place + 1}::${parameterType(column)}`);
    return `unnest(${passed.join(', ')}) WITH ORDINALITY AS k(${columns.map((_, place) => `c${place}`).join(', ')}, i)`;
  }

  /** Rows that the hive shall have, too. */
  #living(): string {
    const { columns, deletedAt } = this.#table;
    return deletedAt === undefined ? 'true' : `${this.#column(columns[deletedAt]!.name).quoted} IS NULL`;
  }

  #keyColumns(): AuditColumn[] {
    return this.#table.key.map((index) => this.#column(this.#table.columns[index]!.name));
  }

  #column(name: string): AuditColumn {
    const found = this.#found.get(targetColumnName(name));
    if (found !== undefined) return found;
    throw new WaggleError('SINK_TABLE_MISFIT', `${this.#target.label}, table ${targetTableName(this.#table.name)}: it has no column ${name}`, {
      hint: 'Run `waggle resync`: it adds the column and fills it.',
    });
  }
}

const parameterType = ({ kind, type }: AuditColumn): string => (kind === 'other' ? 'text[]' : `${type}[]`);

/** A modifier changes what is stored: 1.255 in numeric(10,2) is 1.26. */
const parameter = ({ kind, type, fullType }: AuditColumn, place: number): string =>
  kind === 'other' || fullType !== type ? `k.c${place}::${fullType}` : `k.c${place}`;

/** Text of such a column is the text that the hive wrote, but for the case of a UUID's letters. */
const comesBack = ({ kind, type, fullType }: AuditColumn): boolean =>
  kind === 'other' ? type === 'uuid' : type !== 'real' && (kind !== 'numeric' || type === fullType);

const parameterOf = (value: Value): string | null => {
  if (value === null || typeof value === 'string') return value;
  if (typeof value === 'number') return plainNumber(value);
  return typeof value === 'bigint' ? String(value) : `\\x${Buffer.from(value).toString('hex')}`;
};

/** A key as the hive would write it, so that a `d` with it finds the row. */
const valueOf = (kind: ColumnKind, text: string | null): Value => {
  if (text === null) return null;
  switch (kind) {
    case 'int': {
      const number = Number(text);
      return Number.isSafeInteger(number) ? number : BigInt(text);
    }
    case 'numeric':
    case 'float': {
      const number = Number(text);
      const plain = text.includes('.') ? text.replace(/\.?0+$/, '') : text;
      if (kind === 'float' || plainNumber(number) === plain) return number;
      return /^-?\d+$/.test(plain) ? BigInt(plain) : text;
    }
    case 'bool':
      return text === 'true' ? 1 : 0;
    case 'bytea':
      return Buffer.from(text.slice(2), 'hex');
    case 'text':
    case 'other':
      return text;
  }
};
