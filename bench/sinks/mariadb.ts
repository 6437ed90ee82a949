/** Floors of MariaDB: LOAD DATA LOCAL INFILE from a stream, into the table itself or into a temporary one that is merged. */
import { Readable } from 'node:stream';
import { createConnection } from 'mysql2/promise';
import { createSink } from '../../connectors/mysql/sink.ts';
import { startMariadb } from '../../test/helpers/mariadb-server.ts';
import type { BenchTarget } from './target.ts';
import { chunksOf, columnList, COLUMNS, linesOf, setsOf } from './workload.ts';

const TYPES = ['varchar(768)', 'longtext', 'longtext', 'bigint', 'double', 'bigint', 'longtext'];
const quote = (name: string): string => `\`${name}\``;
const CHARSET = 'CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin';
const COLUMN_LIST = `${columnList(TYPES, quote)} ${CHARSET}`;
const MERGE = `ON DUPLICATE KEY UPDATE ${COLUMNS.slice(1)
  .map(({ name }) => `${quote(name)} = VALUES(${quote(name)})`)
  .join(', ')}`;
const LINES_A_CHUNK = 1000;

export const openMariadb = async (): Promise<BenchTarget> => {
  const server = await startMariadb();
  const connection = await createConnection({ uri: server.url, multipleStatements: true });
  const load = async (table: string, rows: readonly (readonly unknown[])[]): Promise<void> => {
    const lines = chunksOf(rows, LINES_A_CHUNK).map((chunk) => Buffer.from(linesOf(chunk)));
    await connection.query({
      sql: `LOAD DATA LOCAL INFILE 'rows' INTO TABLE ${table} CHARACTER SET utf8mb4`,
      infileStreamFactory: () => Readable.from(lines),
    });
  };
  return {
    name: 'mariadb',
    floors: 'LOAD DATA LOCAL INFILE; for changes into temporary tables, then INSERT … ON DUPLICATE KEY and DELETE … JOIN',
    share: 1,
    createSink: () => createSink({ url: server.url }),
    load: async (table, rows) => {
      await connection.query(`CREATE TABLE ${table} ${COLUMN_LIST}`);
      await load(table, rows);
    },
    mixed: async (table, changes) => {
      const { upserts, deletes } = setsOf(changes);
      await connection.query(
        `CREATE TEMPORARY TABLE stage ${COLUMN_LIST}; CREATE TEMPORARY TABLE gone (id varchar(768) PRIMARY KEY) ${CHARSET}; START TRANSACTION`,
      );
      await load('stage', upserts);
      await load(
        'gone',
        deletes.map((id) => [id]),
      );
      await connection.query(
        `DELETE t FROM ${table} t JOIN gone g ON t.id = g.id; INSERT INTO ${table} SELECT * FROM stage ${MERGE}; COMMIT; DROP TEMPORARY TABLE stage; DROP TEMPORARY TABLE gone`,
      );
    },
    oneByOne: async (table, changes) => {
      for (const { op, row } of changes) {
        if (op === 'd') await connection.execute(`DELETE FROM ${table} WHERE id = ?`, [row[0]]);
        else await connection.execute(`INSERT INTO ${table} VALUES (?, ?, ?, ?, ?, ?, ?) ${MERGE}`, [...row]);
      }
    },
    drop: async (table) => void (await connection.query(`DROP TABLE ${table}`)),
    [Symbol.asyncDispose]: async () => {
      await connection.end();
      await server.stop();
    },
  };
};
