/**
 * Reading a collection back, for `verify` and `resync`. A row is the same if its document has, byte for byte as BSON, what would be written now. Fields
 * that are no columns of the table do not count, and one that is not there is NULL: MongoDB has no columns to add.
 */
import { Binary, BSON, type Collection, Double, type Filter, Int32, Long } from 'mongodb';
import type { Value } from '../../src/change/table.ts';
import type { ColumnDifference, RowDifferences, SinkTable } from '../../src/pipeline/sink.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { DocumentShape, FieldRefused, type Id, sizeOf, type StoredDocument } from './document.ts';
import { collectionName } from './names.ts';
import type { Target } from './target-collection.ts';

/** A row that is looked for, and its fields as BSON. */
interface SoughtRow {
  readonly index: number;
  readonly id: Id;
  /** Null: no document holds such a row. */
  readonly fields: Uint8Array | null;
}

const CHUNK_ROWS = 1000;
const CHUNK_BYTES = 4 * 1024 * 1024;

export class CollectionAudit {
  readonly #label: string;
  readonly #table: SinkTable;
  readonly #collection: Collection<StoredDocument>;
  readonly #shape: DocumentShape;
  /** Places of the columns that are compared. Those that tell of the last change only are nothing to compare. */
  readonly #compared: readonly number[];

  constructor(target: Target, table: SinkTable) {
    this.#label = target.label;
    this.#table = table;
    this.#collection = target.db.collection<StoredDocument>(collectionName(table.name));
    this.#shape = new DocumentShape(table);
    this.#compared = [...table.columns.keys()].filter((column) => table.columns[column]!.volatile !== true);
  }

  async compare(rows: readonly (readonly Value[])[]): Promise<RowDifferences> {
    const result = { missing: [] as number[], changed: [] as number[] };
    let sought: SoughtRow[] = [];
    let sizeBytes = 0;
    for (const [index, row] of rows.entries()) {
      const key = this.#table.key.map((column) => row[column] ?? null);
      if (key.includes(null)) result.missing.push(index);
      else sought.push({ index, id: this.#shape.id(key), fields: this.#fieldsOf(row, this.#compared) });
      sizeBytes += sizeOf(row);
      if (sought.length < CHUNK_ROWS && sizeBytes < CHUNK_BYTES) continue;
      await this.#look(sought, result);
      [sought, sizeBytes] = [[], 0];
    }
    await this.#look(sought, result);
    return result;
  }

  async differences(rows: readonly (readonly Value[])[]): Promise<ColumnDifference[][]> {
    const found: ColumnDifference[][] = [];
    for (const row of rows) {
      const key = this.#table.key.map((column) => row[column] ?? null);
      const document = key.includes(null)
        ? null
        : await this.#collection.findOne({ _id: this.#shape.id(key), ...ALIVE } as Filter<StoredDocument>, AS_STORED);
      found.push(document === null ? [] : this.#differencesOf(row, document));
    }
    return found;
  }

  #differencesOf(row: readonly Value[], document: StoredDocument): ColumnDifference[] {
    return this.#compared.flatMap((column): ColumnDifference[] => {
      const there = this.#shape.fieldOf(column, document);
      const wanted = this.#fieldsOf(row, [column]);
      const isSame = wanted !== null && Buffer.compare(wanted, encoded([there])) === 0;
      return isSame ? [] : [{ column, wanted: row[column]!, found: shown(there) }];
    });
  }

  count(): Promise<number> {
    return this.#collection.countDocuments(this.#living());
  }

  async keys(after: readonly Value[] | null, limit: number): Promise<Value[][]> {
    const behind = after === null ? {} : { $or: behindId(this.#shape.id(after)) };
    const documents = await this.#collection
      .find({ ...this.#living(), ...behind } as Filter<StoredDocument>, { useBigInt64: true, promoteBuffers: false })
      .project<{ _id: unknown }>({ _id: 1 })
      .sort({ _id: 1 })
      .limit(limit)
      .toArray();
    return documents.map(({ _id }) => {
      const key = this.#shape.keyOf(_id);
      if (key !== null) return key;
      throw new WaggleError(
        'SINK_NOT_READABLE',
        `${this.#label}, table ${this.#table.name}: it has a document whose _id is no key of the hive, written by somebody else`,
      );
    });
  }

  async #look(sought: readonly SoughtRow[], result: { missing: number[]; changed: number[] }): Promise<void> {
    if (sought.length === 0) return;
    const filter = { _id: { $in: sought.map(({ id }) => id) }, ...ALIVE } as Filter<StoredDocument>;
    const found = new Map<string, Uint8Array>();
    for await (const document of this.#collection.find(filter, AS_STORED))
      found.set(identityOf(document._id), encoded(this.#compared.map((column) => this.#shape.fieldOf(column, document))));
    for (const { index, id, fields } of sought) {
      const there = found.get(identityOf(id));
      if (there === undefined) result.missing.push(index);
      else if (fields === null || Buffer.compare(there, fields) !== 0) result.changed.push(index);
    }
  }

  /** Null: no document holds such values. */
  #fieldsOf(row: readonly Value[], columns: readonly number[]): Uint8Array | null {
    try {
      return encoded(columns.map((column) => this.#shape.field(column, row[column]!)));
    } catch (error) {
      if (error instanceof FieldRefused) return null;
      throw error;
    }
  }

  /** Rows that the hive shall have, too. */
  #living(): Filter<StoredDocument> {
    const { deletedAt } = this.#table;
    return { ...ALIVE, ...(deletedAt === undefined ? {} : { [this.#shape.pathOf(deletedAt)]: null }) };
  }
}

/** Each value with its BSON type. */
const AS_STORED = { promoteValues: false, promoteLongs: false, useBigInt64: false };

/** A value of BSON for people. */
const shown = (value: unknown): Value => {
  if (value === null || typeof value === 'string') return value;
  if (value instanceof Double || value instanceof Int32) return value.value;
  if (value instanceof Long) return value.toBigInt();
  if (value instanceof Binary) return value.value();
  return value instanceof Date ? value.toISOString() : BSON.EJSON.stringify(value);
};

/** Not what the guard left of a deleted row. */
const ALIVE = { '_waggle.deleted': { $exists: false } } as Filter<StoredDocument>;

const encoded = (values: readonly unknown[]): Uint8Array => BSON.serialize({ values });

/** The same for ids that MongoDB takes for one: 1 and 1.0. */
const identityOf = (id: unknown): string => {
  if (typeof id === 'string') return `s${id.length}:${id}`;
  if (typeof id === 'bigint') return `n${id}`;
  if (typeof id === 'number') return `n${Number.isInteger(id) ? BigInt(id) : id}`;
  if (id instanceof Double || id instanceof Int32) return identityOf(id.value);
  if (id instanceof Long) return identityOf(id.toBigInt());
  if (id instanceof Binary) return `b${id.toString('hex')}`;
  return typeof id === 'object' && id !== null ? `{${Object.values(id).map(identityOf).join(',')}}` : String(id);
};

/** Behind an `_id` in the index's order. A `$gt` finds values of its own type only; those that no key of the hive has come last. */
const behindId = (id: Id): Filter<StoredDocument>[] => {
  const type =
    typeof id === 'string' ? 'string' : id instanceof Binary ? 'binData' : typeof id === 'object' && !(id instanceof Double) ? 'object' : 'number';
  const types = ['string', 'object', 'binData', 'objectId', 'bool', 'date', 'timestamp'];
  return [{ _id: { $gt: id } }, { _id: { $type: types.slice(types.indexOf(type) + 1) } }] as unknown as Filter<StoredDocument>[];
};
