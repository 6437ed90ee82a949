/** SIGKILL at random instants: data and checkpoint stay together. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PGlite } from '@electric-sql/pglite';
import Database from 'better-sqlite3';
import { type Db, MongoClient } from 'mongodb';
import { createConnection, type RowDataPacket } from 'mysql2/promise';
import { Client } from 'pg';
import { afterAll, describe, expect, it } from 'vitest';
import { createSink as createMongoSink } from '../../connectors/mongodb/sink.ts';
import { mariadbBinary, startMariadb } from '../helpers/mariadb-server.ts';
import { mongoServerPossible, startMongoServer } from '../helpers/mongo-server.ts';
import { postgresBinaries, serversRequired, startPostgres } from '../helpers/postgres-server.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';
import { killBatch } from './kill-batch.ts';
import { contextOf } from './sink-changes.ts';

const directory = temporaryDirectory();
afterAll(() => directory[Symbol.dispose]());

const binaries = await postgresBinaries();
const noMariadb = (await mariadbBinary()) === null && !serversRequired();
const noMongo = !mongoServerPossible() && !serversRequired();
const KILLS = Number(process.env['WAGGLE_KILLS'] ?? 12);

/** Starts the child, lets it apply for a random time, kills it. */
const killOnce = async (type: string, options: object, stateDir: string, withinMs = 60): Promise<void> => {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'kill-child.ts'), type, JSON.stringify(options), stateDir], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let errors = '';
  child.stderr.on('data', (chunk) => (errors += chunk));
  const closed = new Promise<NodeJS.Signals | null>((resolve) => child.once('close', (_status, signal) => resolve(signal)));
  await Promise.race([new Promise((resolve) => child.stdout.once('data', resolve)), closed]);
  await new Promise((resolve) => setTimeout(resolve, Math.random() * withinMs));
  child.kill('SIGKILL');
  expect({ signal: await closed, errors }).toEqual({ signal: 'SIGKILL', errors: '' });
};

interface State {
  readonly seq: number;
  /** Distinct values of `killed.n`, and how many rows. */
  readonly values: readonly number[];
  readonly rows: number;
  readonly history: readonly number[];
}

const SEQ = "SELECT seq FROM waggle_checkpoint WHERE sink = 'killed'";

const expectWhole = ({ seq, values, rows, history }: State): void => {
  if (seq === 0) return;
  expect(values).toEqual([seq]);
  expect(rows).toBe(100);
  expect(history).toEqual(Array.from({ length: Math.min(seq, 10) }, (_, index) => Math.max(seq - 10, 0) + index + 1));
};

/** Reads the state with one function of SQL. */
const readState = async (query: (sql: string) => Promise<number[]>): Promise<State> => {
  const [seq = 0] = await query(SEQ);
  if (seq === 0) return { seq, values: [], rows: 0, history: [] };
  const [rows = 0] = await query('SELECT count(*) FROM killed');
  return { seq, rows, values: await query('SELECT DISTINCT n FROM killed'), history: await query('SELECT n FROM history ORDER BY n') };
};

const readMongo = async (db: Db): Promise<State> => {
  const seq = Number((await db.collection('waggle_checkpoint').findOne({}))?.['seq'] ?? 0);
  const alive = { '_waggle.deleted': { $exists: false } };
  const killed = (await db.collection('killed').find(alive).toArray()).map((row) => Number(row['n']));
  const history = (await db.collection('history').find(alive).toArray()).map((row) => Number(row['n']));
  return { seq, rows: killed.length, values: [...new Set(killed)], history: history.sort((a, b) => a - b) };
};

const numbers = (rows: readonly object[]): number[] => rows.map((row) => Number(Object.values(row)[0] ?? 0));

