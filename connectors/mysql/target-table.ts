/**
 * A table of the target as it is, made to fit a SinkTable: created, columns added or renamed, columns widened. DDL commits
 * (see `Target.ddl`); each step may be done twice, because a kill can come between any two.
 */
import { createHash } from 'node:crypto';
import type { Logger } from 'pino';
import type { SinkColumn, SinkTable, SinkTruncateChange } from '../../src/pipeline/sink.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { CHECKPOINT_TABLE, TABLE_TABLE } from './checkpoint-table.ts';
import { bind, canWiden, type ColumnKind, kindOfType, neverHolds, type OwnKind, textExpression, typeFor, typeNameOf } from './column-type.ts';
import { DUPLICATE_ENTRY, serverError } from './errors.ts';
import { quoteLiteral, quoteName, sameColumn, targetName } from './names.ts';
import type { Session } from './session.ts';

/** What all tables of one sink share. */
export interface Target {
  readonly session: Session;
  /** Which server, for messages; without the password. */
  readonly label: string;
  /** Two texts are equal in it only if they are the same bytes. */
  readonly collation: string;
  readonly maxPacketBytes: number;
  readonly logger: Logger;
  /**
   * Runs statements that commit, one after the other, with nothing of a batch before them: what of it is not marked as applied is taken back, and
   * the call rejects behind them, so that the batch begins again. A kill can come between any two.
   * Nothing behind the call may be needed for the table to be right.
   */
  ddl(...statements: readonly string[]): Promise<void>;
}

export interface TargetColumn {
  readonly name: string;
  readonly quoted: string;
  /** As SHOW COLUMNS writes it. */
  type: string;
  kind: ColumnKind;
}

interface FoundColumn {
  readonly name: string;
  readonly type: string;
  readonly collation: string | null;
}

/** In these, texts that differ by case, accents or spaces at the end are different keys. */
const EXACT_COLLATIONS = /^(utf8mb4_nopad_bin|utf8mb4_0900_bin|utf8mb3_nopad_bin|ascii_nopad_bin|latin1_nopad_bin)$/;
const MAX_SAFE = String(2 ** 53);
const NO_SUCH_TABLE = 1146;
const REKEY_REFUSED = new Set([DUPLICATE_ENTRY, 1048, 1138, 1171, 1265, 1406, 1263]);

export class TargetTable {
  readonly table: SinkTable;
  readonly name: string;
  readonly quoted: string;
  /** Waggle created it: columns may be widened. */
  readonly own: boolean;
  /** In the order of `table.columns`. */
  readonly columns: readonly TargetColumn[];
  /** There is a unique index that is not on the key: an upsert could hit another row by it. */
  readonly otherUnique: boolean;
  /** A row can be deleted and written again: it has no column that waggle does not write. */
  readonly replaceable: boolean;
  readonly #target: Target;

  private constructor(
    target: Target,
    found: { table: SinkTable; own: boolean; columns: readonly TargetColumn[]; otherUnique: boolean; replaceable: boolean },
  ) {
    this.#target = target;
    this.table = found.table;
    this.name = targetName(found.table.name);
    this.quoted = quoteName(this.name);
    this.own = found.own;
    this.columns = found.columns;
    this.otherUnique = found.otherUnique;
    this.replaceable = found.replaceable;
  }

