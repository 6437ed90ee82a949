/**
 * How fast the database connectors take rows, beside a plain load of the same rows in the same run (alternating, median).
 *
 *     node bench/sinks.ts [ROWS] [ROUNDS]
 *
 * Plain for Postgres and PGlite: INSERT … SELECT FROM unnest(…) of the same chunks in one transaction into a fresh table
 * with the same primary key, arrays passed as the driver takes them. Plain for SQLite: one prepared INSERT a row in one transaction. Plain
 * for MariaDB: LOAD DATA LOCAL INFILE from a stream, the fastest of eight ways that were tried. Plain for MongoDB (a tenth of the rows):
 * insertMany, unordered, outside a transaction; the server is the one of the tests, so believe the ratio only.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { PGlite } from '@electric-sql/pglite';
import Database from 'better-sqlite3';
import { MongoClient } from 'mongodb';
import { createConnection } from 'mysql2/promise';
import { Client } from 'pg';
import { createSink as createMongoSink } from '../connectors/mongodb/sink.ts';
import { createSink as createMysqlSink } from '../connectors/mysql/sink.ts';
import { SqlSink } from '../connectors/postgres/sql-sink.ts';
import type { ResultRow, Session } from '../connectors/postgres/session.ts';
import { createSink as createPostgresSink } from '../connectors/postgres/sink.ts';
import { createSink as createSqliteSink } from '../connectors/sqlite/sink.ts';
import type { Value } from '../src/change/table.ts';
import type { Sink, SinkChange, SinkTable } from '../src/pipeline/sink.ts';
import { batchOf, checkpointAt, contextOf, sinkTable, upsert } from '../test/connectors/sink-changes.ts';
import { mariadbBinary, startMariadb } from '../test/helpers/mariadb-server.ts';
import { mongoServerPossible, startMongoServer } from '../test/helpers/mongo-server.ts';
import { postgresBinaries, startPostgres } from '../test/helpers/postgres-server.ts';

const rowCount = Number(process.argv[2] ?? 100_000);
const rounds = Number(process.argv[3] ?? 5);
const PART = 5000;

const tableOf = (name: string): SinkTable =>
  sinkTable(name, [
    { name: 'id', key: true },
    { name: 'ronin.createdAt', type: 'DATETIME' },
    { name: 'handle' },
    { name: 'age', type: 'INTEGER' },
    { name: 'score', type: 'REAL' },
    { name: 'verified', type: 'BOOLEAN' },
    { name: 'settings' },
  ]);
const rows: Value[][] = Array.from({ length: rowCount }, (_, index) => [
  `acc_${((index * 2654435761) % 2 ** 32).toString(16).padStart(16, '0')}`,
  '2026-11-21T00:10:49.686Z',
  `handle-${index}`,
  index % 90,
  index / 3,
  index % 2,
  `{"theme":"dark","n":${index}}`,
]);
const bigintRows = rows.map((row) => row.map((value, index) => (index === 3 || index === 5 ? BigInt(value as number) : value)));
const PLAIN = ['text', 'text', 'text', 'bigint', 'double precision', 'bigint', 'text'];
const CREATE = `(${['id', '"ronin.createdAt"', 'handle', 'age', 'score', 'verified', 'settings'].map((name, index) => `${name} ${PLAIN[index]}`).join(', ')}, PRIMARY KEY (id))`;
const plainInsert = (name: string): string =>
  `INSERT INTO ${name} SELECT * FROM unnest(${PLAIN.map((type, index) => `$${index + 1}::${type}[]`).join(', ')})`;
const columnsOf = (chunk: readonly Value[][]): Value[][] => PLAIN.map((_, index) => chunk.map((row) => row[index]!));
const chunks = <T>(all: readonly T[]): T[][] =>
  Array.from({ length: Math.ceil(all.length / PART) }, (_, index) => all.slice(index * PART, (index + 1) * PART));

const time = async (work: () => Promise<void>): Promise<number> => {
  const start = performance.now();
  await work();
  return performance.now() - start;
};
const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;

interface Contest {
  readonly name: string;
  plain(round: number): Promise<void>;
  readonly sink: Sink;
  readonly rows: readonly Value[][];
}

const contest = async ({ name, plain, sink, rows: sinkRows }: Contest): Promise<void> => {
  const times = { plain: [] as number[], insert: [] as number[], update: [] as number[] };
  await sink.open(contextOf('bench'));
  for (let round = 0; round < rounds; round += 1) {
    const table = tableOf(`sink_${round}`);
    // The changes are there before the clock runs: reading them is the runner's work.
    const parts: SinkChange[][] = chunks(sinkRows.map((row) => upsert(table, row)));
    const apply = (seq: number) => (): Promise<void> => sink.apply(batchOf(parts, checkpointAt(seq)));
    if (round % 2 === 0) times.plain.push(await time(() => plain(round)));
    times.insert.push(await time(apply(2 * round + 1)));
    if (round % 2 === 1) times.plain.push(await time(() => plain(round)));
    times.update.push(await time(apply(2 * round + 2)));
  }
  await sink.close();
  const rate = (ms: number): string => `${(sinkRows.length / ms).toPrecision(3)} k/s`;
  const [base, insert, update] = [median(times.plain), median(times.insert), median(times.update)];
  console.log(
    `${name.padEnd(9)} sink/plain ${(base / insert).toFixed(2)}   plain ${rate(base)}   sink, new rows ${rate(insert)}   sink, same rows again ${rate(update)}`,
  );
};

const directory = mkdtempSync(join(tmpdir(), 'waggle-bench-'));
console.log(`${rowCount} rows of 7 columns, text key, ${rounds} rounds, medians`);

if ((await postgresBinaries()) === null) console.log('postgres  not installed');
else {
  await using server = await startPostgres();
  const client = new Client({ connectionString: server.url });
  await client.connect();
  await contest({
    name: 'postgres',
    sink: createPostgresSink({ url: server.url }),
    rows,
    plain: async (round) => {
      await client.query(`CREATE TABLE plain_${round} ${CREATE}`);
      await client.query('BEGIN');
      for (const chunk of chunks(rows)) await client.query(plainInsert(`plain_${round}`), columnsOf(chunk));
      await client.query('COMMIT');
    },
  });
  await client.end();
}

if ((await mariadbBinary()) === null) console.log('mysql     not installed');
else {
  await using server = await startMariadb();
  const connection = await createConnection(server.url);
  const types = ['varchar(768)', 'longtext', 'longtext', 'bigint', 'double', 'bigint', 'longtext'];
  const names = ['id', '`ronin.createdAt`', 'handle', 'age', 'score', 'verified', 'settings'];
  await contest({
    name: 'mariadb',
    sink: createMysqlSink({ url: server.url }),
    rows,
    plain: async (round) => {
      await connection.query(
        `CREATE TABLE plain_${round} (${names.map((name, index) => `${name} ${types[index]}`).join(', ')}, PRIMARY KEY (id)) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin`,
      );
      // No value of these rows needs an escape.
      const lines = chunks(rows).map((chunk) => Buffer.from(chunk.map((row) => `${row.join('\t')}\n`).join('')));
      await connection.query({
        sql: `LOAD DATA LOCAL INFILE 'rows' INTO TABLE plain_${round} CHARACTER SET utf8mb4`,
        infileStreamFactory: () => Readable.from(lines),
      });
    },
  });
  await connection.end();
}

if (!mongoServerPossible()) console.log('mongodb   no Java and Maven');
else {
  await using server = await startMongoServer('rs', { exactRollback: false });
  await using client = new MongoClient(server.url);
  const some = bigintRows.slice(0, Math.ceil(rowCount / 10));
  await contest({
    name: 'mongodb',
    sink: createMongoSink({ url: server.url }),
    rows: some,
    plain: async (round) => {
      const collection = client.db().collection<{ _id: string }>(`plain_${round}`);
      for (const chunk of chunks(some))
        await collection.insertMany(
          chunk.map(([id, createdAt, handle, age, score, verified, settings]) => ({
            _id: id as string,
            id,
            ronin: { createdAt },
            handle,
            age,
            score,
            verified,
            settings,
          })),
          { ordered: false },
        );
    },
  });
}

const pglite = await PGlite.create(join(directory, 'pg'));
const session: Session = {
  query: async (sql, parameters) => (await pglite.query<ResultRow>(sql, [...parameters])).rows,
  script: async (sql) => (await pglite.exec(sql)).findLast((result) => result.fields.length > 0)?.rows ?? [],
  close: async () => {},
};
await contest({
  name: 'pglite',
  sink: new SqlSink({ connect: async () => session, schema: 'public', label: 'pglite' }),
  rows,
  plain: async (round) => {
    await pglite.exec(`CREATE TABLE plain_${round} ${CREATE}`);
    await pglite.transaction(async (transaction) => {
      for (const chunk of chunks(rows)) await transaction.query(plainInsert(`plain_${round}`), columnsOf(chunk));
    });
  },
});
await pglite.close();

const plainFile = new Database(join(directory, 'plain.sqlite'));
plainFile.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
await contest({
  name: 'sqlite',
  sink: createSqliteSink({ file: join(directory, 'sink.sqlite') }),
  rows: bigintRows,
  plain: async (round) => {
    plainFile.exec(`CREATE TABLE plain_${round} ${CREATE}`);
    const insert = plainFile.prepare(`INSERT INTO plain_${round} VALUES (?, ?, ?, ?, ?, ?, ?)`);
    plainFile.transaction(() => {
      for (const row of bigintRows) insert.run(row);
    })();
  },
});
plainFile.close();
rmSync(directory, { recursive: true, force: true });
