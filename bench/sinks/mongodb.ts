/** Floors of MongoDB on a replica set: unordered bulks outside of any transaction. The server is the one of the tests: believe ratios only. */
import { type AnyBulkWriteOperation, MongoClient } from 'mongodb';
import { createSink } from '../../connectors/mongodb/sink.ts';
import { startMongoServer } from '../../test/helpers/mongo-server.ts';
import type { BenchTarget } from './target.ts';
import { type BenchRow, chunksOf } from './workload.ts';

interface Account {
  _id: string;
  [field: string]: unknown;
}

const DOCUMENTS_A_BULK = 5000;

const documentOf = ([id, createdAt, handle, age, score, verified, settings]: BenchRow): Account => ({
  _id: id,
  id,
  ronin: { createdAt },
  handle,
  age: BigInt(age),
  score,
  verified: BigInt(verified),
  settings,
});

export const openMongodb = async (): Promise<BenchTarget> => {
  const server = await startMongoServer('rs', { exactRollback: false });
  const client = new MongoClient(server.url);
  const collection = (table: string) => client.db().collection<Account>(table);
  return {
    name: 'mongodb',
    floors: 'insertMany and bulkWrite, unordered, outside of any transaction',
    share: 0.05,
    createSink: () => createSink({ url: server.url }),
    load: async (table, rows) => {
      for (const chunk of chunksOf(rows, DOCUMENTS_A_BULK)) await collection(table).insertMany(chunk.map(documentOf), { ordered: false });
    },
    mixed: async (table, changes) => {
      const operations = changes.map(({ op, row }): AnyBulkWriteOperation<Account> => {
        if (op === 'd') return { deleteOne: { filter: { _id: row[0] } } };
        const document = documentOf(row);
        return op === 'c' ? { insertOne: { document } } : { replaceOne: { filter: { _id: row[0] }, replacement: document } };
      });
      for (const chunk of chunksOf(operations, DOCUMENTS_A_BULK)) await collection(table).bulkWrite(chunk, { ordered: false });
    },
    oneByOne: async (table, changes) => {
      for (const { op, row } of changes) {
        const { _id, ...fields } = documentOf(row);
        if (op === 'd') await collection(table).deleteOne({ _id });
        else await collection(table).updateOne({ _id }, { $set: fields }, { upsert: true });
      }
    },
    drop: async (table) => void (await collection(table).drop()),
    [Symbol.asyncDispose]: async () => {
      await client.close();
      await server.stop();
    },
  };
};
