/** Targets of the kill test: the sink on each, and what the target itself tells of how often a change was applied. */
import { PGlite } from '@electric-sql/pglite';
import Database from 'better-sqlite3';
import { MongoClient } from 'mongodb';
import { createConnection, type RowDataPacket } from 'mysql2/promise';
import { Client } from 'pg';
import type { DaemonScene } from '../helpers/daemon-scene.ts';
import { mariadbBinary, startMariadb } from '../helpers/mariadb-server.ts';
import { mongoServerPossible, startMongoServer } from '../helpers/mongo-server.ts';
import { PostgresOutage } from '../helpers/postgres-outage.ts';
import { postgresBinaries, startPostgres } from '../helpers/postgres-server.ts';
import type { Difference } from '../helpers/row-sets.ts';

/** Which changes were applied, by table: the seq of each time that one was, in order. */
export type Applied = Readonly<Record<string, readonly number[]>>;

export interface KillTarget extends AsyncDisposable {
  /** By name, as flow YAML. */
  readonly sinks: Readonly<Record<string, string>>;
  /** From now on what is written to the tables is written down. The daemon has ended. */
  watch(scene: DaemonScene, tables: readonly string[]): Promise<void>;
  /** What was written down. The daemon has ended. */
  applied(scene: DaemonScene, tables: readonly string[]): Promise<Applied>;
  /**
   * Types of the columns by table, where a column that gets another type can mean that each of its rows is updated (MySQL: a double or bytes to text):
   * the triggers see that, too.
   */
  readonly types?: () => Promise<Readonly<Record<string, Readonly<Record<string, string>>>>>;
  /** Every change is written down, not only the last one of those of a row that came together. */
  readonly keepsAll: boolean;
  compare(scene: DaemonScene): Promise<Difference>;
  /** SIGKILL, and the same server again. Null where there is none. */
  readonly restart: (() => Promise<void>) | null;
}

export interface KillTargetKind {
  readonly name: string;
  readonly possible: () => boolean | Promise<boolean>;
  readonly open: () => Promise<KillTarget>;
}

/** A statement's rows, each its first column as a number. */
type Query = (sql: string) => Promise<number[]>;
type WithQuery = <T>(scene: DaemonScene, work: (query: Query) => Promise<T>) => Promise<T>;

const COLUMNS = 'tables: { "*": { columns: { add: { waggle_seq: $seq } } } }';

/** Triggers write down each row that is written. `triggers`: of a table, quoted; `insert` is the statement that each of them is to execute. */
const byTriggers = (withQuery: WithQuery, quote: string, triggers: (table: string, insert: string) => readonly string[]) => ({
  keepsAll: false,
  watch: (scene: DaemonScene, tables: readonly string[]): Promise<void> =>
    withQuery(scene, async (query) => {
      await query('CREATE TABLE applied (name VARCHAR(100), seq BIGINT)');
      for (const table of tables)
        for (const statement of triggers(`${quote}${table}${quote}`, `INSERT INTO applied VALUES ('${table}', NEW.waggle_seq)`))
          await query(statement);
    }),
  applied: (scene: DaemonScene, tables: readonly string[]): Promise<Applied> =>
    withQuery(scene, async (query) => {
      const found: Record<string, number[]> = {};
      for (const table of tables) found[table] = await query(`SELECT seq FROM applied WHERE name = '${table}' ORDER BY seq`);
      return found;
    }),
});

const numbers = (rows: readonly object[]): number[] => rows.map((row) => Number(Object.values(row)[0]));
// An upsert that finds the row is no insert; one that changes nothing of it is seen before it is made.
const EVENTS = ['AFTER INSERT', 'BEFORE UPDATE'] as const;
const nameOf = (event: string, table: string): string => `${event}_${table}`.replaceAll(/\W/g, '_');

const openSqlite = (): Promise<KillTarget> => {
  const withQuery: WithQuery = async (scene, work) => {
    const database = new Database(scene.path('copy.sqlite'));
    try {
      return await work(async (sql) => {
        const statement = database.prepare<[], object>(sql);
        if (statement.reader) return numbers(statement.all());
        statement.run();
        return [];
      });
    } finally {
      database.close();
    }
  };
  return Promise.resolve({
    sinks: { copy: `{ type: sqlite, file: copy.sqlite, ${COLUMNS} }` },
    ...byTriggers(withQuery, '"', (table, insert) =>
      EVENTS.map((event) => `CREATE TRIGGER ${nameOf(event, table)} ${event} ON ${table} BEGIN ${insert}; END`),
    ),
    compare: async (scene) => scene.compareCopy(scene.path('copy.sqlite')),
    restart: null,
    [Symbol.asyncDispose]: async () => {},
  });
};

