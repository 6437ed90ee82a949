/**
 * One transaction of many changes, from the log into each connector's real target, by a process that may not keep them: its heap is limited far below
 * what they take as objects. At length: WAGGLE_LARGE_CHANGES=1000000.
 */
import { spawn } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { PGlite } from '@electric-sql/pglite';
import Database from 'better-sqlite3';
import { MongoClient } from 'mongodb';
import { createConnection, type RowDataPacket } from 'mysql2/promise';
import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ChangeWriter } from '../../src/change/change-codec.ts';
import { LoggedDatabase } from '../helpers/logged-database.ts';
import { mariadbBinary, startMariadb } from '../helpers/mariadb-server.ts';
import { mongoServerPossible, startMongoServer } from '../helpers/mongo-server.ts';
import { postgresBinaries, serversRequired, startPostgres } from '../helpers/postgres-server.ts';
import { megabytes } from '../helpers/process-memory.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';
import { WebhookReceiver } from '../helpers/webhook-receiver.ts';
import type { LargeTransactionResult } from './large-transaction-child.ts';

const CHANGES = Number(process.env['WAGGLE_LARGE_CHANGES'] ?? 100_000);
/** Rows that stand there before; half of them are updated and half deleted in the large transaction. */
const OLD = 1000;
const HEAP_MB = 64;

const noPostgres = (await postgresBinaries()) === null && !serversRequired();
const noMariadb = (await mariadbBinary()) === null && !serversRequired();
const noMongo = !mongoServerPossible() && !serversRequired();
const directory = temporaryDirectory();
afterAll(() => directory[Symbol.dispose]());

/** A log of two transactions; the second one has so many changes. */
const writeLog = (changes: number): string => {
  using source = new LoggedDatabase(directory.path);
  const record = (text: string, n: number): Buffer => source.record('items', [null, text, BigInt(n)]);
  const first = new ChangeWriter();
  for (let id = 1; id <= OLD; id += 1) first.create(0, id, record('old', id));
  source.append([source.transaction(first)]);
  const large = new ChangeWriter();
  const created = changes - OLD;
  for (let id = OLD + 1; id <= OLD + created; id += 1) large.create(0, id, record(`created by the large transaction, row ${id}`, id));
  for (let id = 1; id <= OLD / 2; id += 1)
    large.update(0, { rowid: id, oldRowid: id, before: record('old', id), after: record(`updated by the large transaction, row ${id}`, id) });
  for (let id = OLD / 2 + 1; id <= OLD; id += 1) large.delete(0, id, record('old', id), false);
  source.append([source.transaction(large)]);
  return source.logPath;
};

interface Contents {
  readonly rows: number;
  /** Of the column `value`, which holds the row's id. */
  readonly sum: number;
  /** Rows that are as they were before the large transaction. */
  readonly old: number;
}

const contents = (changes: number): Contents => {
  const sumTo = (n: number): number => (n * (n + 1)) / 2;
  return { rows: changes - OLD / 2, sum: sumTo(changes) - sumTo(OLD) + sumTo(OLD / 2), old: 0 };
};

const COUNT = "SELECT count(*) AS c, sum(CAST(value AS DECIMAL)) AS s, sum(CASE WHEN name = 'old' THEN 1 ELSE 0 END) AS o FROM items";

const contentsOf = (row: object | undefined): Contents => {
  const [rows, sum, old] = Object.values(row ?? {}).map(Number);
  return { rows: rows!, sum: sum!, old: old! };
};

