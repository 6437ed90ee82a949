/**
 * B-tree pages (https://sqlite.org/fileformat2.html#b_tree_pages). Page 1 carries the 100-byte database header first;
 * all offsets count from the page's own beginning.
 *
 *     0 kind u8   2 interior index, 5 interior table, 10 leaf index, 13 leaf table
 *     1 first freeblock u16    3 cells u16    5 start of cell content u16    7 fragmented bytes u8
 *     8 right-most child u32 (interior only)
 *     then the cell pointer array, u16 each, in key order
 *
 *     leaf table cell       payload bytes varint | rowid varint | local payload | first overflow page u32 if it overflows
 *     interior table cell   left child u32 | rowid varint
 *     leaf index cell       payload bytes varint | local payload | first overflow page u32 if it overflows
 *     interior index cell   left child u32 | the same: rows stand on interior pages too (WITHOUT ROWID tables)
 *     overflow page         next page u32 (0: last) | payload, up to usable size - 4
 *
 * Nothing here trusts the bytes: what points outside the page throws a PageCorruption.
 */
import { readRowid, readVarint, varintEnd } from './varint.ts';

export const INTERIOR_INDEX = 2;
export const INTERIOR_TABLE = 5;
export const LEAF_INDEX = 10;
export const LEAF_TABLE = 13;

/** SQLite's own upper limit of a record (SQLITE_MAX_LENGTH). */
const MAX_PAYLOAD = 2147483647;

/** A page contradicts the file format. The caller knows which page of which file it was. */
export class PageCorruption extends Error {
  override readonly name = 'PageCorruption';
}

/** Offset of the b-tree header inside the page. */
export const btreeOffset = (pageNumber: number): number => (pageNumber === 1 ? 100 : 0);

export const pageKind = (page: Buffer, pageNumber: number): number => page[btreeOffset(pageNumber)]!;

export const cellCount = (page: Buffer, pageNumber: number): number => {
  const header = btreeOffset(pageNumber);
  return (page[header + 3]! << 8) | page[header + 4]!;
};

/** Offset of the cell pointer array. */
export const cellPointersOffset = (page: Buffer, pageNumber: number): number => {
  const header = btreeOffset(pageNumber);
  return header + (page[header]! < LEAF_INDEX ? 12 : 8);
};

export const readU16 = (page: Buffer, offset: number): number => (page[offset]! << 8) | page[offset + 1]!;

export const readU32 = (page: Buffer, offset: number): number =>
  page[offset]! * 16777216 + ((page[offset + 1]! << 16) | (page[offset + 2]! << 8) | page[offset + 3]!);

/** Calls `visit` for each child of an interior page, in key order, the right-most last. */
export const forEachChild = (page: Buffer, pageNumber: number, visit: (child: number) => void): void => {
  const header = btreeOffset(pageNumber);
  const count = readU16(page, header + 3);
  const pointers = header + 12;
  if (pointers + count * 2 > page.length) throw new PageCorruption('cell pointers run past the page');
  for (let index = 0; index < count; index += 1) {
    const cell = readU16(page, pointers + index * 2);
    if (cell + 4 > page.length) throw new PageCorruption('cell lies outside the page');
    visit(notZero(readU32(page, cell)));
  }
  visit(notZero(readU32(page, header + 8)));
};

const notZero = (child: number): number => {
  if (child === 0) throw new PageCorruption('an interior page has page 0 as a child');
  return child;
};

/** Rowid in the index-th cell of an interior table page: the largest rowid in that cell's left child. Follows `forEachChild`. */
export const interiorRowid = (page: Buffer, pageNumber: number, index: number): number | bigint =>
  readRowid(page, readU16(page, btreeOffset(pageNumber) + 12 + index * 2) + 4);

/** What a parsed cell tells of its payload. */
export interface PayloadCell {
  readonly payloadBytes: number;
  readonly localOffset: number;
  readonly localBytes: number;
  readOverflow(page: Buffer): number;
}

/** A cell of a leaf table page, parsed in place again and again: scanning allocates nothing. */
export class TableCell {
  rowid: number | bigint = 0;
  /** Bytes of the whole record. */
  payloadBytes = 0;
  /** Offset and length of the part that stands in the page. */
  localOffset = 0;
  localBytes = 0;
  /** 0: no overflow. */
  overflowPage = 0;
  /** Offset behind the cell. */
  end = 0;

  readonly #usable: number;
  readonly #maxLocal: number;
  readonly #minLocal: number;

  /** `usableSize`: page size less reserved bytes. */
  constructor(usableSize: number) {
    this.#usable = usableSize;
    this.#maxLocal = usableSize - 35;
    this.#minLocal = Math.floor(((usableSize - 12) * 32) / 255) - 23;
  }

  /** Parses the cell at `offset` of a leaf table page. */
  parse(page: Buffer, offset: number): void {
    const payload = readVarint(page, offset);
    this.rowid = readRowid(page, varintEnd);
    this.#place(payload, varintEnd);
  }