  /**
   * Finds the table, or creates it; adds the columns it lacks. `mayCreate` false: a table that waggle once created and
   * that is gone is an error, because its rows would be missing without a word.
   */
  static async open(target: Target, table: SinkTable, mayCreate: boolean): Promise<TargetTable> {
    const name = targetName(table.name);
    if ([CHECKPOINT_TABLE, TABLE_TABLE].includes(name.toLowerCase()))
      throw new WaggleError('SINK_TABLE_MISFIT', `${target.label}: the name ${name} is waggle's own`, {
        hint: 'Give the table another name with `to`.',
      });
    if (table.key.length > MAX_KEY_COLUMNS)
      throw new WaggleError('SINK_TABLE_MISFIT', `${target.label}, table ${name}: MySQL takes no key of more than ${MAX_KEY_COLUMNS} columns`);
    let state = await findTable(target, name);
    if (state.columns.length === 0) {
      if (state.own === 'created' && !mayCreate)
        throw new WaggleError('SINK_TABLE_MISFIT', `${target.label}, table ${name}: it was created by waggle and is gone`, {
          hint: `To fill the sink again, delete its row from ${CHECKPOINT_TABLE}; to go on with an empty table (rows of before will be missing), delete the table's row from ${TABLE_TABLE}; then restart waggle.`,
        });
      await createTable(target, table);
      state = await findTable(target, name);
    }
    if (state.own === 'begun') await target.session.query(`UPDATE ${TABLE_TABLE} SET created_at = now() WHERE relation = ${quoteLiteral(name)}`);
    const columns: TargetColumn[] = [];
    for (const column of table.columns) {
      const found = state.columns.find((candidate) => sameColumn(candidate.name, targetName(column.name)));
      columns.push(found === undefined ? await addColumn(target, { table, column }) : targetColumn(found.name, found.type));
    }
    const own = state.own !== 'no';
    if (!own) checkTypes(target, table, columns);
    const keys = table.key.map((index) => columns[index]!);
    let indexes = await uniqueIndexes(target, name);
    if (!indexes.some((index) => isOn(index, keys))) {
      const keyNames = keys.map((column) => column.name);
      if (!own)
        throw new WaggleError('SINK_TABLE_MISFIT', `${target.label}, table ${name}: no unique index on exactly the key (${keyNames.join(', ')})`);
      await replacePrimaryKey(target, { table, columns, found: state.columns, old: indexes.find((index) => index.name === 'PRIMARY') });
      indexes = await uniqueIndexes(target, name);
    }
    if (!own) checkCollations(target, { name, keys, found: state.columns });
    const otherUnique = indexes.some((index) => !isOn(index, keys));
    return new TargetTable(target, { table, own, columns, otherUnique, replaceable: state.columns.length <= columns.length });
  }

  /** Widens a column that waggle created; to text where `to` cannot hold what is in it. */
  async widen(index: number, to: OwnKind): Promise<void> {
    const { session, logger, collation } = this.#target;
    const column = this.columns[index]!;
    const { quoted, type, kind } = column;
    let widened = to;
    if (kind === 'int' && to === 'float') {
      const rows = await session.query(`SELECT 1 AS found FROM ${this.quoted} WHERE ${quoted} > ${MAX_SAFE} OR ${quoted} < -${MAX_SAFE} LIMIT 1`);
      if (rows.length > 0) widened = 'text';
    }
    const isKey = this.table.key.includes(index);
    const typeName = typeNameOf(widened, isKey ? this.table.key.length : 0);
    const definition = `${typeName}${widened === 'text' ? ` CHARACTER SET utf8mb4 COLLATE ${collation}` : ''} ${isKey ? 'NOT NULL' : 'NULL'}`;
    logger.warn({ table: this.name, column: column.name, from: type, to: typeName }, 'widening column for a value that does not fit');
    if (kind === 'float' || kind === 'blob') await this.#exchange(index, definition);
    else await this.#target.ddl(`ALTER TABLE ${this.quoted} MODIFY COLUMN ${quoted} ${definition}`);
    column.type = typeName;
    column.kind = widened;
  }

  /** To text through a second column: MySQL's own text of a double or of bytes is not ours, and nothing could tell a half-done conversion. */
  async #exchange(index: number, definition: string): Promise<void> {
    const { name, quoted, kind } = this.columns[index]!;
    const { table } = this;
    const isKey = table.key.includes(index);
    const second = `waggle_${createHash('sha256').update(name).digest('hex').slice(0, 16)}`;
    const state = await findTable(this.#target, this.name);
    const add = `ALTER TABLE ${this.quoted} ADD COLUMN ${second} ${definition.replace(/ NOT NULL$/, ' NULL')}`;
    const copy = `UPDATE ${this.quoted} SET ${second} = ${textExpression(quoted, kind === 'float' ? 'float' : 'blob')}`;
    const place = state.columns.findIndex((found) => found.name === name);
    const steps = [
      ...(isKey ? ['DROP PRIMARY KEY'] : []),
      `DROP COLUMN ${quoted}`,
      `CHANGE COLUMN ${second} ${quoted} ${definition} ${place <= 0 ? 'FIRST' : `AFTER ${quoteName(state.columns[place - 1]!.name)}`}`,
      ...(isKey ? [`ADD PRIMARY KEY (${table.key.map((key) => this.columns[key]!.quoted).join(', ')})`] : []),
    ];
    const exchange = `ALTER TABLE ${this.quoted} ${steps.join(', ')}`;
    await this.#target.ddl(...(state.columns.some((found) => found.name === second) ? [] : [add]), copy, exchange);
  }