/** The log at `path` into the target, by a process of its own. */
const applyLog = async (path: string, type: string, options: object): Promise<LargeTransactionResult> => {
  const child = spawn(
    process.execPath,
    [
      `--max-old-space-size=${HEAP_MB}`,
      // What was allocated while a collection ran beside it would count as alive: on a busy machine that alone fills the heap.
      '--single-threaded-gc',
      '--no-incremental-marking',
      join(import.meta.dirname, 'large-transaction-child.ts'),
      path,
      type,
      JSON.stringify(options),
      join(directory.path, `state-${type}`),
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let [output, errors] = ['', ''];
  child.stdout.on('data', (chunk) => (output += chunk));
  child.stderr.on('data', (chunk) => (errors += chunk));
  const status = await new Promise((resolve) => child.once('close', (code, signal) => resolve(signal ?? code)));
  expect({ status, errors: errors.slice(0, 2000) }).toEqual({ status: 0, errors: '' });
  return JSON.parse(output) as LargeTransactionResult;
};

describe(`a transaction of ${CHANGES} changes in a heap of ${HEAP_MB} MB`, { timeout: 60_000 + CHANGES * 2 }, () => {
  let log = '';
  beforeAll(() => {
    log = writeLog(CHANGES);
  });

  const run = async (type: string, options: object, read: () => Promise<Contents> | Contents): Promise<void> => {
    const started = performance.now();
    const { seq, error, peakBytes } = await applyLog(log, type, options);
    console.log(`${type}: ${CHANGES} changes, ${megabytes(peakBytes)} MB at most, ${((performance.now() - started) / 1000).toFixed(1)} s`);
    expect({ seq, error }).toEqual({ seq: OLD + CHANGES, error: null });
    expect(await read()).toEqual(contents(CHANGES));
  };

  it('sqlite', async () => {
    const file = join(directory.path, 'large.sqlite');
    await run('sqlite', { file }, () => {
      const database = new Database(file, { readonly: true });
      try {
        return contentsOf(database.prepare<[], object>(COUNT).get());
      } finally {
        database.close();
      }
    });
  });

  it('pglite', async () => {
    const dir = join(directory.path, 'large-pg');
    await run('pglite', { dir }, async () => {
      const database = await PGlite.create(dir);
      try {
        return contentsOf((await database.query<object>(COUNT)).rows[0]);
      } finally {
        await database.close();
      }
    });
  });

  it.skipIf(noPostgres)(`postgres${noPostgres ? ' (PostgreSQL is not installed: skipped)' : ''}`, async () => {
    await using server = await startPostgres();
    await run('postgres', { url: server.url }, async () => {
      const client = new Client({ connectionString: server.url });
      await client.connect();
      try {
        return contentsOf((await client.query<object>(COUNT)).rows[0]);
      } finally {
        await client.end();
      }
    });
  });

  it.skipIf(noMariadb)(`mysql${noMariadb ? ' (MariaDB is not installed: skipped)' : ''}`, async () => {
    await using server = await startMariadb();
    await run('mysql', { url: server.url }, async () => {
      const connection = await createConnection(server.url);
      const [rows] = await connection.query<RowDataPacket[]>(COUNT);
      await connection.end();
      return contentsOf(rows[0]);
    });
  });

  it.skipIf(noMongo)(`mongodb${noMongo ? ' (no Java and Maven: skipped)' : ''}`, async () => {
    await using server = await startMongoServer('rs', { exactRollback: false });
    await using client = new MongoClient(server.url);
    await run('mongodb', { url: server.url }, async () => {
      let [rows, sum, old] = [0, 0, 0];
      for await (const { name, value } of client.db().collection('items').find()) {
        rows += 1;
        sum += Number(value);
        old += name === 'old' ? 1 : 0;
      }
      return { rows, sum, old };
    });
  });

  it('jsonl', async () => {
    const file = join(directory.path, 'large.jsonl');
    const { seq, error, peakBytes } = await applyLog(log, 'jsonl', { file });
    console.log(`jsonl: ${CHANGES} changes, ${megabytes(peakBytes)} MB at most`);
    expect({ seq, error }).toEqual({ seq: OLD + CHANGES, error: null });
    // Longer than a string can be, at length.
    let last = 0;
    for await (const line of createInterface(createReadStream(file))) {
      const { seq: next } = JSON.parse(line) as { seq: number };
      if (next !== last + 1) throw new Error(`${next} follows ${last}`);
      last = next;
    }
    expect(last).toBe(OLD + CHANGES);
  });

  it('webhook', async () => {
    await using receiver = await WebhookReceiver.start();
    await run('webhook', { url: receiver.url }, () =>
      contentsOf(
        receiver.db
          .prepare<[], object>(
            "SELECT count(*), sum(json_extract(data, '$.value')), sum(json_extract(data, '$.name') = 'old') FROM rows WHERE model = 'items'",
          )
          .get(),
      ),
    );
  });
});
