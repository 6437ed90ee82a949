/**
 * Kafka → Postgres through `waggle sink --from kafka`, beside a kafkajs consumer that upserts each batch in one statement. Both get the same topic; rows/s between
 * the first commit and the last row, so that the start of a process and of a group do not count.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Kafka } from 'kafkajs';
import { Client } from 'pg';
import { until } from '../test/helpers/until.ts';
import { startPostgres } from '../test/helpers/postgres-server.ts';
import { WaggleProcess } from '../test/helpers/waggle-process.ts';
import { interval, median, thousands } from './table.ts';

export interface FromKafka {
  readonly kafka: Kafka;
  readonly broker: string;
  /** Of topics that hold `rows` created accounts. */
  readonly prefix: string;
  readonly rows: number;
  readonly rounds: number;
  readonly directory: string;
}

const POLL_MS = 20;
const TABLE = `(id text PRIMARY KEY, "ronin.createdAt" text, handle text, age bigint, score double precision, verified bigint, settings text)`;
const UPSERT = `INSERT INTO accounts SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::double precision[], $6::bigint[], $7::text[])
  ON CONFLICT (id) DO UPDATE SET "ronin.createdAt" = excluded."ronin.createdAt", handle = excluded.handle, age = excluded.age, score = excluded.score,
    verified = excluded.verified, settings = excluded.settings`;
const COLUMNS = ['id', 'ronin.createdAt', 'handle', 'age', 'score', 'verified', 'settings'];

export const benchFromKafka = async (options: FromKafka): Promise<void> => {
  await using postgres = await startPostgres();
  const client = new Client({ connectionString: postgres.url });
  await client.connect();
  const rates = { waggle: [] as number[], plain: [] as number[] };
  try {
    for (let round = 0; round < options.rounds; round += 1) {
      const order = round % 2 === 0 ? (['plain', 'waggle'] as const) : (['waggle', 'plain'] as const);
      for (const who of order) {
        await client.query(`DROP TABLE IF EXISTS accounts, waggle_checkpoint; CREATE TABLE accounts ${TABLE}`);
        const feed = who === 'plain' ? plain : member;
        await using _fed = await feed(options, { url: postgres.url, round });
        rates[who].push(await rate(client, options.rows));
      }
    }
  } finally {
    await client.end();
  }
  const ratios = rates.waggle.map((each, round) => each / rates.plain[round]!);
  console.log(
    `Kafka → Postgres / plain consumer ${interval(ratios)}   waggle sink ${thousands(median(rates.waggle))} rows/s   plain ${thousands(median(rates.plain))}   (${options.rows} rows, ${options.rounds} rounds, median)`,
  );
};

const rate = async (client: Client, rows: number): Promise<number> => {
  const there = async (): Promise<number> => Number((await client.query<{ n: string }>('SELECT count(*) AS n FROM accounts')).rows[0]!.n);
  const options = { everyMs: POLL_MS, deadlineMs: 300_000 };
  const first = await until('the first rows', there, options);
  const beganAt = performance.now();
  await until('all rows', async () => (await there()) === rows, options);
  return ((rows - first) / (performance.now() - beganAt)) * 1000;
};

interface Target {
  readonly url: string;
  readonly round: number;
}

/** A group of its own each round: it begins with the first record. */
const member = async ({ directory, broker, prefix }: FromKafka, { url, round }: Target): Promise<AsyncDisposable> => {
  const config = join(directory, 'members.yaml');
  const stream = `stream: { type: kafka, brokers: "${broker}", prefix: ${prefix} }`;
  writeFileSync(
    config,
    `hive: nowhere.db\nstate: ${join(directory, 'members')}\nname: bench\nsinks:\n  ${stream}\n  pg${round}: { type: postgres, url: "${url}" }\n`,
  );
  return new WaggleProcess(['sink', `pg${round}`, '--from', 'stream', '-c', config]);
};

const plain = async ({ kafka, prefix }: FromKafka, { url, round }: Target): Promise<AsyncDisposable> => {
  const client = new Client({ connectionString: url });
  const consumer = kafka.consumer({ groupId: `plain-${round}` });
  await client.connect();
  await consumer.connect();
  await consumer.subscribe({ topics: [`${prefix}.accounts`], fromBeginning: true });
  await consumer.run({
    eachBatch: async ({ batch }) => {
      const rows = batch.messages.map(({ value }) => (JSON.parse(String(value)) as { after: Record<string, unknown> }).after);
      await client.query(
        UPSERT,
        COLUMNS.map((column) => rows.map((row) => row[column])),
      );
    },
  });
  return {
    [Symbol.asyncDispose]: async () => {
      await consumer.disconnect();
      await client.end();
    },
  };
};
