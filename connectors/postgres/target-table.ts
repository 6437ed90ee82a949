/**
 * A table of the target as it is, made to fit a SinkTable: created, columns added or renamed, columns widened. All of
 * it happens inside the transaction of the batch that needs it.
 */
import type { Logger } from 'pino';
import type { SinkColumn, SinkTable, SinkTruncateChange } from '../../src/pipeline/sink.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { CHECKPOINT_TABLE, TABLE_TABLE } from './checkpoint-table.ts';
import { textOf } from '../value-text.ts';
import { type ColumnKind, kindOfType, neverHolds, type OwnKind, typeFor, typeNameOf, wideningExpression } from './column-type.ts';
import { sqlState } from './errors.ts';
import { quoteLiteral, quoteName, targetColumnName, targetTableName } from './names.ts';
import type { Session } from './session.ts';

/** What all tables of one sink share. */
export interface Target {
  readonly session: Session;
  readonly schema: string;
  /** Which server, for messages; without the password. */
  readonly label: string;
  /** numeric holds infinities (Postgres 14 and newer). */
  readonly infinities: boolean;
  readonly logger: Logger;
}

export interface TargetColumn {
  readonly name: string;
  readonly quoted: string;
  /** As `format_type(oid, -1)` writes it. */
  type: string;
  kind: ColumnKind;
}

interface FoundColumn {
  readonly number: string;
  readonly name: string;
  readonly type: string;
  readonly notNull: boolean;
}

export class TargetTable {
  readonly table: SinkTable;
  readonly name: string;
  /** Qualified and quoted. */
  readonly quoted: string;
  /** Waggle created it: columns may be widened. */
  readonly own: boolean;
  /** In the order of `table.columns`. */
  readonly columns: readonly TargetColumn[];
  readonly #target: Target;

  private constructor(target: Target, found: { table: SinkTable; name: string; own: boolean; columns: readonly TargetColumn[] }) {
    this.#target = target;
    this.table = found.table;
    this.name = found.name;
    this.quoted = qualified(target, found.name);
    this.own = found.own;
    this.columns = found.columns;
  }

  /**
   * Finds the table, or creates it; adds the columns it lacks. `mayCreate` false: a table that waggle once created and
   * that is gone is an error, because its rows would be missing without a word.
   */
  static async open(target: Target, table: SinkTable, mayCreate: boolean): Promise<TargetTable> {
    const name = targetTableName(table.name);
    if (name === CHECKPOINT_TABLE || name === TABLE_TABLE)
      throw new WaggleError('SINK_TABLE_MISFIT', `${target.label}: the name ${name} is waggle's own`, {
        hint: 'Give the table another name with `to`.',
      });
    const state = await findTable(target, name);
    if (state.kind === null) {
      if (state.own && !mayCreate)
        throw new WaggleError('SINK_TABLE_MISFIT', `${target.label}, table ${name}: it was created by waggle and is gone`, {
          hint: `To fill the sink again, delete its row from waggle_checkpoint; to go on with an empty table (rows of before will be missing), delete the table's row from ${TABLE_TABLE}; then restart waggle.`,
        });
      return createTable(target, table, name);
    }
    if (state.kind !== 'r' && state.kind !== 'p') throw new WaggleError('SINK_TABLE_MISFIT', `${target.label}, table ${name}: it is not a table`);
    const columns: TargetColumn[] = [];
    for (const column of table.columns) {
      const found = state.columns.find((candidate) => candidate.name === targetColumnName(column.name));
      columns.push(found === undefined ? await addColumn(target, { table: name, column }) : targetColumn(found.name, found.type));
    }
    if (!state.own) checkTypes(target, table, columns);
    const keyNames = table.key.map((index) => columns[index]!.name);
    if (!(await hasUniqueIndex(target, name, keyNames))) {
      if (!state.own)
        throw new WaggleError('SINK_TABLE_MISFIT', `${target.label}, table ${name}: no unique index on exactly the key (${keyNames.join(', ')})`);
      await replacePrimaryKey(target, { table: name, keyNames, found: state.columns });
    }
    return new TargetTable(target, { table, name, own: state.own, columns });
  }

