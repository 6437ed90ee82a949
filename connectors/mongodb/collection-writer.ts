/**
 * Rows of one table as unordered bulk writes of about a thousand. Deletes go first, so that a value of a unique index can
 * move from a deleted document to a new one; within a chunk every key stands once.
 */
import { type AnyBulkWriteOperation, BSON, type Filter, MongoBulkWriteError } from 'mongodb';
import type { Value } from '../../src/change/table.ts';
import type { SinkRowChange } from '../../src/pipeline/sink.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { withSession } from './checkpoint-collection.ts';
import { DocumentShape, type Id, sizeOf, type StoredDocument } from './document.ts';
import { DUPLICATE_KEY } from './errors.ts';
import { markOf, olderThan } from './guard.ts';
import type { Target, TargetCollection } from './target-collection.ts';

type Operation = AnyBulkWriteOperation<StoredDocument>;

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
    const { table } = this.target;
    const nullAt = change.key.indexOf(null);
    if (change.after === null) {
      // A document without its key was refused.
      if (nullAt === -1) this.#deletes.push(this.#delete(change));
      this.#sizeBytes += sizeOf(change.key);
    } else {
      if (nullAt !== -1) throw this.#refused(table.key[nullAt]!, 'a key is NULL, so the row cannot be told from others');
      const sizeBytes = sizeOf(change.after);
      this.#upserts.push(this.#upsert(change, change.after, sizeBytes));
      this.#sizeBytes += sizeBytes;
    }
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

  async write(operations: readonly Operation[]): Promise<void> {
    const { session } = this.#shared.work;
    if (session !== undefined) {
      await this.target.collection.bulkWrite(operations, { ordered: false, ...withSession(session) });
      return;
    }
    // Where an upsert meets a newer document it tries to insert, and the key is there. It meets one as well where two runners insert
    // at the same moment: only the second answer tells.
    const refused = await this.#writeGuarded(operations);
    if (refused.length > 0) await this.#writeGuarded(refused);
  }

  /** Gives the operations that met a document with their key which they do not overwrite. */
  async #writeGuarded(operations: readonly Operation[]): Promise<Operation[]> {
    try {
      await this.target.collection.bulkWrite(operations, { ordered: false });
      return [];
    } catch (error) {
      if (!(error instanceof MongoBulkWriteError)) throw error;
      const errors = Array.isArray(error.writeErrors) ? error.writeErrors : [error.writeErrors];
      if (errors.length === 0 || errors.some((one) => one.code !== DUPLICATE_KEY || !/index: _id_|_id_ /.test(one.errmsg ?? ''))) throw error;
      return errors.map((one) => operations[one.index]!);
    }
  }

  #upsert(change: SinkRowChange, values: readonly Value[], sizeBytes: number): Operation {
    const replacement = this.#shape.document(change.key, values);
    if (4 * sizeBytes > MAX_DOCUMENT_BYTES) this.#checkSize(replacement, values);
    if (this.#shared.work.session !== undefined) return { replaceOne: { filter: byId(replacement._id), replacement, upsert: true } };
    const mark = markOf(change);
    replacement['_waggle'] = mark;
    return { replaceOne: { filter: olderThan(replacement._id, mark, change.op), replacement, upsert: true } };
  }

  #delete(change: SinkRowChange): Operation {
    const _id = this.#shape.id(change.key);
    if (this.#shared.work.session !== undefined) return { deleteOne: { filter: byId(_id) } };
    const mark = markOf(change);
    return { replaceOne: { filter: olderThan(_id, mark, change.op), replacement: { _id, _waggle: mark }, upsert: true } };
  }

  #checkSize(document: StoredDocument, values: readonly Value[]): void {
    // Some room for what the guard adds.
    if (BSON.calculateObjectSize(document) <= MAX_DOCUMENT_BYTES - 1024) return;
    const sizes = values.map((value) => sizeOf([value]));
    throw this.#refused(sizes.indexOf(Math.max(...sizes)), 'a row is larger than the 16 MiB of a document, most of it in this column');
  }

  #refused(index: number, reason: string): WaggleError {
    const { table } = this.target;
    return new WaggleError('SINK_ROW_REFUSED', `${this.#shared.label}, table ${table.name}, column ${table.columns[index]!.name}: ${reason}`);
  }
}

const byId = (id: Id): Filter<StoredDocument> => ({ _id: id }) as Filter<StoredDocument>;
