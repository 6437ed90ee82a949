/**
 * Changes of one transaction as bytes, the way they stand in the log. Rows are the SQLite records they are.
 *
 *     op u8          low 4 bits: 1 c, 2 u, 3 d, 4 t, 5 s    0x10 OLD_ROWID: u whose rowid moved    0x20 PREVIOUS: table is
 *                    an index into the previous catalog (d, t and s of what is gone)
 *     table varint   index into `tables` of the transaction's catalog (or the previous one)
 *     c              rowid, record
 *     u              rowid, [old rowid], old record, new record
 *     d              rowid, record
 *     t, s           nothing more
 *     rowid          8 bytes, big-endian two's complement;  record: length varint, bytes
 *
 * The old record of a `u` and the record of a `d` are decoded under the previous catalog where the transaction changed
 * the schema. A transaction is a list of parts; each part holds whole changes.
 */
import { readVarint, varintEnd, varintLength, writeVarint } from '../sqlite/varint.ts';
import type { Change, TransactionInfo } from './change.ts';
import { Row } from './row.ts';
import { type Catalog, findTable, type Rowid, type Table } from './table.ts';

const OP_C = 1;
const OP_U = 2;
const OP_D = 3;
const OP_T = 4;
const OP_S = 5;
const OLD_ROWID = 0x10;
const PREVIOUS = 0x20;

const EMPTY = Buffer.alloc(0);

/** Bytes after which a part is closed. A single larger change makes a larger part. */
export const PART_BYTES = 256 * 1024;

/** A part that was put aside. */
export interface SpilledPart {
  readonly length: number;
  /** Its bytes, valid until any part is read again. */
  read(): Buffer;
}

/** Where the parts of a large transaction are put aside, so that memory does not grow with it. */
export interface PartSpill {
  write(part: Buffer): SpilledPart;
}

export type Part = Buffer | SpilledPart;

/** A part's bytes; those of a spilled part are valid until another is read. */
export const partBytes = (part: Part): Buffer => (Buffer.isBuffer(part) ? part : part.read());

/** Bytes of parts that a writer keeps in memory before it puts the further ones aside. */
const RESIDENT_PART_BYTES = 4 * 1024 * 1024;

/** A buffer of up to this size serves the next transaction too. */
const KEPT_BYTES = 64 * 1024;

/** Collects changes into parts. One writer, one order: what is appended first has the lower seq. */
export class ChangeWriter {
  count = 0;
  #parts: Part[] = [];
  readonly #spill: PartSpill | null;
  #residentBytes = 0;
  #buffer: Buffer = EMPTY;
  #length = 0;
  /** Behind the first part: its buffer, if it is worth keeping. */
  #spare: Buffer = EMPTY;

  /** `spill`: null: everything stays in memory. */
  constructor(spill: PartSpill | null = null) {
    this.#spill = spill;
  }

  create(table: number, rowid: Rowid, record: Uint8Array): void {
    this.#begin(OP_C, table, 8 + 9 + record.length);
    this.#rowid(rowid);
    this.#bytes(record);
  }

  /** `oldRowid` differs from `rowid` where a row kept its declared key and changed its rowid. */
  update(table: number, change: { rowid: Rowid; oldRowid: Rowid; before: Uint8Array; after: Uint8Array }): void {
    const moved = change.oldRowid !== change.rowid;
    this.#begin(moved ? OP_U | OLD_ROWID : OP_U, table, 16 + 18 + change.before.length + change.after.length);
    this.#rowid(change.rowid);
    if (moved) this.#rowid(change.oldRowid);
    this.#bytes(change.before);
    this.#bytes(change.after);
  }

  /** `previous`: the index is one of the previous catalog. */
  delete(table: number, rowid: Rowid, record: Uint8Array, previous: boolean): void {
    this.#begin(previous ? OP_D | PREVIOUS : OP_D, table, 8 + 9 + record.length);
    this.#rowid(rowid);
    this.#bytes(record);
  }

  truncate(previousTable: number): void {
    this.#begin(OP_T | PREVIOUS, previousTable, 0);
  }

  /** `previous`: the table was dropped and the index is one of the previous catalog. */
  schema(table: number, previous: boolean): void {
    this.#begin(previous ? OP_S | PREVIOUS : OP_S, table, 0);
  }

