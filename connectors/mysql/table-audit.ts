/**
 * Reading a target table back, for `verify` and `resync`. The hive's rows are sent into a temporary table with the very columns of the target, as `apply`
 * sends them, and the server compares: so a value is the same exactly if writing it again would change nothing, whatever the column's type.
 */
import type { Value } from '../../src/change/table.ts';
import type { RowDifferences, SinkTable } from '../../src/pipeline/sink.ts';
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
    const columns = this.#keyColumns();
    const bound = key.map((value, place) => bind(value, columns[place]!.kind, this.#state.own !== 'no'));
    if (bound.includes(undefined) || bound.includes(null)) return false;
    const match = columns.map((column, place) => `${column.quoted} = ${literalOf(column, bound[place]!)}`);
    return (await this.#target.session.query(`SELECT 1 AS found FROM ${this.#quoted} WHERE ${match.join(' AND ')}`)).length > 0;
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
    const { session } = this.#target;
    const names = columns.map(({ quoted }, index) => `${quoted} AS c${index}`).join(', ');
    await session.query(
      `DROP TEMPORARY TABLE IF EXISTS ${SENT}; CREATE TEMPORARY TABLE ${SENT} (place int NOT NULL DEFAULT 0 PRIMARY KEY) ENGINE = InnoDB SELECT ${names} FROM ${this.#quoted} LIMIT 0`,
    );
    const refused: number[] = [];
    for (const group of groupRows(rows, this.#limits)) refused.push(...(await this.#insert(columns, group)));
    return refused;
  }

  async #insert(columns: readonly AuditColumn[], rows: readonly SentRow[]): Promise<number[]> {
    const row = `(?, ${columns.map(() => '?').join(', ')})`;
    const list = Array<string>(rows.length).fill(row).join(', ');
    try {
      const sql = `INSERT INTO ${SENT} (place, ${columns.map((_, index) => `c${index}`).join(', ')}) VALUES ${list}`;
      await this.#target.session.execute(
        sql,
        rows.flatMap(({ bound }) => bound),
      );
      return [];
    } catch (error) {
      if (toSinkError(error, this.#target.label).code !== 'SINK_ROW_REFUSED') throw error;
      if (rows.length === 1) return [rows[0]!.index];
      const middle = rows.length >> 1;
      return [...(await this.#insert(columns, rows.slice(0, middle))), ...(await this.#insert(columns, rows.slice(middle)))];
    }
  }

  #compareSql(places: readonly number[], columns: readonly AuditColumn[]): string {
    const { key } = this.#table;
    const onKey = key.map((place) => {
      const index = places.indexOf(place);
      return `t.${columns[index]!.quoted} = s.c${index}`;
    });
    const same = columns.flatMap(({ quoted, kind }, index) => {
      if (key.includes(places[index]!)) return [];
      // Whatever the collation says: case, accents, spaces at the end.
      const bytes = (expression: string): string => (kind === 'text' ? `CAST(${expression} AS BINARY)` : expression);
      return [`${bytes(`t.${quoted}`)} <=> ${bytes(`s.c${index}`)}`];
    });
    const absent = `t.${columns[places.indexOf(key[0]!)]!.quoted} IS NULL`;
    const differs = same.length === 0 ? absent : `${absent} OR NOT (${same.join(' AND ')})`;
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
