/** Walks over whole trees in the order of their rows. */
import type { Rowid } from '../change/table.ts';
import {
  cellCount,
  checkIndexPage,
  checkLeaf,
  checkNotEmpty,
  forEachChild,
  IndexCell,
  INTERIOR_INDEX,
  INTERIOR_TABLE,
  interiorRowid,
  LEAF_TABLE,
  PageCorruption,
  pageKind,
  TableCell,
} from '../sqlite/btree-page.ts';
import { readPayload, type ReadPage } from '../sqlite/payload.ts';
import { RecordError } from '../sqlite/record.ts';

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
      if (page !== root) checkNotEmpty(image, page);
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
  let last: Rowid = -Infinity;
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
    if (depth > 0) checkNotEmpty(image, page);
    for (let index = 0; index < count; index += 1) {
      cell.parseAt(image, page, index);
      // Whoever reads on from a cursor would miss a row.
      if (cell.rowid <= last) throw new PageCorruption(`page ${page}: rowids are out of order`);
      last = cell.rowid;
      if (after !== null && cell.rowid <= after) continue;
      try {
        if (!visit(last, readPayload(image, cell, usableSize, readPage))) return false;
      } catch (error) {
        throw onPage(error, page);
      }
    }
    return true;
  };
  walk(root, 0);
};

/** A record that nobody could decode is the page's fault. */
export const onPage = (error: unknown, page: number): unknown =>
  error instanceof RecordError ? new PageCorruption(`page ${page}: ${error.message}`, { cause: error }) : error;

export interface RecordsFrom {
  readonly root: number;
  readonly usableSize: number;
  readonly sizePages: number;
  readonly readPage: ReadPage;
  /** Whether a record stands at or before the place from which on they are wanted; null: all. */
  readonly isBehind: ((record: Buffer) => boolean) | null;
}

/** The records of a WITHOUT ROWID table in their order, each valid until the next. Descends to the first one, as `forEachRow` does. */
export function* recordsOf({ root, usableSize, sizePages, readPage, isBehind }: RecordsFrom): Generator<Buffer, void, undefined> {
  const cell = new IndexCell(usableSize);
  let seen = 0;
  let isReached = isBehind === null;
  function* walk(page: number, depth: number): Generator<Buffer, void, undefined> {
    seen += 1;
    if (depth > 64 || seen > sizePages) throw new PageCorruption(`the tree of page ${root} runs in a circle`);
    const image = Buffer.from(readPage(page));
    checkIndexPage(image, page);
    const children: number[] = [];
    if (pageKind(image, page) === INTERIOR_INDEX) forEachChild(image, page, (child) => void children.push(child));
    const recordAt = (index: number): Buffer => {
      cell.parseAt(image, page, index);
      return readPayload(image, cell, usableSize, readPage);
    };
    const count = cellCount(image, page);
    if (depth > 0 && children.length === 0) checkNotEmpty(image, page);
    for (let index = 0; index < count; index += 1) {
      // A row that lies before the place has nothing in the child to its left either.
      if (!isReached && isBehind!(recordAt(index))) continue;
      if (children.length > 0) yield* walk(children[index]!, depth + 1);
      isReached = true;
      yield recordAt(index);
    }
    if (children.length > 0) yield* walk(children[count]!, depth + 1);
  }
  yield* walk(root, 0);
}
