/**
 * The changes of one table in one transaction, collected in two lanes: what creates or updates, and what deletes
 * (DESIGN: creates and updates parents first, then deletes children first).
 *
 * Rows are found by rowid, events go by the declared key. So for a table with a declared key that is not the rowid:
 * a row whose key changed is a delete and a create, and a delete and a create of the same key (REPLACE, rebuilt tables,
 * VACUUM's renumbering) join to an update, or to nothing if the row is the same.
 *
 * Throws a RecordError for a record that nobody could decode: what is in the log can be read.
 */
import { ChangeWriter, type PartSpill, RawChange } from '../change/change-codec.ts';
import type { Rowid, Table } from '../change/table.ts';
import { checkRecord } from '../sqlite/record.ts';
import type { RowVisitor } from './leaf-merge.ts';
import { keyNumber, rowKey } from './row-key.ts';

export interface TableChangesOptions {
  /** Index in the new catalog. */
  readonly index: number;
  readonly table: Table;
  /** The table before; differs from `table` where the transaction changed its columns. */
  readonly previous: Table;
  /** Whether two records of the same row (before, after) say the same. */
  readonly sameRow: (rowid: Rowid, before: Buffer, after: Buffer) => boolean;
}

export class TableChanges implements RowVisitor {
  /** Some row changed its rowid and nothing else: no change tells of it. */
  movedSilently = false;
  readonly #spill: PartSpill | null;
  #isTruncated = false;
  #table: Table;
  #index: number;
  #previous: Table;
  #keyed = false;
  #sameRow: TableChangesOptions['sameRow'];
  #upserts: ChangeWriter;
  #deletes: ChangeWriter;

  constructor(options: TableChangesOptions, spill: PartSpill | null) {
    this.#spill = spill;
    this.#upserts = new ChangeWriter(spill);
    this.#deletes = new ChangeWriter(spill);
    this.#table = this.#previous = options.table;
    this.#index = options.index;
    this.#sameRow = options.sameRow;
    this.begin(options);
  }

  /** Begins anew for another table or transaction; what `finish` gave is not valid any more. */
  begin({ index, table, previous, sameRow }: TableChangesOptions): void {
    this.#index = index;
    this.#table = table;
    this.#previous = previous;
    this.#sameRow = sameRow;
    this.#keyed = table.key.length > 0 && table.rowidAlias === -1;
    this.movedSilently = false;
    this.#isTruncated = false;
    this.#upserts.reset();
    this.#deletes.reset();
  }

  get index(): number {
    return this.#index;
  }

  get table(): Table {
    return this.#table;
  }

  created(rowid: Rowid, record: Buffer): void {
    checkRecord(record);
    this.#upserts.create(this.#index, this.#rowidOf(this.#table, rowid, record), record);
  }

  /** No row is left: one `t` instead of what the visits tell. `previousIndex`: place in the previous catalog. */
  truncate(previousIndex: number): void {
    this.#isTruncated = true;
    this.#deletes.truncate(previousIndex);
  }

  deleted(rowid: Rowid, record: Buffer): void {
    checkRecord(record);
    if (this.#isTruncated) return;
    this.#deletes.delete(this.#index, this.#rowidOf(this.#previous, rowid, record), record, false);
  }

  updated(rowid: Rowid, before: Buffer, after: Buffer): void {
    checkRecord(before);
    checkRecord(after);
    if (this.#keyed && rowKey(this.#previous, rowid, before) !== rowKey(this.#table, rowid, after)) {
      this.#deletes.delete(this.#index, this.#rowidOf(this.#previous, rowid, before), before, false);
      this.#upserts.create(this.#index, this.#rowidOf(this.#table, rowid, after), after);
    } else if (!this.#sameRow(rowid, before, after)) {
      const same = this.#rowidOf(this.#table, rowid, after);
      this.#upserts.update(this.#index, { rowid: same, oldRowid: same, before, after });
    }
  }

  #rowidOf(table: Table, rowid: Rowid, record: Buffer): Rowid {
    return table.withoutRowid === undefined ? rowid : keyNumber(rowKey(table, 0, record));
  }

  /** Both lanes, joined by key. Call once, when all rows were visited. */
  finish(): { upserts: ChangeWriter; deletes: ChangeWriter } {
    if (this.#keyed && this.#upserts.count > 0 && this.#deletes.count > 0) this.#join();
    return { upserts: this.#upserts, deletes: this.#deletes };
  }

  #join(): void {
    const gone = new Map<string, GoneRow>();
    const goneByRowid = new Map<Rowid, GoneRow>();
    forEachChange(this.#deletes, (raw) => {
      const row = { rowid: raw.rowid, record: raw.before, taken: false };
      gone.set(rowKey(this.#previous, raw.rowid, raw.before), row);
      goneByRowid.set(raw.rowid, row);
    });
    const upserts = new ChangeWriter(this.#spill);
    // First all joins by key; only a delete that none of them took can stand beside the create of its rowid.
    const created: { rowid: Rowid; record: Buffer }[] = [];
    forEachChange(this.#upserts, (raw) => {
      if (raw.op === 'u') {
        upserts.update(this.#index, { rowid: raw.rowid, oldRowid: raw.oldRowid, before: raw.before, after: raw.after });
        return;
      }
      const row = gone.get(rowKey(this.#table, raw.rowid, raw.after));
      if (row === undefined || row.taken) {
        created.push({ rowid: raw.rowid, record: raw.after });
        return;
      }
      row.taken = true;
      const same = this.#sameRow(raw.rowid, row.record, raw.after);
      if (same) this.movedSilently ||= row.rowid !== raw.rowid;
      else upserts.update(this.#index, { rowid: raw.rowid, oldRowid: row.rowid, before: row.record, after: raw.after });
    });
    for (const { rowid, record } of created) {
      const row = goneByRowid.get(rowid);
      if (row !== undefined && !row.taken) {
        row.taken = true;
        upserts.delete(this.#index, rowid, row.record, false);
      }
      upserts.create(this.#index, rowid, record);
    }
    const deletes = new ChangeWriter(this.#spill);
    for (const row of gone.values()) {
      if (!row.taken) deletes.delete(this.#index, row.rowid, row.record, false);
    }
    this.#upserts = upserts;
    this.#deletes = deletes;
  }
}

interface GoneRow {
  readonly rowid: Rowid;
  readonly record: Buffer;
  taken: boolean;
}

const forEachChange = (writer: ChangeWriter, visit: (raw: RawChange) => void): void => {
  const raw = new RawChange();
  for (const stored of writer.parts()) {
    // Rows are kept while the other lane is read: a spilled part's bytes would not stay.
    const part = Buffer.isBuffer(stored) ? stored : Buffer.from(stored.read());
    for (let offset = 0; offset < part.length;) {
      offset = raw.parse(part, offset);
      visit(raw);
    }
  }
};
