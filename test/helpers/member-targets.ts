/** Targets that `waggle sink --from kafka` feeds: each a server (or file) of its own, and how what it holds is held against the hive. */
import { Client } from 'pg';
import Database from 'better-sqlite3';
import { MongoClient } from 'mongodb';
import { createConnection, type RowDataPacket } from 'mysql2/promise';
import type { DaemonScene } from './daemon-scene.ts';
import { mariadbBinary, startMariadb } from './mariadb-server.ts';
import { mongoServerPossible, startMongoServer } from './mongo-server.ts';
import { postgresBinaries, startPostgres } from './postgres-server.ts';
import type { Difference } from './row-sets.ts';

export interface MemberTarget extends AsyncDisposable {
  /** As in the configuration, without braces. */
  readonly sink: string;
  compare(scene: DaemonScene): Promise<Difference>;
  /** Names of a table's columns, sorted. */
  columns(scene: DaemonScene, table: string): Promise<readonly string[]>;
}

export const MEMBER_TARGETS: Readonly<Record<string, { readonly possible: boolean; open(): Promise<MemberTarget> }>> = {
  postgres: {
    possible: (await postgresBinaries()) !== null,
    open: async () => {
      const server = await startPostgres();
      return {
        sink: `type: postgres, url: "${server.url}"`,
        compare: (scene) => scene.comparePostgres(server.url),
        columns: async (_, table) => {
          const client = new Client({ connectionString: server.url });
          await client.connect();
          const { rows } = await client.query<{ name: string }>(
            'SELECT column_name AS name FROM information_schema.columns WHERE table_name = $1 ORDER BY 1',
            [table],
          );
          await client.end();
          return rows.map(({ name }) => name);
        },
        [Symbol.asyncDispose]: () => server.stop(),
      };
    },
  },
  mysql: {
    possible: (await mariadbBinary()) !== null,
    open: async () => {
      const server = await startMariadb();
      return {
        sink: `type: mysql, url: "${server.url}"`,
        compare: (scene) => scene.compareMysql(server.url),
        columns: async (_, table) => {
          const connection = await createConnection({ uri: server.url });
          const [rows] = await connection.query<RowDataPacket[]>(
            'SELECT COLUMN_NAME AS name FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? ORDER BY 1',
            [table],
          );
          await connection.end();
          return rows.map((row) => String(row['name']));
        },
        [Symbol.asyncDispose]: () => server.stop(),
      };
    },
  },
  mongodb: {
    possible: mongoServerPossible(),
    open: async () => {
      const server = await startMongoServer('rs');
      return {
        sink: `type: mongodb, url: "${server.url}"`,
        compare: (scene) => scene.compareMongo(server.url),
        columns: async (_, table) => {
          await using client = new MongoClient(server.url);
          const documents = await client.db().collection(table).find().toArray();
          const names = new Set(documents.flatMap((document) => Object.keys(document)));
          return [...names].filter((name) => !name.startsWith('_')).sort();
        },
        [Symbol.asyncDispose]: () => server.stop(),
      };
    },
  },
  sqlite: {
    possible: true,
    open: async () => ({
      sink: 'type: sqlite, file: copy.sqlite',
      compare: async (scene) => scene.compareCopy(scene.path('copy.sqlite')),
      columns: async (scene, table) => {
        const copy = new Database(scene.path('copy.sqlite'), { readonly: true });
        const names = copy.prepare<[string], string>('SELECT name FROM pragma_table_xinfo(?) ORDER BY 1').pluck().all(table);
        copy.close();
        return names;
      },
      [Symbol.asyncDispose]: async () => {},
    }),
  },
};