describe('killed at any instant', { timeout: 120_000 + KILLS * 5000 }, () => {
  const run = async (type: string, options: object, read: () => Promise<State>, { kills = KILLS, withinMs = 60 } = {}): Promise<void> => {
    let last = 0;
    for (let kill = 0; kill < kills; kill += 1) {
      await killOnce(type, options, directory.path, withinMs);
      const state = await read();
      expectWhole(state);
      expect(state.seq).toBeGreaterThanOrEqual(last);
      last = state.seq;
    }
    expect(last).toBeGreaterThan(0);
  };

  it('sqlite', async () => {
    const file = join(directory.path, 'killed.sqlite');
    await run('sqlite', { file }, () =>
      readState(async (sql) => {
        const database = new Database(file, { readonly: true });
        try {
          return numbers(database.prepare(sql).all() as object[]);
        } finally {
          database.close();
        }
      }),
    );
  });

  it('pglite', async () => {
    const dir = join(directory.path, 'killed-pg');
    await run(
      'pglite',
      { dir },
      () =>
        readState(async (sql) => {
          const database = await PGlite.create(dir);
          try {
            return numbers((await database.query<object>(sql)).rows);
          } finally {
            await database.close();
          }
        }),
      { kills: Math.ceil(KILLS / 3), withinMs: 800 },
    );
  });

  const absent = binaries === null && !serversRequired();
  it.skipIf(absent)(`postgres${absent ? ' (PostgreSQL is not installed: skipped)' : ''}`, async () => {
    await using server = await startPostgres();
    const client = new Client({ connectionString: server.url });
    await client.connect();
    await run('postgres', { url: server.url }, () => readState(async (sql) => numbers((await client.query<object>(sql)).rows)));
    await client.end();
  });

  it.skipIf(noMariadb)(`mysql${noMariadb ? ' (MariaDB is not installed: skipped)' : ''}`, async () => {
    await using server = await startMariadb();
    const connection = await createConnection(server.url);
    await run('mysql', { url: server.url }, () =>
      readState(async (sql) => {
        // Before the first runner came so far.
        const [tables] = await connection.query<RowDataPacket[]>("SHOW TABLES LIKE 'waggle_checkpoint'");
        return tables.length === 0 ? [] : numbers((await connection.query<RowDataPacket[]>(sql))[0]);
      }),
    );
    await connection.end();
  });

  it.skipIf(noMongo)(`mongodb (rs)${noMongo ? ' (no Java and Maven: skipped)' : ''}`, async () => {
    await using server = await startMongoServer('rs');
    await using client = new MongoClient(server.url);
    const read = async (): Promise<State> => {
      // Ends the transaction of the killed runner, which this server lets everybody read.
      const sink = createMongoSink({ url: server.url });
      await sink.open(contextOf('killed'));
      await sink.close();
      return readMongo(client.db());
    };
    await run('mongodb', { url: server.url }, read, { withinMs: 400 });
  });

  it.skipIf(noMongo)(`mongodb (standalone)${noMongo ? ' (no Java and Maven: skipped)' : ''}`, async () => {
    await using server = await startMongoServer('standalone');
    await using client = new MongoClient(server.url);
    // A batch is not atomic there: it is whole when the next runner has come beyond it.
    for (let kill = 0; kill < KILLS; kill += 1) await killOnce('mongodb', { url: server.url }, directory.path, 300);
    const sink = createMongoSink({ url: server.url });
    const checkpoint = await sink.open(contextOf('killed'));
    const seq = (checkpoint?.seq ?? 0) + 1;
    await sink.apply(killBatch(seq, BigInt));
    await sink.close();
    expect(seq).toBeGreaterThan(1);
    expectWhole(await readMongo(client.db()));
  });

  it('jsonl', async () => {
    const file = join(directory.path, 'killed.jsonl');
    for (let kill = 0; kill < KILLS; kill += 1) await killOnce('jsonl', { file }, directory.path);
    const saved = JSON.parse(readFileSync(`${file}.waggle`, 'utf8'));
    const lines = readFileSync(file).subarray(0, saved.bytes).toString().split('\n');
    expect(lines.pop()).toBe('');
    const batches = lines
      .map((line) => JSON.parse(line))
      .filter((line) => line.op === 'u' && line.source.table === 'history')
      .map((line) => line.after.n);
    expect(batches).toEqual(Array.from({ length: saved.checkpoint.seq }, (_, index) => index + 1));
    expect(lines.length).toBe(saved.checkpoint.seq * 102);
  });
});
