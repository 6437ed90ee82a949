/** Rows that go by COPY stand in the target as an upsert would write them, and are an upsert where COPY cannot be. */
import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createSink } from '../../connectors/postgres/sink.ts';
import type { Value } from '../../src/change/table.ts';
import type { Sink, SinkRowChange, SinkTable } from '../../src/pipeline/sink.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { Random } from '../helpers/random.ts';
import { type PostgresServer, postgresBinaries, serversRequired, startPostgres } from '../helpers/postgres-server.ts';
import { startTcpProxy } from '../helpers/tcp-proxy.ts';
import { until } from '../helpers/until.ts';
import { batchOf, checkpointAt, type ColumnSpec, contextOf, sinkTable, upsert } from './sink-changes.ts';

const absent = (await postgresBinaries()) === null && !serversRequired();
/** Enough for COPY to be worth while. */
const ROWS = 600;

const TEXTS = ['', '\\N', '\\.', 'tab\tin it', 'line\nline\r', '\\', '"{},', 'NULL', 'ä€😀', '\u0001\b\f\v', '\\x41', '\\t'];

const textOf = (random: Random): string =>
  random.chance(0.5) ? random.pick(TEXTS) : `${random.pick(TEXTS)}${random.int(1000)}${random.pick(TEXTS)}`;
const realOf = (random: Random): number => random.pick([0.1, -0, 5e-324, 1e21, -2.5e-7, 3, Infinity, -Infinity, random.next()]);
const bytesOf = (random: Random): Uint8Array => Uint8Array.from({ length: random.int(20) }, () => random.int(256));
const integerOf = (random: Random): Value => random.pick<Value>([0, -1, 9007199254740993n, -9223372036854775808n, random.int(1e9)]);

const COLUMNS: readonly (ColumnSpec & { readonly value: (random: Random) => Value })[] = [
  { name: 'n', type: 'INTEGER', value: integerOf },
  { name: 'r', type: 'REAL', value: realOf },
  { name: 'text', type: 'TEXT', value: textOf },
  { name: 'blob', type: 'BLOB', value: bytesOf },
  { name: 'num', type: 'NUMERIC', value: (random) => random.pick<Value>([1.5, 1e300, 7, 12345678901234567890n]) },
  { name: 'any', type: '', value: (random) => random.pick([integerOf, realOf, textOf, bytesOf])(random) },
];
const ID: ColumnSpec = { name: 'id', type: 'INTEGER', key: true, alwaysInteger: true };

const rowsOf = (random: Random): Value[][] =>
  Array.from({ length: ROWS }, (_, id) => [id, ...COLUMNS.map(({ value }) => (random.chance(0.1) ? null : value(random)))]);

