/** A table in the order of a collation that only its application has: made by hand, because this SQLite would refuse it. */
import type Database from 'better-sqlite3';

/** `table` says `COLLATE NOCASE`; from now on it says another one. The connection knows nothing of it. */
export const useUnknownCollation = (database: Database.Database, table: string): void => {
  database.unsafeMode(true);
  database.pragma('writable_schema = ON');
  database.prepare("UPDATE sqlite_schema SET sql = replace(sql, 'NOCASE', 'only_here') WHERE name = ?").run(table);
  database.pragma('writable_schema = OFF');
};
