/** What an `s` says about columns, for every connector that keeps tables. */
import type { Column, Table, Value } from '../src/change/table.ts';
import type { SinkSchemaChange, SinkTable } from '../src/pipeline/sink.ts';

/** The two versions of the table that a schema change leads from and to; null unless it altered a table. */
const versions = (change: SinkSchemaChange): { before: SinkTable; after: SinkTable; renamed: boolean } | null => {
  const { previous, table, source } = change;
  if (previous === null || table === null || source.op !== 's' || source.previous === null || source.table === null) return null;
  return { before: previous, after: table, renamed: onlyNamesChanged(source.previous, source.table) };
};

/**
 * Columns that were renamed: [old name, index of the new one]. Rows are not told again when a column gets another name.
 * The rule is the one by which the diff compares rows (`matchColumns` in src/diff): all columns are the same but for names that did not
 * exist before. In every other case columns keep their identity by name.
 */
export const renamedColumns = (change: SinkSchemaChange): [string, number][] => {
  const found = versions(change);
  if (found === null || !found.renamed || found.before.columns.length !== found.after.columns.length) return [];
  return found.after.columns.flatMap((column, index): [string, number][] => {
    const old = found.before.columns[index]!.name;
    return old === column.name ? [] : [[old, index]];
  });
};

/** Indexes of columns that the table did not have before, renamed ones not counted. The diff takes them as NULL before. */
export const addedColumns = (change: SinkSchemaChange): number[] => {
  const found = versions(change);
  if (found === null) return [];
  const renamed = new Set(renamedColumns(change).map(([, index]) => index));
  const names = new Set(found.before.columns.map((column) => column.name));
  return found.after.columns.flatMap((column, index) => (names.has(column.name) || renamed.has(index) ? [] : [index]));
};

const onlyNamesChanged = (before: Table, after: Table): boolean => {
  const oldNames = new Set(before.columns.map((column) => column.name));
  return (
    before.columns.length === after.columns.length &&
    before.columns.every((column, index) => {
      const now = after.columns[index]!;
      return sameContent(column, now) && (column.name === now.name || !oldNames.has(now.name));
    })
  );
};

const sameContent = (a: Column, b: Column): boolean =>
  a.affinity === b.affinity && a.keyOrdinal === b.keyOrdinal && a.generated === b.generated && sameValue(a.defaultValue, b.defaultValue);

const sameValue = (a: Value, b: Value): boolean =>
  a instanceof Uint8Array && b instanceof Uint8Array ? Buffer.compare(a, b) === 0 : Object.is(a, b);