  /** Widens a column that waggle created. */
  async widen(index: number, to: OwnKind): Promise<void> {
    const column = this.columns[index]!;
    const { session, logger, label } = this.#target;
    try {
      await session.script(
        `ALTER TABLE ${this.quoted} ALTER COLUMN ${column.quoted} TYPE ${typeNameOf(to)} USING ${wideningExpression(column.quoted, column.kind as OwnKind, to)}`,
      );
    } catch (error) {
      if (sqlState(error) !== '0A000') throw error;
      throw new WaggleError(
        'SINK_ROW_REFUSED',
        `${label}, table ${this.name}, column ${column.name}: a value needs type ${typeNameOf(to)}, and a view or rule keeps the column from being widened`,
      );
    }
    logger.warn({ table: this.name, column: column.name, from: column.type, to: typeNameOf(to) }, 'column widened for a value that did not fit');
    column.type = typeNameOf(to);
    column.kind = to;
  }

  /** Sets the column to NULL in all rows: a column that the hive dropped once and has again. */
  async resetColumn(index: number): Promise<void> {
    await this.#target.session.script(`UPDATE ${this.quoted} SET ${this.columns[index]!.quoted} = NULL`);
  }

  /** Copies a column into another one of the same table. */
  async copyColumn(from: string, to: number): Promise<void> {
    const { quoted, type, kind } = this.columns[to]!;
    const source = quoteName(from);
    const cast = kind === 'text' ? `${source}::text` : `${source}::${type}`;
    await this.#target.session.script(`UPDATE ${this.quoted} SET ${quoted} = ${cast}`);
  }

  async deleteAll(): Promise<void> {
    await this.#target.session.script(`DELETE FROM ${this.quoted}`);
  }

  /** What `deleteAll` is where deletes are soft. */
  async markAll({ column, value }: NonNullable<SinkTruncateChange['mark']>): Promise<void> {
    const { quoted, type } = this.columns[column]!;
    const text = value === null ? 'NULL' : quoteLiteral(textOf(value));
    await this.#target.session.script(`UPDATE ${this.quoted} SET ${quoted} = ${text}::${type} WHERE ${quoted} IS NULL`);
  }
}

/** A column of another type is told before the first of its rows, and not as a dead letter for each of them. */
const checkTypes = ({ label }: Target, table: SinkTable, columns: readonly TargetColumn[]): void => {
  const place = table.columns.findIndex((column, index) => neverHolds(columns[index]!.type, column));
  if (place === -1) return;
  const [source, found] = [table.columns[place]!, columns[place]!];
  throw new WaggleError(
    'SINK_TABLE_MISFIT',
    `${label}, table ${targetTableName(table.name)}: the column ${found.name} is ${found.type}, which holds no ${source.kind ?? source.affinity} of the hive`,
    { hint: 'Change its type in the target, leave the column out (`columns: exclude`), or say with `types` what it holds.' },
  );
};

export const qualified = (target: Target, name: string): string => `${quoteName(target.schema)}.${quoteName(name)}`;

const targetColumn = (name: string, type: string): TargetColumn => ({ name, quoted: quoteName(name), type, kind: kindOfType(type) });

export interface TableState {
  /** pg_class.relkind; null: no such relation. */
  readonly kind: string | null;
  readonly own: boolean;
  readonly columns: readonly FoundColumn[];
}

export const findTable = async (target: Target, name: string): Promise<TableState> => {
  const rows = await target.session.query(
    `SELECT c.relkind::text AS kind, a.attnum::text AS number, a.attname::text AS name, format_type(a.atttypid, -1) AS type, a.attnotnull::text AS not_null,
            EXISTS (SELECT FROM ${qualified(target, TABLE_TABLE)} w WHERE w.relation = $2)::text AS own
     FROM (SELECT to_regclass($1) AS oid) r LEFT JOIN pg_class c ON c.oid = r.oid
     LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`,
    [qualified(target, name), name],
  );
  const columns = rows.flatMap(({ number, name: column, type, not_null: notNull }) =>
    number == null || column == null || type == null ? [] : [{ number, name: column, type, notNull: notNull === 'true' }],
  );
  return { kind: rows[0]?.['kind'] ?? null, own: rows[0]?.['own'] === 'true', columns };
};