  /** Sets the column to NULL in all rows: a column that the hive dropped once and has again. */
  async resetColumn(index: number): Promise<void> {
    const { quoted } = this.columns[index]!;
    await this.#target.session.query(`UPDATE ${this.quoted} SET ${quoted} = NULL WHERE ${quoted} IS NOT NULL`);
  }

  /** Copies a column into another one of the same table. */
  async copyColumn(from: string, to: number): Promise<void> {
    const { quoted } = this.columns[to]!;
    await this.#target.session.query(`UPDATE ${this.quoted} SET ${quoted} = ${quoteName(from)} WHERE NOT (${quoted} <=> ${quoteName(from)})`);
  }

  /** What `deleteAll` is where deletes are soft. */
  async markAll({ column, value }: NonNullable<SinkTruncateChange['mark']>): Promise<void> {
    const { quoted, kind } = this.columns[column]!;
    const bound = bind(value, kind, this.own);
    if (bound === undefined)
      throw new WaggleError(
        'SINK_TABLE_MISFIT',
        `${this.#target.label}, table ${this.name}, column ${quoted}: it does not hold the mark of a deleted row`,
      );
    await this.#target.session.execute(`UPDATE ${this.quoted} SET ${quoted} = ? WHERE ${quoted} IS NULL`, [bound]);
  }

  async deleteAll(): Promise<void> {
    await this.#target.session.query(`DELETE FROM ${this.quoted}`);
  }
}

const MAX_KEY_COLUMNS = 16;

const targetColumn = (name: string, type: string): TargetColumn => ({ name, quoted: quoteName(name), type, kind: kindOfType(type) });

export interface TableState {
  /** `begun`: waggle was about to create it. */
  readonly own: 'no' | 'begun' | 'created';
  /** None: no such table. */
  readonly columns: readonly FoundColumn[];
}

export const findTable = async (target: Target, name: string): Promise<TableState> => {
  const [row] = await target.session.query(`SELECT created_at IS NULL AS begun FROM ${TABLE_TABLE} WHERE relation = ${quoteLiteral(name)}`);
  const own = row === undefined ? 'no' : row['begun'] === '1' ? 'begun' : 'created';
  return { own, columns: await columnsOf(target, name) };
};

// SHOW finds the table by the server's own rules for names; information_schema compares them without case and accents.
const columnsOf = async (target: Target, name: string): Promise<FoundColumn[]> => {
  try {
    const rows = await target.session.query(`SHOW FULL COLUMNS FROM ${quoteName(name)}`);
    return rows.map((row) => ({ name: row['Field'] ?? '', type: row['Type'] ?? '', collation: row['Collation'] ?? null }));
  } catch (error) {
    if (serverError(error) === NO_SUCH_TABLE) return [];
    throw error;
  }
};

/** `whole` false: it is on a part of a column. */
interface UniqueIndex {
  readonly name: string;
  readonly columns: readonly string[];
  readonly whole: boolean;
}

const uniqueIndexes = async (target: Target, name: string): Promise<UniqueIndex[]> => {
  const rows = await target.session.query(`SHOW INDEX FROM ${quoteName(name)} WHERE Non_unique = 0`);
  return [...Map.groupBy(rows, (row) => row['Key_name'] ?? '')].map(([index, parts]) => ({
    name: index,
    columns: parts.map((part) => part['Column_name'] ?? ''),
    whole: parts.every((part) => part['Sub_part'] === null),
  }));
};

const isOn = (index: UniqueIndex, keys: readonly TargetColumn[]): boolean =>
  index.whole && index.columns.length === keys.length && keys.every((key) => index.columns.some((column) => sameColumn(column, key.name)));

/** A column of another type is told before the first of its rows, and not as a dead letter for each of them. */
const checkTypes = ({ label }: Target, table: SinkTable, columns: readonly TargetColumn[]): void => {
  const place = table.columns.findIndex((column, index) => neverHolds(columns[index]!.type, column));
  if (place === -1) return;
  const [source, found] = [table.columns[place]!, columns[place]!];
  throw new WaggleError(
    'SINK_TABLE_MISFIT',
    `${label}, table ${targetName(table.name)}: the column ${found.name} is ${found.type}, which holds no ${source.kind ?? source.affinity} of the hive`,
    { hint: 'Change its type in the target, leave the column out (`columns: exclude`), or say with `types` what it holds.' },
  );
};

