/** What an `s` of the hive means for the target's table. */
import type { SinkSchemaChange } from '../../src/pipeline/sink.ts';
import { addedColumns, renamedColumns } from '../column-changes.ts';
import { quoteName, sameColumn, targetName } from './names.ts';
import { findTable, type Target, TargetTable } from './target-table.ts';

/**
 * Makes the target follow: renames what waggle created, copies columns in tables that it did not create, adds columns.
 * A dropped column stays in the target and keeps what it holds; if the hive has it again one day, it starts as NULL.
 * Doing it twice does no harm, as long as no row of before comes in between.
 */
export const applySchemaChange = async (target: Target, change: SinkSchemaChange, mayCreate: boolean): Promise<TargetTable | null> => {
  const { table } = change;
  if (table === null) return null;
  if (change.previous === null) return TargetTable.open(target, table, mayCreate);
  const state = await findTable(target, targetName(table.name));
  const has = (name: string): boolean => state.columns.some((column) => sameColumn(column.name, targetName(name)));
  const copies: [string, number][] = [];
  for (const [from, index] of renamedColumns(change)) {
    const to = table.columns[index]!.name;
    if (!has(from) || sameColumn(targetName(from), targetName(to))) continue;
    if (state.own === 'no' || has(to)) copies.push([from, index]);
    else
      await target.ddl(
        `ALTER TABLE ${quoteName(targetName(table.name))} RENAME COLUMN ${quoteName(targetName(from))} TO ${quoteName(targetName(to))}`,
      );
  }
  const renamed = renamedColumns(change).map(([from]) => from);
  const stale = addedColumns(change).filter((index) => {
    const { name } = table.columns[index]!;
    return has(name) && !renamed.some((from) => sameColumn(from, name));
  });
  const opened = await TargetTable.open(target, table, mayCreate);
  for (const [from, index] of copies) await opened.copyColumn(targetName(from), index);
  for (const index of stale) await opened.resetColumn(index);
  return opened;
};
