/** What SQLite tells about a hive: its tables, and what of them cannot be captured. */
import { existsSync } from 'node:fs';
import Database from 'better-sqlite3';
import { COLLATIONS } from '../sqlite/key-order.ts';
import { systemErrorCode } from '../support/errors.ts';
import type { Finding } from './doctor-file.ts';

interface TableRow {
  readonly name: string;
  readonly type: 'table' | 'virtual' | 'shadow' | 'view';
  /** A collation that SQLite does not have, in whose order the rows of a WITHOUT ROWID table stand; null: none. */
  readonly unknownCollation: string | null;
}

const TABLES = `
  SELECT name, type,
    (SELECT coll FROM pragma_index_list(t.name) i, pragma_index_xinfo(i.name) x
     WHERE t.wr = 1 AND i.origin = 'pk' AND x.key = 1 AND upper(coll) NOT IN (${COLLATIONS.map((name) => `'${name}'`).join()})) AS unknownCollation
  FROM pragma_table_list t WHERE schema = 'main' AND type <> 'view' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'`;

/**
 * Opens the hive for an instant; this process has no other connection to it whose locks the close could drop. Writes
 * nothing: where there is a WAL, by a read-only connection (which, unlike another, leaves the WAL when it closes last);
 * where there is none, by one that takes the -wal and -shm that it needs away again.
 */
export const examineDatabase = (hive: string): Finding[] => {
  let database: Database.Database | null = null;
  try {
    database = new Database(hive, { readonly: existsSync(`${hive}-wal`), fileMustExist: true, timeout: 1000 });
    return tableFindings(database.prepare<[], TableRow>(TABLES).all());
  } catch (error) {
    const code = systemErrorCode(error) ?? '';
    const text = error instanceof Error ? error.message : String(error);
    if (code.startsWith('SQLITE_BUSY'))
      return [
        {
          kind: 'problem',
          code: 'HIVE_LOCKED',
          text: 'another process holds the database exclusively',
          mend: 'Do not use locking_mode=EXCLUSIVE in the application.',
        },
      ];
    return [
      {
        kind: 'problem',
        code: 'HIVE_CORRUPT',
        text: `SQLite cannot read it: ${text}`,
        mend: 'Run `PRAGMA integrity_check` and restore a backup if it reports an error.',
      },
    ];
  } finally {
    database?.close();
  }
};

const tableFindings = (tables: readonly TableRow[]): Finding[] => {
  const plain = tables.filter((table) => table.type === 'table');
  const names = (some: readonly TableRow[]): string => some.map((table) => table.name).join(', ');
  const findings: Finding[] = [
    plain.length === 0
      ? { kind: 'note', text: 'no tables yet: they are captured as they are created' }
      : { kind: 'ok', text: `${plain.length} ${plain.length === 1 ? 'table' : 'tables'}` },
  ];
  const unknown = plain.filter((table) => table.unknownCollation !== null);
  if (unknown.length > 0) {
    findings.push({
      kind: 'problem',
      code: 'COLLATION_UNKNOWN',
      text: `WITHOUT ROWID in the order of a collation that only the application has: ${names(unknown)}`,
      mend: 'Exclude them: tables: { exclude: [...] }',
    });
  }
  const virtual = tables.filter((table) => table.type === 'virtual');
  if (virtual.length > 0)
    findings.push({ kind: 'note', text: `virtual tables are not captured, what they compute stays in the hive: ${names(virtual)}` });
  return findings;
};
