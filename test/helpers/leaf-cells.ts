/** The rows of a small table as the cells of its pages. */
import type Database from 'better-sqlite3';
import { forEachRow } from '../../src/diff/tree-scan.ts';
import { parseDatabaseHeader } from '../../src/sqlite/database-header.ts';

export interface Cell {
  readonly rowid: number | bigint;
  readonly payload: Buffer;
}

export const leafCells = (db: Database.Database, table: string): Cell[] => {
  const file = db.serialize();
  const { pageSize, usableSize } = parseDatabaseHeader(file)!;
  const root = db.prepare<[string], number>('SELECT rootpage FROM sqlite_schema WHERE name = ?').pluck().get(table)!;
  const cells: Cell[] = [];
  const readPage = (page: number): Buffer => file.subarray((page - 1) * pageSize, page * pageSize);
  forEachRow({ root, usableSize, sizePages: file.length / pageSize, readPage, after: null }, (rowid, payload) => {
    cells.push({ rowid, payload: Buffer.from(payload) });
    return true;
  });
  return cells;
};