  /** Appends another writer's changes behind this one's. */
  append(other: ChangeWriter): void {
    if (other.count === 0) return;
    this.#close();
    this.#parts.push(...other.parts());
    this.count += other.count;
  }

  /** The parts so far, valid until `reset`. The writer can be used on. */
  parts(): Part[] {
    this.#close();
    return this.#parts;
  }

  /** Begins anew, in the same memory where there is little of it. */
  reset(): void {
    this.#parts = [];
    this.#residentBytes = 0;
    this.count = 0;
    this.#length = 0;
    if (this.#buffer.length < this.#spare.length || this.#buffer.length > KEPT_BYTES) this.#buffer = this.#spare;
    this.#spare = EMPTY;
  }

  #begin(op: number, table: number, bytes: number): void {
    if (this.#length >= PART_BYTES) this.#close();
    const needed = this.#length + 1 + varintLength(table) + bytes;
    if (needed > this.#buffer.length) {
      // Most transactions are small. Behind the first part the buffer is a large one.
      const full = PART_BYTES + PART_BYTES / 4;
      const grown = Buffer.allocUnsafe(Math.max(needed, this.#parts.length > 0 ? full : Math.min(this.#buffer.length * 4, full)));
      this.#buffer.copy(grown, 0, 0, this.#length);
      this.#buffer = grown;
    }
    this.#buffer[this.#length++] = op;
    this.#length = writeVarint(this.#buffer, this.#length, table);
    this.count += 1;
  }

  #rowid(rowid: Rowid): void {
    this.#length = writeRowid(this.#buffer, this.#length, rowid);
  }

  #bytes(bytes: Uint8Array): void {
    this.#length = writeVarint(this.#buffer, this.#length, bytes.length);
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  #close(): void {
    if (this.#length === 0) return;
    const part = this.#buffer.subarray(0, this.#length);
    if (this.#spill !== null && this.#residentBytes + part.length > RESIDENT_PART_BYTES) {
      this.#parts.push(this.#spill.write(part));
    } else {
      if (this.#parts.length === 0 && this.#buffer.length <= KEPT_BYTES) this.#spare = this.#buffer;
      this.#residentBytes += part.length;
      this.#parts.push(part);
      this.#buffer = EMPTY;
    }
    this.#length = 0;
  }
}

const writeRowid = (buffer: Buffer, offset: number, rowid: Rowid): number => {
  if (typeof rowid === 'bigint') return buffer.writeBigInt64BE(rowid, offset);
  buffer.writeInt32BE(Math.floor(rowid / 4294967296), offset);
  return buffer.writeUInt32BE(rowid >>> 0, offset + 4);
};

const readStoredRowid = (buffer: Buffer, offset: number): Rowid => {
  const high = buffer.readInt32BE(offset);
  const low = buffer.readUInt32BE(offset + 4);
  if (high >= -0x200000 && high < 0x200000) {
    const value = high * 4294967296 + low;
    if (Number.isSafeInteger(value)) return value;
  }
  return buffer.readBigInt64BE(offset);
};

/** One stored change, undecoded. Parsed in place again and again. */
export class RawChange {
  op: 'c' | 'u' | 'd' | 't' | 's' = 'c';
  /** `table` is an index into the previous catalog. */
  previous = false;
  table = 0;
  rowid: Rowid = 0;
  oldRowid: Rowid = 0;
  /** Where the records stand in the part. */
  beforeStart = 0;
  beforeEnd = 0;
  afterStart = 0;
  afterEnd = 0;
  #part: Buffer = EMPTY;

  /** Of the change that was parsed last, if it has one: a view of the part. */
  get before(): Buffer {
    return this.#part.subarray(this.beforeStart, this.beforeEnd);
  }

  get after(): Buffer {
    return this.#part.subarray(this.afterStart, this.afterEnd);
  }

  /** Parses the change at `offset` of a part; returns the offset behind it. */
  parse(part: Buffer, offset: number): number {
    const head = part[offset]!;
    this.#part = part;
    this.previous = (head & PREVIOUS) !== 0;
    this.table = readVarint(part, offset + 1);
    let at = varintEnd;
    switch (head & 0x0f) {
      case OP_C:
        this.op = 'c';
        this.rowid = this.oldRowid = readStoredRowid(part, at);
        return this.#after(part, at + 8);
      case OP_D:
        this.op = 'd';
        this.rowid = this.oldRowid = readStoredRowid(part, at);
        return this.#before(part, at + 8);
      case OP_U:
        this.op = 'u';
        this.rowid = this.oldRowid = readStoredRowid(part, at);
        at += 8;
        if ((head & OLD_ROWID) !== 0) {
          this.oldRowid = readStoredRowid(part, at);
          at += 8;
        }
        return this.#after(part, this.#before(part, at));
      case OP_T:
        this.op = 't';
        return at;
      case OP_S:
        this.op = 's';
        return at;
      default:
        throw new RangeError(`unknown change op ${head}`);
    }
  }

  #before(part: Buffer, offset: number): number {
    const length = readVarint(part, offset);
    this.beforeStart = varintEnd;
    return (this.beforeEnd = varintEnd + length);
  }

  #after(part: Buffer, offset: number): number {
    const length = readVarint(part, offset);
    this.afterStart = varintEnd;
    return (this.afterEnd = varintEnd + length);
  }
}

/** What the decoder of one transaction needs beside its bytes. */
export interface DecodeContext {
  readonly transaction: TransactionInfo;
  readonly catalog: Catalog;
  /** The same object as `catalog` where the transaction changed no schema. */
  readonly previousCatalog: Catalog;
}

/** Decodes the parts of one transaction, in order. Keeps the running seq and the per-table order between parts. */
export class ChangeDecoder {
  readonly #context: DecodeContext;
  readonly #collectionOrders = new Map<string, number>();
  readonly #raw = new RawChange();
  #seq: number;

