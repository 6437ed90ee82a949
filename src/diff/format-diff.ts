/**
 * Two databases whose pages cannot be compared because their sizes differ: every table is read row by row on both sides, in the
 * order of its rows, and the two sequences are merged. Memory is a path of pages a side, whatever the size of the tables (and what
 * `TableChanges` needs to join a delete and a create of one declared key).
 */
import { ChangeWriter, type PartSpill } from '../change/change-codec.ts';
import type { Rowid, TextEncoding } from '../change/table.ts';
import type { Schema, TrackedTable } from '../catalog/schema.ts';
import { cellCount, checkLeaf, TableCell } from '../sqlite/btree-page.ts';
import { keyComparison } from '../sqlite/key-order.ts';
import { readPayload, type ReadPage } from '../sqlite/payload.ts';
import { recordComparison, rowComparison, sameColumns } from './column-changes.ts';
import { TreeCursor } from './index-cursor.ts';
import { TableChanges } from './table-changes.ts';
import { guarded, goneTables, type TransactionChanges, writeChanges } from './transaction-diff.ts';
import { leavesOf } from './tree-scan.ts';

/** One of the two databases. */
export interface DatabasePages {
  readonly schema: Schema;
  readonly usableSize: number;
  readonly sizePages: number;
  readonly readPage: ReadPage;
}

/** Throws HIVE_CORRUPT. */
export const diffFormats = (before: DatabasePages, after: DatabasePages, encoding: TextEncoding, spill: PartSpill | null): TransactionChanges => {
  const previous = before.schema;
  const { schema } = after;
  const dropped = goneTables(previous, schema);
  const found = schema.tables.map((now) => {
    const known = previous.byName.get(now.table.name);
    const old = known === undefined || dropped.includes(known) ? null : known;
    const changes = changesOf(old, now, encoding, spill);
    guarded(now.table.name, () => mergeRows({ before, after, old, now, encoding }, changes));
    return changes;
  });
  return { previous, ...writeChanges({ previous, schema, found, dropped, into: new ChangeWriter(spill) }) };
};

const changesOf = (old: TrackedTable | null, now: TrackedTable, encoding: TextEncoding, spill: PartSpill | null): TableChanges => {
  const previous = old?.table ?? now.table;
  const sameRow = sameColumns(previous, now.table) ? recordComparison(now.table, encoding) : rowComparison(previous, now.table, encoding);
  return new TableChanges({ index: now.index, table: now.table, previous, sameRow }, spill);
};

interface Sides {
  readonly before: DatabasePages;
  readonly after: DatabasePages;
  readonly old: TrackedTable | null;
  readonly now: TrackedTable;
  readonly encoding: TextEncoding;
}

const mergeRows = ({ before, after, old, now, encoding }: Sides, into: TableChanges): void => {
  const keys = now.table.withoutRowid === undefined ? null : keyComparison(now.table.withoutRowid.key, encoding);
  const order = (a: FoundRow, b: FoundRow): number => (keys === null ? compareRowids(a.rowid, b.rowid) : keys(a.record, b.record));
  const oldRows = old === null ? [][Symbol.iterator]() : rowsOf(old, before, encoding);
  const newRows = rowsOf(now, after, encoding);
  let left = oldRows.next();
  let right = newRows.next();
  while (left.done !== true || right.done !== true) {
    const place = left.done === true ? 1 : right.done === true ? -1 : order(left.value, right.value);
    if (place < 0) into.deleted(left.value!.rowid, left.value!.record);
    else if (place > 0) into.created(right.value!.rowid, right.value!.record);
    else into.updated(right.value!.rowid, left.value!.record, right.value!.record);
    if (place <= 0) left = oldRows.next();
    if (place >= 0) right = newRows.next();
  }
};

const compareRowids = (a: Rowid, b: Rowid): number => (a < b ? -1 : a > b ? 1 : 0);

/** `record` is valid until the next row is asked for. The rowid of a WITHOUT ROWID table's row is 0. */
interface FoundRow {
  readonly rowid: Rowid;
  readonly record: Buffer;
}

/** All rows in their order. */
function* rowsOf({ table, root }: TrackedTable, from: DatabasePages, encoding: TextEncoding): Generator<FoundRow, undefined, undefined> {
  const { usableSize, sizePages, readPage } = from;
  if (table.withoutRowid !== undefined) {
    const cursor = new TreeCursor(root, { readPage, usableSize, sizePages, compare: keyComparison(table.withoutRowid.key, encoding) });
    for (; cursor.current !== null; cursor.next()) yield { rowid: 0, record: cursor.current.record() };
    return;
  }
  const cell = new TableCell(usableSize);
  for (const leaf of leavesOf(root, sizePages, readPage)) {
    // The reader may reuse its buffer for overflow pages.
    const image = Buffer.from(readPage(leaf));
    checkLeaf(image, leaf);
    for (let index = 0; index < cellCount(image, leaf); index += 1) {
      cell.parseAt(image, leaf, index);
      yield { rowid: cell.rowid, record: readPayload(image, cell, usableSize, readPage) };
    }
  }
}
