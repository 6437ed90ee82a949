/**
 * Reading a target table back, for `verify` and `resync`. The hive's rows are sent into a temporary table with the very columns of the target, as `apply`
 * sends them, and the server compares: so a value is the same exactly if writing it again would change nothing, whatever the column's type.
 */
import type { Value } from '../../src/change/table.ts';
import type { ColumnDifference, RowDifferences, SinkTable } from '../../src/pipeline/sink.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { type Bound, bind, type ColumnKind, kindOfType } from './column-type.ts';
import { toSinkError } from './errors.ts';
import { quoteLiteral, quoteName, sameColumn, targetName } from './names.ts';
import { type GroupLimits, groupRows, tooLarge } from './row-groups.ts';
import { typed } from './table-writer.ts';
import { findTable, type TableState, type Target } from './target-table.ts';

interface AuditColumn {
  readonly name: string;
  readonly quoted: string;
  readonly type: string;
  readonly kind: ColumnKind;
}

/** A row on its way: where it stood, and that number with what is bound for it. */
interface SentRow {
  readonly index: number;
  readonly bound: Bound[];
}

const CHUNK_BYTES = 4 * 1024 * 1024;
const SENT = quoteName('waggle sent');

export class TableAudit {
  readonly #target: Target;
  readonly #table: SinkTable;
  readonly #quoted: string;
  readonly #state: TableState;
  readonly #limits: GroupLimits;

  private constructor(target: Target, table: SinkTable, state: TableState) {
    const { maxPacketBytes } = target;
    this.#target = target;
    this.#table = table;
    this.#quoted = quoteName(targetName(table.name));
    this.#state = state;
    this.#limits = { maxPacketBytes, chunkBytes: Math.min(CHUNK_BYTES, maxPacketBytes / 4) };
  }

  static async open(target: Target, table: SinkTable): Promise<TableAudit> {
    return new TableAudit(target, table, await findTable(target, targetName(table.name)));
  }

