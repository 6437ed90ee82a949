/** A mistyped table name leaves out nothing (or everything): that is told, since a table that should stay out would get out. */
import Database from 'better-sqlite3';
import { tableFilter } from '../capture/table-filter.ts';
import { nearestName } from '../support/nearest-name.ts';

export interface TableNames {
  readonly include: readonly string[] | null;
  readonly exclude: readonly string[];
}

/**
 * One line for each name without `*` that is no table of the hive. Before capture begins: the hive is opened and closed, which drops the locks that this process has on it.
 */
export const unknownTables = (hive: string, { include, exclude }: TableNames): string[] => {
  const asked = [...(include ?? []).map((name) => ['include', name] as const), ...exclude.map((name) => ['exclude', name] as const)].filter(
    ([, name]) => !name.includes('*'),
  );
  const names = asked.length === 0 ? null : tableNames(hive);
  if (names === null) return [];
  return asked
    .filter(([, name]) => !names.some(tableFilter({ include: [name], exclude: [] })))
    .map(([list, name]) => {
      const nearest = nearestName(name, names);
      return `tables.${list}: the database has no table \`${name}\` now${nearest === null ? '' : `; did you mean \`${nearest}\`?`}`;
    });
};

/** Null: they cannot be read; capture will say why. A connection for reading never checkpoints, so it leaves the WAL as it is. */
const tableNames = (hive: string): string[] | null => {
  let database: Database.Database | null = null;
  try {
    database = new Database(hive, { readonly: true, fileMustExist: true, timeout: 500 });
    return database.prepare<[], string>("SELECT name FROM sqlite_schema WHERE type = 'table'").pluck().all();
  } catch {
    return null;
  } finally {
    database?.close();
  }
};
