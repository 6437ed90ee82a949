/** Walks over whole rowid trees in rowid order. */
import type { Rowid } from '../change/table.ts';
import {
  btreeOffset,
  cellCount,
  checkLeaf,
  forEachChild,
  INTERIOR_TABLE,
  interiorRowid,
  LEAF_TABLE,
  PageCorruption,
  pageKind,
  readU16,
  readU32,
  TableCell,
} from '../sqlite/btree-page.ts';
import { readPayload, type ReadPage } from '../sqlite/payload.ts';

/** Leaf pages of a tree in rowid order. */
export const leavesOf = (root: number, readPage: ReadPage): number[] => {
  const leaves: number[] = [];
  const stack = [root];
  for (let page = stack.pop(); page !== undefined; page = stack.pop()) {
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
  readonly readPage: ReadPage;
  /** Rows with a greater rowid only; null: all. */
  readonly after: Rowid | null;
}

/**
 * Calls `visit` for each row in rowid order until it returns false. Descends to the first row, so that reading
 * on from a cursor costs the tree's depth. Records are views that are valid during the call.
 */
export const forEachRow = ({ root, usableSize, readPage, after }: RowsFrom, visit: (rowid: Rowid, record: Buffer) => boolean): void => {
  const cell = new TableCell(usableSize);
  const walk = (page: number, depth: number): boolean => {
    if (depth > 64) throw new PageCorruption(`tree of page ${root} is deeper than any tree can be`);
    // The reader may reuse its buffer for the pages below.
    const image = Buffer.from(readPage(page));
    const kind = pageKind(image, page);
    const count = cellCount(image, page);
    if (kind === INTERIOR_TABLE) {
      const pointers = btreeOffset(page) + 12;
      if (pointers + count * 2 > image.length) throw new PageCorruption('cell pointers run past the page');
      for (let index = 0; index < count; index += 1) {
        if (after !== null && interiorRowid(image, page, index) <= after) continue;
        if (!walk(readU32(image, readU16(image, pointers + index * 2)), depth + 1)) return false;
      }
      return walk(readU32(image, btreeOffset(page) + 8), depth + 1);
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