const postgresTriggers = (table: string, insert: string): string[] => {
  const name = nameOf('note', table);
  return [
    `CREATE FUNCTION ${name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ${insert}; RETURN NEW; END $$`,
    ...EVENTS.map((event) => `CREATE TRIGGER ${nameOf(event, table)} ${event} ON ${table} FOR EACH ROW EXECUTE FUNCTION ${name}()`),
  ];
};

const openPglite = (): Promise<KillTarget> => {
  const withQuery: WithQuery = async (scene, work) => {
    const database = await PGlite.create(scene.path('pg'));
    try {
      return await work(async (sql) => numbers((await database.query<object>(sql)).rows));
    } finally {
      await database.close();
    }
  };
  return Promise.resolve({
    sinks: { copy: `{ type: pglite, dir: pg, ${COLUMNS} }` },
    ...byTriggers(withQuery, '"', postgresTriggers),
    compare: (scene) => scene.comparePglite(scene.path('pg')),
    restart: null,
    [Symbol.asyncDispose]: async () => {},
  });
};

const openPostgres = async (): Promise<KillTarget> => {
  const server = await startPostgres();
  const outage = await PostgresOutage.of(server);
  const withQuery: WithQuery = async (_scene, work) => {
    const client = new Client({ connectionString: server.url });
    await client.connect();
    try {
      return await work(async (sql) => numbers((await client.query<object>(sql)).rows));
    } finally {
      await client.end();
    }
  };
  return {
    sinks: { copy: `{ type: postgres, url: "${server.url}", ${COLUMNS} }` },
    ...byTriggers(withQuery, '"', postgresTriggers),
    compare: (scene) => scene.comparePostgres(server.url),
    restart: async () => {
      await outage.kill();
      await outage.start();
    },
    [Symbol.asyncDispose]: () => server.stop(),
  };
};

const openMariadb = async (): Promise<KillTarget> => {
  const server = await startMariadb();
  const withQuery: WithQuery = async (_scene, work) => {
    const connection = await createConnection(server.url);
    try {
      return await work(async (sql) => {
        const [rows] = await connection.query(sql);
        return Array.isArray(rows) ? numbers(rows) : [];
      });
    } finally {
      await connection.end();
    }
  };
  return {
    sinks: { copy: `{ type: mysql, url: "${server.url}", ${COLUMNS} }` },
    ...byTriggers(withQuery, '`', (table, insert) =>
      EVENTS.map((event) => `CREATE TRIGGER ${nameOf(event, table)} ${event} ON ${table} FOR EACH ROW ${insert}`),
    ),
    types: async () => {
      const connection = await createConnection(server.url);
      try {
        const [rows] = await connection.query<RowDataPacket[]>(
          'SELECT table_name AS name, column_name AS col, column_type AS type FROM information_schema.columns WHERE table_schema = database()',
        );
        const types: Record<string, Record<string, string>> = {};
        for (const { name, col, type } of rows) (types[String(name)] ??= {})[String(col)] = String(type);
        return types;
      } finally {
        await connection.end();
      }
    },
    compare: (scene) => scene.compareMysql(server.url),
    restart: async () => {
      await server.kill();
      await server.start();
    },
    [Symbol.asyncDispose]: () => server.stop(),
  };
};

/** Two servers, because one takes one transaction at a time: a copy in a file, which survives its server, and a history, whose keys no file holds. */
const openMongodb = async (): Promise<KillTarget> => {
  await using stack = new AsyncDisposableStack();
  const server = stack.use(await startMongoServer('rs', { durable: true }));
  const other = stack.use(await startMongoServer('rs', { heapMegabytes: 2048 }));
  const opened = stack.move();
  return {
    sinks: {
      copy: `{ type: mongodb, url: "${server.url}?serverSelectionTimeoutMS=1000" }`,
      each: `{ type: mongodb, url: "${other.url}", tables: { "*": { history: true, to: "*_each" } } }`,
    },
    keepsAll: true,
    watch: async () => {},
    applied: async (_scene, tables) => {
      await using client = new MongoClient(other.url);
      const found: Record<string, number[]> = {};
      for (const table of tables) {
        const changes = await client
          .db()
          .collection(`${table}_each`)
          .find({ waggle_op: { $ne: 'r' } })
          .toArray();
        found[table] = changes.map((change) => Number(change['waggle_seq'])).sort((a, b) => a - b);
      }
      return found;
    },
    compare: (scene) => scene.compareMongo(server.url),
    restart: async () => {
      await server.kill();
      await server.start();
    },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
};

export const KILL_TARGETS: readonly KillTargetKind[] = [
  { name: 'sqlite', possible: () => true, open: openSqlite },
  { name: 'pglite', possible: () => true, open: openPglite },
  { name: 'postgres', possible: async () => (await postgresBinaries()) !== null, open: openPostgres },
  { name: 'mysql', possible: async () => (await mariadbBinary()) !== null, open: openMariadb },
  { name: 'mongodb', possible: mongoServerPossible, open: openMongodb },
];
