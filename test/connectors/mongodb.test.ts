import { Binary, type Db, Double, Long, MongoClient } from 'mongodb';
import { afterAll, beforeAll, describe } from 'vitest';
import { collectionName, fieldPaths } from '../../connectors/mongodb/names.ts';
import { createSink } from '../../connectors/mongodb/sink.ts';
import type { SinkTable } from '../../src/pipeline/sink.ts';
import { type MongoServer, mongoServerPossible, startMongoServer } from '../helpers/mongo-server.ts';
import { serversRequired } from '../helpers/postgres-server.ts';
import { conformance, type ConformanceTarget } from './conformance.ts';

const absent = !mongoServerPossible() && !serversRequired();

describe.skipIf(absent).each(['rs', 'standalone'] as const)(
  `mongodb (%s)${absent ? ' (no Java and Maven: skipped)' : ''}`,
  { timeout: 60_000 },
  (kind) => {
    let server: MongoServer;
    let client: MongoClient;
    let db: Db;
    beforeAll(async () => {
      server = await startMongoServer(kind);
      client = new MongoClient(server.url);
      db = client.db('waggle');
    }, 120_000);
    afterAll(async () => {
      await client?.close();
      await server?.stop();
    });

    const target: ConformanceTarget = {
      createSink: () => createSink({ url: server.url }),
      drop: async (table) => void (await db.collection(collectionName(table.name)).drop()),
      rows: (table) => mongoRows(db, table),
      show: (value) => showStored(typeof value === 'bigint' ? Long.fromBigInt(value) : typeof value === 'number' ? new Double(value) : value),
    };

    conformance(async () => target, { holdsNul: true, atomic: kind === 'rs', rekeys: true, users: null, partRows: kind === 'rs' ? 1000 : 30 });
  },
);

/** All rows that are not deleted, each value with its BSON type. */
const mongoRows = async (db: Db, table: SinkTable): Promise<(string | null)[][]> => {
  const collection = db.collection(collectionName(table.name));
  const documents = await collection.find({ '_waggle.deleted': { $exists: false } }, { promoteValues: false, promoteLongs: false }).toArray();
  const paths = fieldPaths(table.columns.map((column) => column.name));
  return documents.map((document) =>
    paths.map((path) => showStored(path.reduce<unknown>((value, part) => (value as Record<string, unknown>)?.[part], document))),
  );
};

const showStored = (value: unknown): string | null => {
  if (value === null || value === undefined) return null;
  if (value instanceof Double) return `double ${Object.is(value.value, -0) ? '-0' : value.value}`;
  if (value instanceof Uint8Array) return `binary ${Buffer.from(value).toString('hex')}`;
  if (value instanceof Binary) return `binary ${value.toString('hex')}`;
  if (Long.isLong(value)) return `int64 ${value.toString()}`;
  return `${typeof value} ${typeof value === 'string' ? value : JSON.stringify(value)}`;
};
