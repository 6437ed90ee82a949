/**
 * Every row of every table as text, from a hive or from what a sink made of it, and the difference of two such sets.
 * Nothing of Waggle's own code reads here: SQLite and Postgres tell what they hold.
 */
import Database from 'better-sqlite3';

export interface TableRows {
  readonly columns: readonly string[];
  /** A row as text, and how often it stands there. */
  readonly rows: ReadonlyMap<string, number>;
  readonly count: number;
}

export type RowSet = ReadonlyMap<string, TableRows>;

/** `exact` keeps storage classes apart (INTEGER 1, REAL 1.0, TEXT '1'); `text` is what a value is as text, as in a Postgres column. */
export type RowForm = 'exact' | 'text';

export interface Difference {
  /** Rows compared: those of the hive. */
  readonly rows: number;
  /** Rows of the hive that the other side lacks. */
  readonly missing: number;
  /** Rows of the other side that the hive does not have. A row with a wrong value is one missing and one surplus row. */
  readonly surplus: number;
  /** Names the first table and rows that differ. */
  readonly first: string | null;
}

/** Asks one table: the columns by name, in order; null if there is no such table. Values as text or null. */
export type ReadTable = (table: string, columns: readonly string[]) => Promise<(string | null)[][] | null>;

type SqliteValue = null | bigint | number | string | Buffer;

const quote = (name: string): string => `"${name.replaceAll('"', '""')}"`;

export const readSqliteRows = (path: string, form: RowForm): RowSet => {
  const database = new Database(path);
  try {
    const names = database
      .prepare<[], string>("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name")
      .pluck()
      .all();
    return new Map(names.map((name) => [name, readSqliteTable(database, { name, columns: columnsOf(database, name), form })]));
  } finally {
    database.close();
  }
};

/** The tables and columns of `like`, as they stand in another SQLite file: columns that only that one has do not count. */
export const readSqliteRowsLike = (path: string, like: RowSet, form: RowForm): RowSet => {
  const database = new Database(path);
  try {
    const found = [...like].flatMap(([name, { columns }]): [string, TableRows][] => {
      if (columnsOf(database, name).length === 0) return [];
      return [[name, readSqliteTable(database, { name, columns, form })]];
    });
    return new Map(found);
  } finally {
    database.close();
  }
};

/** The same of any database that gives its values as text. */
export const readTextRowsLike = async (like: RowSet, readTable: ReadTable): Promise<RowSet> => {
  const result = new Map<string, TableRows>();
  for (const [name, { columns }] of like) {
    const rows = await readTable(name, columns);
    if (rows !== null)
      result.set(
        name,
        tally(
          columns,
          rows.map((row) => JSON.stringify(row)),
        ),
      );
  }
  return result;
};

export const tally = (columns: readonly string[], rows: Iterable<string>): TableRows => {
  const counts = new Map<string, number>();
  let count = 0;
  for (const row of rows) {
    counts.set(row, (counts.get(row) ?? 0) + 1);
    count += 1;
  }
  return { columns, rows: counts, count };
};

/** A table that the other side lacks has no rows there. */
export const difference = (hive: RowSet, other: RowSet): Difference => {
  let [rows, missing, surplus] = [0, 0, 0];
  let first: string | null = null;
  const none: TableRows = { columns: [], rows: new Map(), count: 0 };
  for (const [name, table] of hive) {
    const found = other.get(name) ?? none;
    rows += table.count;
    const lacking = lacks(table, found);
    const extra = lacks(found, table);
    missing += lacking.count;
    surplus += extra.count;
    if (lacking.count + extra.count > 0)
      first ??= `table ${name}: ${lacking.count} missing (${shorten(lacking.example)}), ${extra.count} surplus (${shorten(extra.example)})`;
  }
  return { rows, missing, surplus, first };
};

/** A value as Postgres tells it of a column of waggle's: numbers as digits, blobs as hex. */
export const asText = (value: SqliteValue): string | null => {
  if (value === null || typeof value === 'string') return value;
  if (Buffer.isBuffer(value)) return `\\x${value.toString('hex')}`;
  return String(value);
};

const asExact = (value: SqliteValue): string | null => (value === null ? null : `${Buffer.isBuffer(value) ? 'blob' : typeof value} ${asText(value)}`);

const columnsOf = (database: Database.Database, table: string): string[] =>
  database.prepare<[string], string>('SELECT name FROM pragma_table_info(?) ORDER BY cid').pluck().all(table);

const readSqliteTable = (
  database: Database.Database,
  { name, columns, form }: { name: string; columns: readonly string[]; form: RowForm },
): TableRows => {
  const statement = database
    .prepare<[], SqliteValue[]>(`SELECT ${columns.map(quote).join(', ')} FROM ${quote(name)}`)
    .raw()
    .safeIntegers();
  const encode = form === 'exact' ? asExact : asText;
  const rows = function* (): Generator<string> {
    for (const row of statement.iterate()) yield JSON.stringify(row.map(encode));
  };
  return tally(columns, rows());
};

const lacks = (table: TableRows, other: TableRows): { count: number; example: string | null } => {
  let count = 0;
  let example: string | null = null;
  for (const [row, times] of table.rows) {
    const lacking = times - (other.rows.get(row) ?? 0);
    if (lacking <= 0) continue;
    count += lacking;
    example ??= row;
  }
  return { count, example };
};

const shorten = (row: string | null): string => (row === null ? 'none' : row.length > 160 ? `${row.slice(0, 160)}…` : row);
