/** Reading a table of the copy back, for `verify` and `resync`. */
import type { Value } from '../../src/change/table.ts';
import type { ColumnDifference, RowDifferences, SinkTable } from '../../src/pipeline/sink.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { columnsOf, isOwn, quoteName, type Target } from './target-table.ts';

/** In a table that waggle created every value keeps its storage class; in another one it has been through that table's affinities. */
export const compareRows = (target: Target, table: SinkTable, rows: readonly (readonly Value[])[]): RowDifferences => {
  if (columnsOf(target, table.name).size === 0) return { missing: [...rows.keys()], changed: [] };
  const equal = target.database.prepare<Value[], number>(`SELECT ${comparisons(target, table).join(' AND ')} ${joinedRow(table)}`).pluck();
  const missing: number[] = [];
  const changed: number[] = [];
  for (const [index, row] of rows.entries()) {
    const answer = equal.get(...row);
    if (answer === undefined) missing.push(index);
    else if (answer !== 1) changed.push(index);
  }
  return { missing, changed };
};

export const columnDifferences = (target: Target, table: SinkTable, rows: readonly (readonly Value[])[]): ColumnDifference[][] => {
  if (columnsOf(target, table.name).size === 0) return rows.map(() => []);
  const names = table.columns.map((column) => `t.${quoteName(column.name)}`);
  const told = target.database
    .prepare<Value[], Value[]>(`SELECT ${[...comparisons(target, table), ...names].join(', ')} ${joinedRow(table)}`)
    .raw()
    .safeIntegers();
  return rows.map((row) => {
    const answer = told.get(...row);
    if (answer === undefined) return [];
    return names.flatMap((_, column) =>
      answer[column] === 1n ? [] : [{ column, wanted: row[column]!, found: answer[names.length + column] ?? null }],
    );
  });
};

/** For each column whether the target's row `t` holds the value of the given row `r`. */
const comparisons = (target: Target, table: SinkTable): string[] => {
  const found = columnsOf(target, table.name);
  const absent = table.columns.find((column) => !found.has(column.name.toLowerCase()));
  if (absent !== undefined)
    throw new WaggleError('SINK_TABLE_MISFIT', `sqlite ${target.file}, table ${table.name}: it has no column ${absent.name}`, {
      hint: 'Run `waggle resync`: it adds the column and fills it.',
    });
  const own = isOwn(target, table.name);
  return table.columns.map((column, index) => {
    const name = `t.${quoteName(column.name)}`;
    if (column.volatile === true) return '1';
    return own ? `(${name} IS r.c${index} AND typeof(${name}) = typeof(r.c${index}))` : `${name} IS r.c${index}`;
  });
};

const joinedRow = ({ name, columns, key }: SinkTable): string =>
  `FROM (SELECT ${columns.map((_, index) => `? AS c${index}`).join(', ')}) AS r JOIN ${quoteName(name)} AS t ` +
  `ON ${key.map((index) => `t.${quoteName(columns[index]!.name)} = r.c${index}`).join(' AND ')}`;

export const countRows = (target: Target, table: SinkTable): number => {
  if (columnsOf(target, table.name).size === 0) return 0;
  return (
    target.database
      .prepare<[], number>(`SELECT count(*) FROM ${quoteName(table.name)} WHERE ${living(table)}`)
      .pluck()
      .get() ?? 0
  );
};

export const keysBehind = (target: Target, table: SinkTable, from: { after: readonly Value[] | null; limit: number }): Value[][] => {
  if (columnsOf(target, table.name).size === 0) return [];
  const names = table.key.map((index) => quoteName(table.columns[index]!.name)).join(', ');
  const behind = from.after === null ? '' : `AND (${names}) > (${from.after.map(() => '?').join(', ')})`;
  return target.database
    .prepare<unknown[], Value[]>(`SELECT ${names} FROM ${quoteName(table.name)} WHERE ${living(table)} ${behind} ORDER BY ${names} LIMIT ?`)
    .raw()
    .safeIntegers()
    .all(...(from.after ?? []), from.limit);
};

/** Rows that the hive shall have, too. */
const living = ({ columns, deletedAt }: SinkTable): string => (deletedAt === undefined ? 'true' : `${quoteName(columns[deletedAt]!.name)} IS NULL`);
