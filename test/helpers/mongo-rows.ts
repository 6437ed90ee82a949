/** Rows of a MongoDB server with their types, as `exact` of row-sets: a dot in a column's name is a document in the document. */
import { Binary, Double, Long, MongoClient } from 'mongodb';
import { readTextRowsLike, type RowSet } from './row-sets.ts';

export const withMongo = async (url: string, like: RowSet): Promise<RowSet> => {
  await using client = new MongoClient(url);
  const db = client.db();
  const collections = new Set((await db.listCollections().toArray()).map(({ name }) => name));
  return await readTextRowsLike(like, async (table, columns) => {
    if (!collections.has(table)) return null;
    const documents = await db
      .collection(table)
      .find({ '_waggle.deleted': { $exists: false } }, { promoteValues: false, promoteLongs: false })
      .toArray();
    return documents.map((document) => columns.map((column) => exactText(fieldAt(document, column))));
  });
};

const fieldAt = (document: object, column: string): unknown =>
  column.split('.').reduce<unknown>((value, part) => (value === null || value === undefined ? value : Reflect.get(value, part)), document);

const exactText = (value: unknown): string | null => {
  if (value === null || value === undefined) return null;
  if (Long.isLong(value)) return `bigint ${value.toString()}`;
  if (value instanceof Double) return `number ${value.value}`;
  if (value instanceof Binary) return `blob \\x${value.toString('hex')}`;
  return `string ${value as string}`;
};
