/** How tests read a MongoDB target and what they expect there. */
import { Binary, type Db, Double, Long } from 'mongodb';
import { collectionName, fieldPaths } from '../../connectors/mongodb/names.ts';
import type { Value } from '../../src/change/table.ts';
import type { SinkTable } from '../../src/pipeline/sink.ts';

/** All rows that are not deleted, each value with its BSON type. */
export const mongoRows = async (db: Db, table: SinkTable): Promise<(string | null)[][]> => {
  const collection = db.collection(collectionName(table.name));
  const documents = await collection.find({ '_waggle.deleted': { $exists: false } }, { promoteValues: false, promoteLongs: false }).toArray();
  const paths = fieldPaths(table.columns.map((column) => column.name));
  return documents.map((document) =>
    paths.map((path) => showStored(path.reduce<unknown>((value, part) => (value as Record<string, unknown>)?.[part], document))),
  );
};

/** What `mongoRows` gives for a value. */
export const showInMongo = (value: Value): string | null =>
  showStored(typeof value === 'bigint' ? Long.fromBigInt(value) : typeof value === 'number' ? new Double(value) : value);

const showStored = (value: unknown): string | null => {
  if (value === null || value === undefined) return null;
  if (value instanceof Double) return `double ${Object.is(value.value, -0) ? '-0' : value.value}`;
  if (value instanceof Uint8Array) return `binary ${Buffer.from(value).toString('hex')}`;
  if (value instanceof Binary) return `binary ${value.toString('hex')}`;
  if (Long.isLong(value)) return `int64 ${value.toString()}`;
  return `${typeof value} ${typeof value === 'string' ? value : JSON.stringify(value)}`;
};