describe.skipIf(absent)(`postgres, COPY${absent ? ' (PostgreSQL is not installed: skipped)' : ''}`, () => {
  let server: PostgresServer;
  let admin: Client;
  let sink: Sink;
  let seq = 0;
  beforeAll(async () => {
    server = await startPostgres();
    admin = new Client({ connectionString: server.url });
    await admin.connect();
    // What a statement is that writes rows.
    await admin.query(
      `CREATE TABLE statements (relation text, word text);
       CREATE FUNCTION told() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO statements VALUES (TG_RELNAME, substring(current_query() FROM 'COPY|INSERT')); RETURN NULL; END $$`,
    );
    sink = createSink({ url: server.url });
    await sink.open(contextOf('copy'));
  }, 60_000);
  afterAll(async () => {
    await sink?.close();
    await admin?.end();
    await server?.stop();
  });

  const apply = (...parts: SinkRowChange[][]): Promise<void> => sink.apply(batchOf(parts, checkpointAt((seq += 1))));
  const watch = (name: string): Promise<unknown> =>
    admin.query(`CREATE TRIGGER told AFTER INSERT ON ${name} FOR EACH STATEMENT EXECUTE FUNCTION told()`);
  const words = async (name: string): Promise<string[]> =>
    (await admin.query<{ word: string }>('SELECT word FROM statements WHERE relation = $1', [name])).rows.map(({ word }) => word);
  /** A table of the user's, whose writing is watched. */
  const usersTable = async (name: string, columns: string): Promise<SinkTable> => {
    await admin.query(`CREATE TABLE ${name} (id bigint PRIMARY KEY, v ${columns})`);
    await watch(name);
    return sinkTable(name, [ID, { name: 'v' }]);
  };

  it.each([1, 2, 3])('writes what an upsert writes (seed %i)', async (seed) => {
    const rows = rowsOf(new Random(seed));
    const tables = ['c', 'u'].map((op) => sinkTable(`copied_${op}_${seed}`, [ID, ...COLUMNS]));
    for (const [index, op] of (['c', 'u'] as const).entries()) {
      const table = tables[index]!;
      // So that the table is there to be watched.
      await apply([upsert(table, [-1, ...COLUMNS.map(() => null)])]);
      await watch(table.name);
      await apply(rows.map((row) => upsert(table, row, op)));
    }
    expect(await words(tables[0]!.name)).toEqual(['COPY']);
    expect(await words(tables[1]!.name)).toEqual(['INSERT']);
    const [c, u] = tables.map(({ name }) => `SELECT t::text FROM ${name} t`);
    const { rows: found } = await admin.query(
      `SELECT (SELECT count(*) FROM (${c} INTERSECT ${u}) i)::int AS same, (SELECT count(*) FROM (${c} UNION ${u}) i)::int AS all`,
    );
    expect(found).toEqual([{ same: ROWS + 1, all: ROWS + 1 }]);
  });

  it("fills a user's typed columns, a few rows at a time by an upsert", async () => {
    const table = await usersTable('typed_copy', 'timestamptz');
    const row = (id: number): SinkRowChange => upsert(table, [id, id % 3 === 0 ? null : '2026-11-21T10:00:00.123Z'], 'r');
    await apply(Array.from({ length: ROWS }, (_, id) => row(id)));
    await apply(Array.from({ length: 10 }, (_, id) => row(ROWS + id)));
    expect(await words('typed_copy')).toEqual(['COPY', 'INSERT']);
    const { rows } = await admin.query('SELECT count(*)::int AS n, count(v)::int AS v, min(extract(epoch FROM v))::text AS least FROM typed_copy');
    expect(rows).toEqual([{ n: ROWS + 10, v: 406, least: '1795255200.123000' }]);
  });

  it('overwrites rows that are there, and upserts from then on', async () => {
    const table = await usersTable('overlapping', 'text');
    const row = (id: number, v: string): SinkRowChange => upsert(table, [id, v], 'r');
    await apply([upsert(table, [ROWS - 1, 'streamed before'], 'c')]);
    await apply(
      Array.from({ length: ROWS }, (_, id) => row(id, 'filled')),
      Array.from({ length: ROWS }, (_, id) => row(ROWS + id, 'filled')),
    );
    // The COPY that failed has told nothing: it was taken back.
    expect(await words('overlapping')).toEqual(['INSERT', 'INSERT', 'INSERT']);
    expect((await admin.query('SELECT v, count(*)::int AS n FROM overlapping GROUP BY v')).rows).toEqual([{ v: 'filled', n: 2 * ROWS }]);
  });

  it('goes on when the server refuses the first row while the others are still being sent', async () => {
    const table = await usersTable('large_copy', "text CHECK (v <> 'refused')");
    // More than the buffers between the two hold.
    const many = Array.from({ length: ROWS }, (_, id) => upsert(table, [id, '€'.repeat(6500)], 'c'));
    await expect(apply([upsert(table, [ROWS, 'refused'], 'c'), ...many])).rejects.toMatchObject({ code: 'SINK_ROW_REFUSED' });
    await sink.close();
    await sink.open(contextOf('copy'));
    await apply(many);
    expect(await words('large_copy')).toEqual(['COPY']);
  });

  it('widens a column for one of many rows, and for a row that is updated beside them', async () => {
    const table = sinkTable('widened_copy', [ID, { name: 'n', type: 'INTEGER' }, { name: 'r', type: 'REAL' }]);
    await apply([upsert(table, [-1, 1, 1])]);
    await apply([...Array.from({ length: ROWS }, (_, id) => upsert(table, [id, id, 1e21], 'c')), upsert(table, [-1, 45.5, 'n/a'], 'u')]);
    await apply(Array.from({ length: ROWS }, (_, id) => upsert(table, [ROWS + id, id === ROWS - 1 ? 'many' : id, 0.5], 'c')));
    const { rows } = await admin.query('SELECT n, r FROM widened_copy WHERE id IN (-1, 0, $1) ORDER BY id', [2 * ROWS - 1]);
    expect(rows).toEqual([
      { n: '45.5', r: 'n/a' },
      { n: '0', r: '1000000000000000000000' },
      { n: 'many', r: '0.5' },
    ]);
    expect((await admin.query('SELECT FROM widened_copy')).rowCount).toBe(2 * ROWS + 1);
  });

  it.each<[string, string, Value[], RegExp]>([
    ['a value that a column refuses', 'refused_value', [5, 'SECRET'], /column v.*refuses a value/],
    ['a value that a constraint refuses', 'refused_check', [5, '2000-01-01'], /constraint/],
    ['a key that is NULL', 'refused_key', [null, '2026-01-01'], /column id: a key is NULL/],
    ['U+0000', 'refused_nul', [5, 'a\0b'], /column v: .*U\+0000/],
  ])('refuses %s among many rows, as an upsert does, and leaves nothing', async (_name, name, row, message) => {
    const table = await usersTable(name, "date CHECK (v > '2001-01-01')");
    const many = Array.from({ length: ROWS }, (_, id) => upsert(table, [10 + id, '2026-01-01'], 'r'));
    const error: unknown = await apply([...many, upsert(table, row, 'r')]).catch((reason: unknown) => reason);
    await sink.close();
    await sink.open(contextOf('copy'));
    expect(error).toMatchObject({ code: 'SINK_ROW_REFUSED', message: expect.stringMatching(message) });
    expect(String(error)).not.toContain('SECRET');
    expect((await admin.query(`SELECT FROM ${name}`)).rowCount).toBe(0);
    await sink.rehearse!(batchOf([many], checkpointAt(seq)));
    await apply(many);
    expect(await words(name)).toEqual(['COPY']);
    expect((await admin.query(`SELECT FROM ${name}`)).rowCount).toBe(ROWS);
  });

  it('takes an end of the backend that comes together with the asking for data', async () => {
    await using proxy = await startTcpProxy({ host: '127.0.0.1', port: server.port });
    const endedSink = createSink({ url: server.url.replace(`:${server.port}`, `:${proxy.port}`) });
    await endedSink.open(contextOf('ended'));
    const table = await usersTable('ended', 'text');
    const many = Array.from({ length: ROWS }, (_, id) => upsert(table, [id, 'v'], 'c'));
    // So that the table is known, and nothing else is asked of the server.
    await endedSink.apply(batchOf([[upsert(table, [-1, 'v'])]], checkpointAt(1)));
    let release = (): void => {};
    const applying = endedSink.apply({
      checkpoint: checkpointAt(2),
      parts: async function* () {
        release = proxy.hold();
        yield many;
      },
    });
    const backends = async (what: string): Promise<number> =>
      (await admin.query(`SELECT ${what} FROM pg_stat_activity WHERE application_name = 'waggle ended' AND query LIKE 'SAVEPOINT waggle_copy%'`))
        .rowCount!;
    await until('the COPY to wait for its data', async () => (await backends('pid')) === 1);
    await backends('pg_terminate_backend(pid)');
    await until('the backend to end', async () => (await backends('pid')) === 0);
    release();
    await expect(applying).rejects.toMatchObject({ code: 'SINK_UNREACHABLE', retryable: true });
    await endedSink.close();
  });

  it('loses and doubles nothing when connections are cut at any byte or backends are terminated', { timeout: 120_000 }, async () => {
    await using proxy = await startTcpProxy({ host: '127.0.0.1', port: server.port });
    const cutSink = createSink({ url: server.url.replace(`:${server.port}`, `:${proxy.port}`) });
    // Counts each insert: exactly once means that a batch that was committed is not applied again.
    await admin.query(
      `CREATE TABLE cut (id bigint PRIMARY KEY, v text); CREATE TABLE cut_log (id bigint, word text);
       CREATE FUNCTION cut_log() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO cut_log VALUES (NEW.id, substring(current_query() FROM 'COPY|INSERT')); RETURN NEW; END $$;
       CREATE TRIGGER cut_log AFTER INSERT OR UPDATE ON cut FOR EACH ROW EXECUTE FUNCTION cut_log()`,
    );
    const table = sinkTable('cut', [ID, { name: 'v' }]);
    const context = contextOf('cut');
    let [done, cuts] = [0, 0];
    for (let attempt = 0; attempt < 30 || done < 10; attempt += 1) {
      try {
        done = (await cutSink.open(context))?.seq ?? 0;
        if (attempt % 3 === 0) proxy.cutAfter(Math.floor(Math.random() * 60_000));
        if (attempt % 3 === 1)
          setTimeout(
            () => void admin.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'waggle cut'`).catch(() => {}),
            Math.random() * 30,
          );
        const first = done * 2 * ROWS;
        const parts = [0, 1].map((part) =>
          Array.from({ length: ROWS }, (_, row) => upsert(table, [first + part * ROWS + row, 'a text of some length'], 'c')),
        );
        await cutSink.apply(batchOf(parts, checkpointAt(done + 1)));
        done += 1;
      } catch (error) {
        cuts += 1;
        if (!(error instanceof WaggleError && error.retryable)) throw error;
      } finally {
        await cutSink.close();
      }
    }
    expect(cuts).toBeGreaterThan(5);
    done = (await cutSink.open(context))!.seq;
    await cutSink.close();
    const { rows } = await admin.query('SELECT word, count(*)::int AS n, count(DISTINCT id)::int AS ids FROM cut_log GROUP BY word');
    expect(rows).toEqual([{ word: 'COPY', n: done * 2 * ROWS, ids: done * 2 * ROWS }]);
    expect((await admin.query('SELECT FROM cut')).rowCount).toBe(done * 2 * ROWS);
  });
});