  /** The index-th cell of a leaf table page. */
  parseAt(page: Buffer, pageNumber: number, index: number): void {
    const pointers = btreeOffset(pageNumber) + 8;
    const offset = readU16(page, pointers + index * 2);
    if (offset < pointers + cellCount(page, pageNumber) * 2) throw new PageCorruption('cell lies in the page header');
    this.parse(page, offset);
  }

  #place(payload: number, start: number): void {
    this.payloadBytes = payload;
    this.localOffset = start;
    if (payload <= this.#maxLocal) {
      this.localBytes = payload;
      this.overflowPage = 0;
      this.end = start + payload;
    } else {
      const surplus = this.#minLocal + ((payload - this.#minLocal) % (this.#usable - 4));
      this.localBytes = surplus <= this.#maxLocal ? surplus : this.#minLocal;
      this.end = start + this.localBytes + 4;
    }
    // A varint that ran off the page gives NaN, which fails here as well.
    if (!(this.end <= this.#usable && payload <= MAX_PAYLOAD)) throw new PageCorruption('cell ends behind the page');
  }

  /** Also reads the overflow pointer; call after `parse` on cells whose payload overflows. */
  readOverflow(page: Buffer): number {
    this.overflowPage = this.payloadBytes > this.localBytes ? readU32(page, this.end - 4) : 0;
    return this.overflowPage;
  }
}

/** A cell of a page of an index b-tree, parsed in place again and again. Fields as of `TableCell`. */
export class IndexCell implements PayloadCell {
  payloadBytes = 0;
  localOffset = 0;
  localBytes = 0;
  end = 0;

  readonly #usable: number;
  readonly #maxLocal: number;
  readonly #minLocal: number;

  /** `usableSize`: page size less reserved bytes. */
  constructor(usableSize: number) {
    this.#usable = usableSize;
    this.#maxLocal = Math.floor(((usableSize - 12) * 64) / 255) - 23;
    this.#minLocal = Math.floor(((usableSize - 12) * 32) / 255) - 23;
  }

  /** The index-th cell of a page that `checkIndexPage` has seen. */
  parseAt(page: Buffer, pageNumber: number, index: number): void {
    const pointers = cellPointersOffset(page, pageNumber);
    const offset = readU16(page, pointers + index * 2);
    if (offset < pointers + cellCount(page, pageNumber) * 2) throw new PageCorruption('cell lies in the page header');
    const isInterior = pageKind(page, pageNumber) === INTERIOR_INDEX;
    const payload = readVarint(page, isInterior ? offset + 4 : offset);
    this.payloadBytes = payload;
    this.localOffset = varintEnd;
    if (payload <= this.#maxLocal) {
      this.localBytes = payload;
      this.end = varintEnd + payload;
    } else {
      const surplus = this.#minLocal + ((payload - this.#minLocal) % (this.#usable - 4));
      this.localBytes = surplus <= this.#maxLocal ? surplus : this.#minLocal;
      this.end = varintEnd + this.localBytes + 4;
    }
    // A varint that ran off the page gives NaN, which fails here as well.
    if (!(this.end <= this.#usable && payload <= MAX_PAYLOAD)) throw new PageCorruption('cell ends behind the page');
  }

  /** First overflow page; 0: none. */
  readOverflow(page: Buffer): number {
    return this.payloadBytes > this.localBytes ? readU32(page, this.end - 4) : 0;
  }
}

/** Throws unless the page is one of an index b-tree whose cell pointers lie inside it. */
export const checkIndexPage = (page: Buffer, pageNumber: number): void => {
  const kind = pageKind(page, pageNumber);
  if (kind !== LEAF_INDEX && kind !== INTERIOR_INDEX) throw new PageCorruption('not an index page');
  if (cellPointersOffset(page, pageNumber) + cellCount(page, pageNumber) * 2 > page.length)
    throw new PageCorruption('cell pointers run past the page');
};

/** Left child of the index-th cell of an interior page; the right-most child behind the last. */
export const childAt = (page: Buffer, pageNumber: number, index: number): number => {
  const header = btreeOffset(pageNumber);
  if (index === readU16(page, header + 3)) return notZero(readU32(page, header + 8));
  const cell = readU16(page, header + 12 + index * 2);
  if (cell + 4 > page.length) throw new PageCorruption('cell lies outside the page');
  return notZero(readU32(page, cell));
};

/** The two kinds of page that a tree consists of. */
export interface TreeKinds {
  readonly interior: number;
  readonly leaf: number;
}

export const TABLE_TREE: TreeKinds = { interior: INTERIOR_TABLE, leaf: LEAF_TABLE };
/** Of a WITHOUT ROWID table. */
export const INDEX_TREE: TreeKinds = { interior: INTERIOR_INDEX, leaf: LEAF_INDEX };

/** Throws unless the page is a leaf table page whose cell pointers lie inside it. */
export const checkLeaf = (page: Buffer, pageNumber: number): void => {
  if (pageKind(page, pageNumber) !== LEAF_TABLE) throw new PageCorruption('not a leaf table page');
  if (btreeOffset(pageNumber) + 8 + cellCount(page, pageNumber) * 2 > page.length) throw new PageCorruption('cell pointers run past the page');
};
