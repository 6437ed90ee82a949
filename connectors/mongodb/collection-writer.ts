/**
 * Rows of one table as unordered bulk writes of about a thousand. Deletes go first, so that a value of a unique index can
 * move from a deleted document to a new one; within a chunk every key stands once. A row that the server refuses is named by its place in the bulk.
 */
import { type AnyBulkWriteOperation, BSON, type Filter, MongoBulkWriteError, type WriteError } from 'mongodb';
import type { Value } from '../../src/change/table.ts';
import { RowRefusedError, type SinkRowChange } from '../../src/pipeline/sink.ts';
import { withSession } from './checkpoint-collection.ts';
import { DocumentShape, FieldRefused, type Id, sizeOf, type StoredDocument } from './document.ts';
import { DUPLICATE_KEY, isRefusal } from './errors.ts';
import { markOf, olderThan } from './guard.ts';
import type { Target, TargetCollection } from './target-collection.ts';

interface Operation {
  readonly write: AnyBulkWriteOperation<StoredDocument>;
  readonly change: SinkRowChange;
}

/** Operations on different keys, to be sent as one. */
export interface Bulk {
  readonly operations: readonly Operation[];
  readonly writer: CollectionWriter;
}

const CHUNK_ROWS = 1000;
const CHUNK_BYTES = 4 * 1024 * 1024;
const MAX_DOCUMENT_BYTES = 16 * 1024 * 1024;

export class CollectionWriter {
  readonly target: TargetCollection;
  readonly #shared: Target;
  readonly #shape: DocumentShape;
  #upserts: Operation[] = [];
  #deletes: Operation[] = [];
  #sizeBytes = 0;

  constructor(target: TargetCollection, shared: Target) {
    this.target = target;
    this.#shared = shared;
    this.#shape = new DocumentShape(target.table);
  }

  /** Takes a row change. True: `take` is due. */
  add(change: SinkRowChange): boolean {
    const nullAt = change.key.indexOf(null);
    if (change.after === null) {
      // A document without its key was refused.
      if (nullAt === -1) this.#deletes.push({ write: this.#delete(change), change });
    } else {
      if (nullAt !== -1) throw this.#refused(change, this.target.table.key[nullAt]!, 'a key is NULL, so the row cannot be told from others');
      // Unique values that change places: no document has one while all of the chunk are away.
      if (this.target.otherUnique && this.#shared.work.session !== undefined) this.#deletes.push({ write: this.#delete(change), change });
      this.#upserts.push({ write: this.#upsert(change, change.after), change });
    }
    this.#sizeBytes += sizeOf(change.after ?? change.key);
    return this.#upserts.length + this.#deletes.length >= CHUNK_ROWS || this.#sizeBytes >= CHUNK_BYTES;
  }

  /** What was added since the last time. */
  take(): Bulk[] {
    const bulks = [this.#deletes, this.#upserts].filter((operations) => operations.length > 0);
    this.#deletes = [];
    this.#upserts = [];
    this.#sizeBytes = 0;
    return bulks.map((operations) => ({ operations, writer: this }));
  }

  /**
   * Rejects with a RowRefusedError where the server refuses a row, with the driver's error where something else is wrong.
   *
   * Without a transaction the other operations are written all the same, and a duplicate key can pass behind them: a unique value that another document
   * has given up by then; an `_id` that another runner was inserting. An `_id` that does not pass is that of a newer document.
   */
  async write({ operations }: Bulk): Promise<void> {
    let left = operations;
    for (let attempt = 0; ; attempt += 1) {
      const errors = await this.#bulkWrite(left);
      if (errors.length === 0) return;
      const hopeless = (error: WriteError): boolean => error.code !== DUPLICATE_KEY || this.#shared.work.session !== undefined;
      const last = attempt > 0 && errors.length === left.length;
      const refusal = errors.find((error) => hopeless(error) || (last && !isOnId(error)));
      if (refusal !== undefined) throw this.#refusedByServer(left[refusal.index]!.change, refusal);
      if (last) return;
      left = errors.map((error) => left[error.index]!);
    }
  }

  /** The refusals; everything else is thrown. */
  async #bulkWrite(operations: readonly Operation[]): Promise<WriteError[]> {
    const { session } = this.#shared.work;
    const writes = operations.map(({ write }) => write);
    try {
      await this.target.collection.bulkWrite(writes, { ordered: false, ...withSession(session) });
      return [];
    } catch (error) {
      if (!(error instanceof MongoBulkWriteError)) throw error;
      const errors = Array.isArray(error.writeErrors) ? error.writeErrors : [error.writeErrors];
      if (errors.length === 0 || !errors.every(({ code }) => isRefusal(code))) throw error;
      return errors;
    }
  }

  #upsert(change: SinkRowChange, values: readonly Value[]): AnyBulkWriteOperation<StoredDocument> {
    const replacement = this.#document(change, values);
    if (this.#shared.work.session !== undefined) return { replaceOne: { filter: byId(replacement._id), replacement, upsert: true } };
    const mark = markOf(change);
    replacement['_waggle'] = mark;
    return { replaceOne: { filter: olderThan(replacement._id, change, mark), replacement, upsert: true } };
  }

  #delete(change: SinkRowChange): AnyBulkWriteOperation<StoredDocument> {
    const _id = this.#shape.id(change.key);
    if (this.#shared.work.session !== undefined) return { deleteOne: { filter: byId(_id) } };
    const mark = markOf(change);
    return { replaceOne: { filter: olderThan(_id, change, mark), replacement: { _id, _waggle: mark }, upsert: true } };
  }

  #document(change: SinkRowChange, values: readonly Value[]): StoredDocument {
    let document: StoredDocument;
    try {
      document = this.#shape.document(change.key, values);
    } catch (error) {
      if (error instanceof FieldRefused) throw this.#refused(change, error.column, error.message);
      throw error;
    }
    const most = (this.#shape.hasJson ? JSON_GROWTH : TEXT_GROWTH) * sizeOf(values);
    // Some room for what the guard adds.
    if (most <= MAX_DOCUMENT_BYTES || BSON.calculateObjectSize(document) <= MAX_DOCUMENT_BYTES - 1024) return document;
    const sizes = values.map((value) => sizeOf([value]));
    throw this.#refused(change, sizes.indexOf(Math.max(...sizes)), 'a row is larger than the 16 MiB of a document, most of it in this column');
  }

  #refused(change: SinkRowChange, index: number, reason: string): RowRefusedError {
    const { table } = this.target;
    return new RowRefusedError(change, `${this.#shared.label}, table ${table.name}, column ${table.columns[index]!.name}: ${reason}`);
  }

  #refusedByServer(change: SinkRowChange, { code }: WriteError): RowRefusedError {
    const reason = REFUSALS[code] ?? 'the target refuses a row';
    return new RowRefusedError(change, `${this.#shared.label}, table ${this.target.table.name}: ${reason} (${code})`);
  }
}

/** How much larger a value can be as BSON: a character of three bytes; an array of small numbers. */
const TEXT_GROWTH = 4;
const JSON_GROWTH = 16;

const REFUSALS: Readonly<Record<number, string>> = {
  121: "the collection's validator refuses a document",
  [DUPLICATE_KEY]: 'a unique index has another document with the same value',
};

/** The index that has the key already is that of `_id`. */
const isOnId = ({ errmsg = '' }: WriteError): boolean => /index: _id_ |[ .$]_id_ dup/.test(errmsg);

const byId = (id: Id): Filter<StoredDocument> => ({ _id: id }) as Filter<StoredDocument>;
