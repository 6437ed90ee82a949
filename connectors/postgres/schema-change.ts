/** What an `s` of the hive means for the target's table. */
import type { SinkSchemaChange } from '../../src/pipeline/sink.ts';
import { addedColumns, renamedColumns } from '../column-changes.ts';
import { quoteName, targetColumnName, targetTableName } from './names.ts';
import { findTable, qualified, type Target, TargetTable } from './target-table.ts';

/**
 * Makes the target follow: renames what waggle created, copies columns in tables that it did not create, adds columns.
 * A dropped column stays in the target and keeps what it holds; if the hive has it again one day, it starts as NULL.
 * Doing it twice does no harm.
 */
export const applySchemaChange = async (target: Target, change: SinkSchemaChange, mayCreate: boolean): Promise<TargetTable | null> => {
  const { table } = change;
  if (table === null) return null;
  if (change.previous === null) return TargetTable.open(target, table, mayCreate);
  const state = await findTable(target, targetTableName(table.name));
  const has = (name: string): boolean => state.columns.some((column) => column.name === targetColumnName(name));
  const copies: [string, number][] = [];
  for (const [from, index] of renamedColumns(change)) {
    const to = table.columns[index]!.name;
    if (!has(from)) continue;
    if (!state.own || has(to)) copies.push([from, index]);
    else
      await target.session.script(
        `ALTER TABLE ${qualified(target, targetTableName(table.name))} RENAME COLUMN ${quoteName(targetColumnName(from))} TO ${quoteName(targetColumnName(to))}`,
      );
  }
  const stale = addedColumns(change).filter((index) => has(table.columns[index]!.name));
  const opened = await TargetTable.open(target, table, mayCreate);
  for (const [from, index] of copies) await opened.copyColumn(targetColumnName(from), index);
  for (const index of stale) await opened.resetColumn(index);
  return opened;
};