  async compare(rows: readonly (readonly Value[])[]): Promise<RowDifferences> {
    if (this.#isAbsent) return { missing: [...rows.keys()], changed: [] };
    const { columns, key } = this.#table;
    // One of the hive and of the target each time; those that tell of the last change only are nothing to compare.
    const places = [...columns.keys()].filter((place) => columns[place]!.volatile !== true);
    const compared = places.map((place) => this.#column(columns[place]!.name));
    const result = { missing: [] as number[], changed: [] as number[] };
    const sent: SentRow[] = [];
    const odd: number[] = [];
    for (const [index, row] of rows.entries()) {
      const bound = key.some((place) => row[place] === null) ? null : this.#bound(places, compared, row);
      if (bound === null) odd.push(index);
      else sent.push({ index, bound: [index, ...bound] });
    }
    if (sent.length > 0) odd.push(...(await this.#send(compared, sent)));
    // The target does not hold these rows as they are; with another content it may.
    for (const index of odd) {
      const values = key.map((place) => rows[index]![place]!);
      ((await this.#has(values)) ? result.changed : result.missing).push(index);
    }
    if (sent.length === 0) return result;
    for (const row of await this.#target.session.query(this.#compareSql(places, compared)))
      (row['missing'] === '1' ? result.missing : result.changed).push(Number(row['place']));
    return result;
  }

  async differences(rows: readonly (readonly Value[])[]): Promise<ColumnDifference[][]> {
    const found: ColumnDifference[][] = [];
    // One by one: they are few, and a value that its column refuses must not hide those of the others.
    for (const row of rows) found.push(this.#isAbsent ? [] : await this.#differencesOf(row));
    return found;
  }

  async #differencesOf(row: readonly Value[]): Promise<ColumnDifference[]> {
    const { session } = this.#target;
    const { columns, key } = this.#table;
    const places = [...columns.keys()].filter((place) => columns[place]!.volatile !== true && !key.includes(place));
    const compared = places.map((place) => this.#column(columns[place]!.name));
    const match = this.#match(key.map((place) => row[place]!));
    if (match === null || compared.length === 0) return [];
    // A copy of the target's row, in which each of the hive's values takes its place if it can.
    await session.query(this.#createSent(compared, `WHERE ${match}`));
    const odd = new Set<number>();
    for (const [index, { kind }] of compared.entries()) {
      const value = bind(row[places[index]!]!, kind, this.#state.own !== 'no');
      if (value === undefined || !(await this.#isTaken(`UPDATE ${SENT} SET c${index} = ?`, [value]))) odd.add(index);
    }
    const told = compared.map((column, index) => {
      const shown = column.kind === 'blob' ? `HEX(t.${column.quoted})` : `t.${column.quoted}`;
      return `${odd.has(index) ? 'true' : `NOT (${same(column, index)})`} AS d${index}, ${shown} AS v${index}`;
    });
    const [answer] = await session.query(
      `SELECT ${told.join(', ')} FROM ${this.#quoted} t JOIN ${SENT} s WHERE ${match}; DROP TEMPORARY TABLE ${SENT}`,
    );
    if (answer === undefined) return [];
    return compared.flatMap(({ kind }, index): ColumnDifference[] => {
      const text = answer[`v${index}`] ?? null;
      const place = places[index]!;
      return answer[`d${index}`] === '1' ? [{ column: place, wanted: row[place]!, found: text === null ? null : valueOf(kind, text) }] : [];
    });
  }

  async count(): Promise<number> {
    if (this.#isAbsent) return 0;
    const [row] = await this.#target.session.query(`SELECT count(*) AS n FROM ${this.#quoted} WHERE ${this.#living()}`);
    return Number(row?.['n'] ?? 0);
  }

  async keys(after: readonly Value[] | null, limit: number): Promise<Value[][]> {
    if (this.#isAbsent) return [];
    const columns = this.#keyColumns();
    const strange = columns.find((column) => !comesBack(column));
    if (strange !== undefined)
      throw new WaggleError(
        'SINK_NOT_READABLE',
        `${this.#target.label}, table ${this.#table.name}: keys of type ${strange.type} cannot be compared with the hive's`,
      );
    const shown = columns.map(({ quoted, kind }, place) => `${kind === 'blob' ? `HEX(${quoted})` : quoted} AS c${place}`);
    const rows = await this.#target.session.query(
      `SELECT ${shown.join(', ')} FROM ${this.#quoted} WHERE ${this.#living()}${after === null ? '' : ` AND ${behind(columns, after)}`}
       ORDER BY ${columns.map(({ quoted }) => quoted).join(', ')} LIMIT ${limit}`,
    );
    return rows.map((row) => columns.map(({ kind }, place) => valueOf(kind, row[`c${place}`] ?? '')));
  }

  get #isAbsent(): boolean {
    return this.#state.columns.length === 0;
  }

  async #has(key: readonly Value[]): Promise<boolean> {
    const match = this.#match(key);
    return match !== null && (await this.#target.session.query(`SELECT 1 AS found FROM ${this.#quoted} t WHERE ${match}`)).length > 0;
  }

  /** The condition on `t` for its row with this key; null: no row can have it. */
  #match(key: readonly Value[]): string | null {
    const columns = this.#keyColumns();
    const bound = key.map((value, place) => bind(value, columns[place]!.kind, this.#state.own !== 'no'));
    if (bound.includes(undefined) || bound.includes(null)) return null;
    return columns.map((column, place) => `t.${column.quoted} = ${literalOf(column, bound[place]!)}`).join(' AND ');
  }

  /** Null: a value that its column cannot hold is not in it. */
  #bound(places: readonly number[], columns: readonly AuditColumn[], row: readonly Value[]): Bound[] | null {
    const bound: Bound[] = [];
    for (const [index, { kind }] of columns.entries()) {
      const value = bind(row[places[index]!]!, kind, this.#state.own !== 'no');
      if (value === undefined) return null;
      bound.push(value);
    }
    return tooLarge(bound, this.#limits) === -1 ? bound : null;
  }

  /** Gives the rows that the server refuses: the target does not hold them. */
  async #send(columns: readonly AuditColumn[], rows: readonly SentRow[]): Promise<number[]> {
    await this.#target.session.query(this.#createSent(columns, 'LIMIT 0'));
    const refused: number[] = [];
    for (const group of groupRows(rows, this.#limits)) refused.push(...(await this.#insert(columns, group)));
    return refused;
  }

  async #insert(columns: readonly AuditColumn[], rows: readonly SentRow[]): Promise<number[]> {
    const row = `(?, ${columns.map(() => '?').join(', ')})`;
    const list = Array<string>(rows.length).fill(row).join(', ');
    const sql = `INSERT INTO ${SENT} (place, ${columns.map((_, index) => `c${index}`).join(', ')}) VALUES ${list}`;
    const bound = rows.flatMap((sent) => sent.bound);
    if (await this.#isTaken(sql, bound)) return [];
    if (rows.length === 1) return [rows[0]!.index];
    const middle = rows.length >> 1;
    return [...(await this.#insert(columns, rows.slice(0, middle))), ...(await this.#insert(columns, rows.slice(middle)))];
  }

  /** False: the server refuses a value. */
  async #isTaken(sql: string, bound: Bound[]): Promise<boolean> {
    try {
      await this.#target.session.execute(sql, bound);
      return true;
    } catch (error) {
      if (toSinkError(error, this.#target.label).code !== 'SINK_ROW_REFUSED') throw error;
      return false;
    }
  }

  /** Columns c0, c1 … of the target's own types, and rows of the target's table `t`. */
  #createSent(columns: readonly AuditColumn[], rows: string): string {
    const names = columns.map(({ quoted }, index) => `t.${quoted} AS c${index}`).join(', ');
    return (
      `DROP TEMPORARY TABLE IF EXISTS ${SENT}; CREATE TEMPORARY TABLE ${SENT} (place int NOT NULL DEFAULT 0 PRIMARY KEY) ENGINE = InnoDB ` +
      `SELECT ${names} FROM ${this.#quoted} t ${rows}`
    );
  }

  #compareSql(places: readonly number[], columns: readonly AuditColumn[]): string {
    const { key } = this.#table;
    const onKey = key.map((place) => {
      const index = places.indexOf(place);
      return `t.${columns[index]!.quoted} = s.c${index}`;
    });
    const others = columns.flatMap((column, index) => (key.includes(places[index]!) ? [] : [same(column, index)]));
    const absent = `t.${columns[places.indexOf(key[0]!)]!.quoted} IS NULL`;
    const differs = others.length === 0 ? absent : `${absent} OR NOT (${others.join(' AND ')})`;
    return `SELECT s.place AS place, ${absent} AS missing FROM ${SENT} s LEFT JOIN ${this.#quoted} t ON ${onKey.join(' AND ')} WHERE ${differs}; DROP TEMPORARY TABLE ${SENT}`;
  }

  /** Rows that the hive shall have, too. */
  #living(): string {
    const { columns, deletedAt } = this.#table;
    return deletedAt === undefined ? 'true' : `${this.#column(columns[deletedAt]!.name).quoted} IS NULL`;
  }

  #keyColumns(): AuditColumn[] {
    return this.#table.key.map((place) => this.#column(this.#table.columns[place]!.name));
  }

  #column(name: string): AuditColumn {
    const found = this.#state.columns.find((column) => sameColumn(column.name, targetName(name)));
    if (found !== undefined) return { name: found.name, quoted: quoteName(found.name), type: found.type, kind: kindOfType(found.type) };
    throw new WaggleError('SINK_TABLE_MISFIT', `${this.#target.label}, table ${targetName(this.#table.name)}: it has no column ${name}`, {
      hint: 'Run `waggle resync`: it adds the column and fills it.',
    });
  }
}

/** The bytes of a text count, whatever the collation says: case, accents, spaces at the end. */
const same = ({ quoted, kind }: AuditColumn, index: number): string => {
  const exact = (expression: string): string => (kind === 'text' ? `CAST(${expression} AS BINARY)` : expression);
  return `${exact(`t.${quoted}`)} <=> ${exact(`s.c${index}`)}`;
};

/** The server gives such a key back as the hive wrote it, but for the case of a UUID's letters. CHAR and BINARY lose or get characters at the end. */
const comesBack = ({ kind, type }: AuditColumn): boolean => {
  if (/^(char|binary|float)\b/.test(type)) return false;
  return kind === 'int' || kind === 'bool' || kind === 'float' || kind === 'text' || kind === 'blob' || type === 'uuid';
};

/** Behind a key, in the order of the columns. Written out, because MySQL reads a whole index for `(a, b) > (x, y)`. */
const behind = (columns: readonly AuditColumn[], after: readonly Value[]): string => {
  const [column, ...rest] = columns;
  const [value, ...others] = after;
  if (column === undefined) return 'false';
  const expression = literalOf(column, bind(value ?? null, column.kind, true) ?? null);
  if (rest.length === 0) return `${column.quoted} > ${expression}`;
  return `${column.quoted} >= ${expression} AND (${column.quoted} > ${expression} OR (${behind(rest, others)}))`;
};

const literalOf = (column: AuditColumn, value: Bound): string => {
  if (value === null) return 'NULL';
  if (value instanceof Uint8Array) return `X'${Buffer.from(value).toString('hex')}'`;
  return typed(column, typeof value === 'string' ? quoteLiteral(value) : String(value));
};

/** A key as the hive would write it, so that a `d` with it finds the row. */
const valueOf = (kind: ColumnKind, text: string): Value => {
  switch (kind) {
    case 'int':
    case 'bool': {
      const number = Number(text);
      return Number.isSafeInteger(number) ? number : BigInt(text);
    }
    case 'float':
      return Number(text);
    case 'blob':
      return Buffer.from(text, 'hex');
    default:
      return text;
  }
};