  constructor(context: DecodeContext) {
    this.#context = context;
    this.#seq = context.transaction.firstSeq;
  }

  /** The part's changes. Rows are views of `part`: do not reuse the buffer while they live. */
  decode(part: Buffer): Change[] {
    const changes: Change[] = [];
    for (let offset = 0; offset < part.length;) {
      offset = this.#raw.parse(part, offset);
      changes.push(this.#change(this.#raw, part));
    }
    return changes;
  }

  #change(raw: RawChange, part: Buffer): Change {
    const { catalog, previousCatalog, transaction } = this.#context;
    const table = (raw.previous ? previousCatalog : catalog).tables[raw.table];
    if (table === undefined) throw new RangeError(`change of a table that its catalog does not have: ${raw.table}`);
    const [seq, collectionOrder] = [this.#seq++, this.#count(table.name)];
    switch (raw.op) {
      case 'c':
        return {
          op: 'c',
          seq,
          transaction,
          collectionOrder,
          table,
          before: null,
          after: new Row(table, raw.rowid, part, catalog.encoding, raw.afterStart, raw.afterEnd),
        };
      case 'u': {
        const before = new Row(this.#previousOf(table), raw.oldRowid, part, previousCatalog.encoding, raw.beforeStart, raw.beforeEnd);
        return {
          op: 'u',
          seq,
          transaction,
          collectionOrder,
          table,
          before,
          after: new Row(table, raw.rowid, part, catalog.encoding, raw.afterStart, raw.afterEnd),
        };
      }
      case 'd': {
        const old = raw.previous ? table : this.#previousOf(table);
        return {
          op: 'd',
          seq,
          transaction,
          collectionOrder,
          table: old,
          before: new Row(old, raw.rowid, part, previousCatalog.encoding, raw.beforeStart, raw.beforeEnd),
          after: null,
        };
      }
      case 't':
        return { op: 't', seq, transaction, collectionOrder, table };
      case 's':
        return raw.previous
          ? { op: 's', seq, transaction, collectionOrder, name: table.name, table: null, previous: table }
          : { op: 's', seq, transaction, collectionOrder, name: table.name, table, previous: findTable(previousCatalog, table.name) ?? null };
    }
  }

  #previousOf(table: Table): Table {
    const { catalog, previousCatalog } = this.#context;
    return catalog === previousCatalog ? table : (findTable(previousCatalog, table.name) ?? table);
  }

  #count(name: string): number {
    const order = (this.#collectionOrders.get(name) ?? 0) + 1;
    this.#collectionOrders.set(name, order);
    return order;
  }
}