const createTable = async (target: Target, table: SinkTable, name: string): Promise<TargetTable> => {
  const columns = table.columns.map((column) => targetColumn(targetColumnName(column.name), typeFor(column)));
  const key = table.key.map((index) => columns[index]!.quoted).join(', ');
  await target.session.script(
    `CREATE TABLE ${qualified(target, name)} (${columns.map((column) => `${column.quoted} ${column.type}`).join(', ')}, PRIMARY KEY (${key}));
     INSERT INTO ${qualified(target, TABLE_TABLE)} (relation, source) VALUES (${quoteLiteral(name)}, ${quoteLiteral(table.source)}) ON CONFLICT DO NOTHING`,
  );
  target.logger.info({ table: name, columns: columns.length }, 'table created');
  return TargetTable.open(target, table, false);
};

// Without a default: the diff takes a new column as NULL before, so every row that has another value follows as a change.
const addColumn = async (target: Target, added: { table: string; column: SinkColumn }): Promise<TargetColumn> => {
  const { table, column } = added;
  const result = targetColumn(targetColumnName(column.name), typeFor(column));
  await target.session.script(`ALTER TABLE ${qualified(target, table)} ADD COLUMN ${result.quoted} ${result.type}`);
  target.logger.info({ table, column: result.name, type: result.type }, 'column added');
  return result;
};

const hasUniqueIndex = async (target: Target, table: string, keyNames: readonly string[]): Promise<boolean> => {
  const rows = await target.session.query(
    `SELECT x.indexrelid::text AS index, a.attname::text AS name FROM pg_index x
     CROSS JOIN LATERAL generate_series(0, x.indnkeyatts - 1) AS p(place)
     JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[p.place]
     WHERE x.indrelid = to_regclass($1) AND x.indisunique AND x.indisvalid AND x.indimmediate AND x.indpred IS NULL AND x.indexprs IS NULL`,
    [qualified(target, table)],
  );
  const indexes = Map.groupBy(rows, (row) => row['index']);
  const wanted = new Set<string | null | undefined>(keyNames);
  return [...indexes.values()].some((names) => names.length === wanted.size && names.every((row) => wanted.has(row['name'])));
};

/** The hive's table has another key now (it was rebuilt). Columns of the old key may hold NULL from here on. */
const replacePrimaryKey = async (
  target: Target,
  change: { table: string; keyNames: readonly string[]; found: readonly FoundColumn[] },
): Promise<void> => {
  const quoted = qualified(target, change.table);
  const [old] = await target.session.query(`SELECT conname::text AS name FROM pg_constraint WHERE conrelid = to_regclass($1) AND contype = 'p'`, [
    quoted,
  ]);
  const free = change.found.filter((column) => column.notNull && !change.keyNames.includes(column.name));
  const steps = [
    ...(old?.['name'] == null ? [] : [`ALTER TABLE ${quoted} DROP CONSTRAINT ${quoteName(old['name'])}`]),
    ...free.map((column) => `ALTER TABLE ${quoted} ALTER COLUMN ${quoteName(column.name)} DROP NOT NULL`),
    `ALTER TABLE ${quoted} ADD PRIMARY KEY (${change.keyNames.map(quoteName).join(', ')})`,
  ];
  try {
    await target.session.script(steps.join('; '));
  } catch (error) {
    const state = sqlState(error);
    if (state !== '23502' && state !== '23505') throw error;
    throw new WaggleError(
      'SINK_TABLE_MISFIT',
      `${target.label}, table ${change.table}: its rows do not allow the new key (${change.keyNames.join(', ')})`,
      {
        hint: 'Drop the table in the target and delete the row of this sink from waggle_checkpoint, then restart waggle: the sink is filled again.',
      },
    );
  }
  target.logger.warn({ table: change.table, key: change.keyNames }, 'primary key changed');
};