const checkCollations = (target: Target, found: { name: string; keys: readonly TargetColumn[]; found: readonly FoundColumn[] }): void => {
  for (const key of found.keys) {
    const collation = found.found.find((column) => column.name === key.name)?.collation ?? null;
    if (collation === null || EXACT_COLLATIONS.test(collation)) continue;
    throw new WaggleError(
      'SINK_TABLE_MISFIT',
      `${target.label}, table ${found.name}, column ${key.name}: two keys of the hive can be one in the collation ${collation}`,
      { hint: `Give the column the collation ${target.collation}, or let waggle create the table.` },
    );
  }
};

const definitionOf = (target: Target, type: string): string =>
  kindOfType(type) === 'text' ? `${type} CHARACTER SET utf8mb4 COLLATE ${target.collation}` : type;

const createTable = async (target: Target, table: SinkTable): Promise<void> => {
  const name = targetName(table.name);
  const columns = table.columns.map((column, index) => {
    const keyColumns = table.key.includes(index) ? table.key.length : 0;
    return `${quoteName(targetName(column.name))} ${definitionOf(target, typeFor(column, keyColumns))}`;
  });
  const key = table.key.map((index) => quoteName(targetName(table.columns[index]!.name))).join(', ');
  target.logger.info({ table: name, columns: columns.length }, 'creating table');
  await target.ddl(
    `INSERT INTO ${TABLE_TABLE} (relation, source) VALUES (${quoteLiteral(name)}, ${quoteLiteral(table.source)}) ON DUPLICATE KEY UPDATE created_at = NULL`,
    `CREATE TABLE IF NOT EXISTS ${quoteName(name)} (${columns.join(', ')}, PRIMARY KEY (${key})) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE ${target.collation}`,
  );
};

// Without a default: the diff takes a new column as NULL before, so every row that has another value follows as a change.
const addColumn = async (target: Target, added: { table: SinkTable; column: SinkColumn }): Promise<TargetColumn> => {
  const { table, column } = added;
  const result = targetColumn(targetName(column.name), typeFor(column, 0));
  target.logger.info({ table: table.name, column: result.name, type: result.type }, 'adding column');
  await target.ddl(`ALTER TABLE ${quoteName(targetName(table.name))} ADD COLUMN ${result.quoted} ${definitionOf(target, result.type)} NULL`);
  return result;
};

/** The hive's table has another key now (it was rebuilt). Columns of the old key may hold NULL from here on. */
const replacePrimaryKey = async (
  target: Target,
  change: { table: SinkTable; columns: readonly TargetColumn[]; found: readonly FoundColumn[]; old: UniqueIndex | undefined },
): Promise<void> => {
  const { table, columns, found, old } = change;
  const keys = table.key.map((index) => columns[index]!);
  const redefined = (name: string, type: string, keyColumns: number): string => {
    const kind = kindOfType(type);
    const redefinition = canWiden(kind) ? typeNameOf(kind, keyColumns) : type === 'json' && keyColumns > 0 ? typeNameOf('text', keyColumns) : type;
    return `MODIFY COLUMN ${quoteName(name)} ${definitionOf(target, redefinition)} ${keyColumns === 0 ? 'NULL' : 'NOT NULL'}`;
  };
  const free = found.filter(
    (column) => old?.columns.some((name) => sameColumn(name, column.name)) === true && !keys.some((key) => sameColumn(key.name, column.name)),
  );
  const steps = [
    ...(old === undefined ? [] : ['DROP PRIMARY KEY']),
    ...free.map((column) => redefined(column.name, column.type, 0)),
    ...keys.map((key) => redefined(key.name, key.type, keys.length)),
    `ADD PRIMARY KEY (${keys.map((key) => key.quoted).join(', ')})`,
  ];
  const keyNames = keys.map((key) => key.name);
  target.logger.warn({ table: table.name, key: keyNames }, 'changing primary key');
  try {
    await target.ddl(`ALTER TABLE ${quoteName(targetName(table.name))} ${steps.join(', ')}`);
  } catch (error) {
    if (!REKEY_REFUSED.has(serverError(error) ?? 0)) throw error;
    throw new WaggleError('SINK_TABLE_MISFIT', `${target.label}, table ${table.name}: its rows do not allow the new key (${keyNames.join(', ')})`, {
      hint: `Drop the table in the target and delete the row of this sink from ${CHECKPOINT_TABLE}, then restart waggle: the sink is filled again.`,
    });
  }
  for (const key of keys) if (canWiden(key.kind)) key.type = typeNameOf(key.kind, keys.length);
};
