/** Walks over whole trees in the order of their rows. */
import type { Rowid } from '../change/table.ts';
import {
  cellCount,
  checkLeaf,
  forEachChild,
  INTERIOR_TABLE,
  interiorRowid,
  LEAF_TABLE,
  PageCorruption,
  pageKind,
  TableCell,
} from '../sqlite/btree-page.ts';
import { readPayload, type ReadPage } from '../sqlite/payload.ts';
import { type IndexSource, TreeCursor } from './index-cursor.ts';

/** Leaf pages of a tree in rowid order. Throws a PageCorruption where the tree has more pages than the database (`sizePages`). */
export const leavesOf = (root: number, sizePages: number, readPage: ReadPage): number[] => {
  const leaves: number[] = [];
  const stack = [root];
  let seen = 0;
  for (let page = stack.pop(); page !== undefined; page = stack.pop()) {
    seen += 1;
    if (seen > sizePages) throw new PageCorruption(`the tree of page ${root} runs in a circle`);
    const image = readPage(page);
    const kind = pageKind(image, page);
    if (kind === LEAF_TABLE) {
      leaves.push(page);
    } else if (kind === INTERIOR_TABLE) {
      const children: number[] = [];
      forEachChild(image, page, (child) => void children.push(child));
      for (let index = children.length - 1; index >= 0; index -= 1) stack.push(children[index]!);
    } else {
      throw new PageCorruption(`page ${page} is not a table page (kind ${kind})`);
    }
  }
  return leaves;
};

export interface RowsFrom {
  readonly root: number;
  readonly usableSize: number;
  readonly sizePages: number;
  readonly readPage: ReadPage;
  /** Rows with a greater rowid only; null: all. */
  readonly after: Rowid | null;
}

/**
 * Calls `visit` for each row in rowid order until it returns false. Descends to the first row, so that reading
 * on from a cursor costs the tree's depth. Records are views that are valid during the call.
 */
export const forEachRow = ({ root, usableSize, sizePages, readPage, after }: RowsFrom, visit: (rowid: Rowid, record: Buffer) => boolean): void => {
  const cell = new TableCell(usableSize);
  let seen = 0;
  const walk = (page: number, depth: number): boolean => {
    seen += 1;
    if (depth > 64 || seen > sizePages) throw new PageCorruption(`the tree of page ${root} runs in a circle`);
    // The reader may reuse its buffer for the pages below.
    const image = Buffer.from(readPage(page));
    const kind = pageKind(image, page);
    const count = cellCount(image, page);
    if (kind === INTERIOR_TABLE) {
      const children: number[] = [];
      forEachChild(image, page, (child) => void children.push(child));
      for (let index = 0; index <= count; index += 1) {
        if (index < count && after !== null && interiorRowid(image, page, index) <= after) continue;
        if (!walk(children[index]!, depth + 1)) return false;
      }
      return true;
    }
    checkLeaf(image, page);
    for (let index = 0; index < count; index += 1) {
      cell.parseAt(image, page, index);
      if (after !== null && cell.rowid <= after) continue;
      const rowid = cell.rowid;
      if (!visit(rowid, readPayload(image, cell, usableSize, readPage))) return false;
    }
    return true;
  };
  walk(root, 0);
};

/** The same for a WITHOUT ROWID tree, in the order of its key. `after`: a record that begins with a key; null: all rows. */
export const forEachIndexRow = (from: IndexSource & { root: number; after: Buffer | null }, visit: (record: Buffer) => boolean): void => {
  const cursor = new TreeCursor(from.root, from, from.after);
  for (; cursor.current !== null; cursor.next()) if (!visit(cursor.current.record())) return;
};
