/** A collection of the target, made to fit a SinkTable: created, fields renamed or reset. */
import type { Collection, Db } from 'mongodb';
import type { Logger } from 'pino';
import type { SinkSchemaChange, SinkTable, SinkTruncateChange } from '../../src/pipeline/sink.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { addedColumns, renamedColumns } from '../column-changes.ts';
import { CHECKPOINT_COLLECTION, TABLE_COLLECTION, withSession } from './checkpoint-collection.ts';
import { DocumentShape, type StoredDocument } from './document.ts';
import { NAMESPACE_EXISTS, serverError } from './errors.ts';
import { TRACE_INDEX, TRACE_SECONDS, unmark } from './guard.ts';
import { collectionName, fieldPaths } from './names.ts';
import type { UnitOfWork } from './unit-of-work.ts';

/** What all collections of one sink share. */
export interface Target {
  readonly db: Db;
  /** Which server, for messages; without the password. */
  readonly label: string;
  readonly work: UnitOfWork;
  readonly logger: Logger;
}

interface TableDocument {
  _id: string;
  source: string;
  /** Null: it is about to be created. */
  createdAt: Date | null;
  /** Which log the marks of its documents are of: id and term. */
  log?: string;
}

export class TargetCollection {
  readonly table: SinkTable;
  readonly collection: Collection<StoredDocument>;
  /** There is a unique index beside the one on `_id`. */
  readonly otherUnique: boolean;

  private constructor(table: SinkTable, collection: Collection<StoredDocument>, otherUnique: boolean) {
    this.table = table;
    this.collection = collection;
    this.otherUnique = otherUnique;
  }

  /**
   * Finds the collection, or creates it. `mayCreate` false: one that waggle once created and that is gone is an error,
   * because its documents would be missing without a word. `log`: what the changes to come are of.
   */
  static async open(target: Target, table: SinkTable, options: { readonly mayCreate: boolean; readonly log: string }): Promise<TargetCollection> {
    const { db, label, work } = target;
    const name = collectionName(table.name);
    if (name === CHECKPOINT_COLLECTION || name === TABLE_COLLECTION)
      throw new WaggleError('SINK_TABLE_MISFIT', `${label}: the name ${name} is waggle's own`, { hint: 'Give the table another name with `to`.' });
    const collection = db.collection<StoredDocument>(name);
    const tables = db.collection<TableDocument>(TABLE_COLLECTION);
    const collections = await db.listCollections({ name }, { nameOnly: true }).toArray();
    const own = await tables.findOne({ _id: name });
    const guarded = work.session === undefined;
    if (!collections.some((found) => found.name === name)) {
      if (own !== null && own.createdAt !== null && !options.mayCreate)
        throw new WaggleError('SINK_TABLE_MISFIT', `${label}, table ${name}: it was created by waggle and is gone`, {
          hint: `To fill the sink again, delete its document from ${CHECKPOINT_COLLECTION}; to go on with an empty collection (rows of before will be missing), delete its document from ${TABLE_COLLECTION}; then restart waggle.`,
        });
      await work.outside(async () => {
        await tables.updateOne({ _id: name }, { $set: { source: table.source, createdAt: null } }, { upsert: true });
        await createCollection(db, name);
        if (guarded) await collection.createIndex(TRACE_INDEX, { expireAfterSeconds: TRACE_SECONDS });
        await tables.updateOne({ _id: name }, { $set: { createdAt: new Date(), log: options.log } });
      });
      target.logger.info({ table: name }, 'collection created');
    } else if (own?.createdAt === null || (guarded && own?.log !== options.log)) {
      await work.outside(async () => {
        if (guarded) await unmark(collection);
        await tables.updateOne(
          { _id: name },
          { $set: { source: table.source, createdAt: own?.createdAt ?? new Date(), log: options.log } },
          { upsert: true },
        );
      });
    }
    const indexes = await collection.indexes();
    return new TargetCollection(
      table,
      collection,
      indexes.some((index) => index.unique === true && index.name !== '_id_'),
    );
  }

  /** What deleting all is where deletes are soft. */
  async markAll({ work }: Target, { column, value }: NonNullable<SinkTruncateChange['mark']>): Promise<void> {
    const shape = new DocumentShape(this.table);
    const field = shape.pathOf(column);
    await this.collection.updateMany(
      { [field]: null, '_waggle.deleted': { $exists: false } },
      { $set: { [field]: shape.field(column, value) } },
      withSession(work.session),
    );
  }

  /**
   * Makes the documents follow an `s`: fields of renamed columns get their new name, those of a column that the hive dropped once and has
   * again become null. A dropped column's field stays in documents that are not written again. Doing it twice does no harm.
   */
  async alter(target: Target, change: SinkSchemaChange): Promise<void> {
    const { previous } = change;
    if (previous === null) return;
    const before = pathsOf(previous);
    const after = pathsOf(this.table);
    const moved = this.table.columns.flatMap((_, index): [string, string][] => {
      const from = before.get(renamedFrom(change, index) ?? this.table.columns[index]!.name);
      const to = after.get(this.table.columns[index]!.name)!;
      return from === undefined || from === to ? [] : [[from, to]];
    });
    const stale = addedColumns(change).map((index) => after.get(this.table.columns[index]!.name)!);
    if (moved.length + stale.length === 0) return;
    await target.work.outside(async () => {
      for (const field of stale) await this.collection.updateMany({ [field]: { $exists: true } }, { $set: { [field]: null } });
      for (const [from, to] of moved) await this.collection.updateMany({ [from]: { $exists: true } }, { $rename: { [from]: to } });
    });
  }
}

/** Paths with dots, by the column's name. */
const pathsOf = (table: SinkTable): Map<string, string> => {
  const names = table.columns.map((column) => column.name);
  return new Map(fieldPaths(names).map((path, index) => [names[index]!, path.join('.')]));
};

const renamedFrom = (change: SinkSchemaChange, index: number): string | undefined => renamedColumns(change).find(([, to]) => to === index)?.[0];

const createCollection = async (db: Db, name: string): Promise<void> => {
  try {
    await db.createCollection(name);
  } catch (error) {
    if (serverError(error) !== NAMESPACE_EXISTS) throw error;
  }
};
