import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createSink } from '../../connectors/postgres/sink.ts';
import type { Value } from '../../src/change/table.ts';
import type { ColumnKind, Sink, SinkTable } from '../../src/pipeline/sink.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { type PostgresServer, postgresBinaries, serversRequired, startPostgres } from '../helpers/postgres-server.ts';
import { startTcpProxy } from '../helpers/tcp-proxy.ts';
import { auditConformance } from './audit-conformance.ts';
import { conformance } from './conformance.ts';
import { type ConformanceTarget, sqlUsers } from './conformance/target.ts';
import { canonicalReal, selectRows, showInPostgres } from './postgres-rows.ts';
import { batchOf, checkpointAt, contextOf, remove, sinkTable, upsert } from './sink-changes.ts';

const absent = (await postgresBinaries()) === null && !serversRequired();

describe.skipIf(absent)(`postgres${absent ? ' (PostgreSQL is not installed: skipped)' : ''}`, { timeout: 30_000 }, () => {
  let server: PostgresServer;
  let admin: Client;
  beforeAll(async () => {
    server = await startPostgres();
    admin = new Client({ connectionString: server.url });
    await admin.connect();
  }, 60_000);
  afterAll(async () => {
    await admin?.end();
    await server?.stop();
  });

  const run = async (sql: string): Promise<void> => void (await admin.query(sql));
  const target: ConformanceTarget = {
    createSink: () => createSink({ url: server.url }),
    drop: (table) => run(`DROP TABLE ${table.name}`),
    rows: async (table) => {
      const { rows } = await admin.query<Record<string, string | null>>(selectRows(table));
      return rows.map((row) => table.columns.map((column, index) => canonicalReal(row[`c${index}`]!, column)));
    },
    show: showInPostgres,
  };

  conformance(async () => target, { holdsNul: false, atomic: true, rekeys: true, users: sqlUsers(run) });
  auditConformance(async () => target);

  let counter = 0;
  const opened = async (options: { url?: string; schema?: string } = {}): Promise<Sink> => {
    const sink = createSink({ url: server.url, ...options });
    await sink.open(contextOf(`pg_${(counter += 1)}`));
    return sink;
  };
  const apply = (sink: Sink, ...changes: ReturnType<typeof upsert>[]): Promise<void> => sink.apply(batchOf([changes], checkpointAt(1)));
  const typesOf = async (table: string): Promise<Record<string, string>> => {
    const { rows } = await admin.query<{ name: string; type: string }>(
      'SELECT attname AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0',
      [table],
    );
    return Object.fromEntries(rows.map((row) => [row.name, row.type]));
  };

  it('gives columns the types that the user says, in its own tables and in others, and refuses what is none', async () => {
    const plain = sinkTable('kinds', [{ name: 'id', key: true }, { name: 'at' }, { name: 'yes' }, { name: 'tags' }]);
    const kinds = [undefined, 'timestamp', 'boolean', 'json'] as const;
    const table = { ...plain, columns: plain.columns.map((column, index) => ({ ...column, ...(kinds[index] && { kind: kinds[index] }) })) };
    const sink = await opened();
    await apply(sink, upsert(table, ['a', '2026-11-21T10:00:00.123456Z', 1, '{"b": [1]}']), upsert(table, ['b', null, null, null]));
    expect(await typesOf('kinds')).toEqual({ id: 'text', at: 'timestamp with time zone', yes: 'boolean', tags: 'jsonb' });
    const rows = async (name: string): Promise<unknown[]> =>
      (await admin.query(`SELECT id, extract(epoch FROM at)::text AS at, yes, tags->'b'->0 AS tag FROM ${name} ORDER BY id`)).rows;
    const expected = [
      { id: 'a', at: '1795255200.123456', yes: true, tag: 1 },
      { id: 'b', at: null, yes: null, tag: null },
    ];
    expect(await rows('kinds')).toEqual(expected);
    await expect(apply(sink, upsert(table, ['c', 'SECRET', 1, '{}']))).rejects.toMatchObject({
      code: 'SINK_ROW_REFUSED',
      message: expect.not.stringContaining('SECRET'),
    });
    await sink.open(contextOf('kinds'));
    // The types were taken out of the configuration again: the columns stay what they are.
    await expect(apply(sink, upsert(plain, ['c', '2026-11-21T10:00:00Z', 5, '{}']))).rejects.toMatchObject({
      code: 'SINK_ROW_REFUSED',
      message: expect.stringMatching(/column yes: .*does not fit type boolean/),
    });
    await sink.close();
    await admin.query('CREATE TABLE kinds_of_user (id text PRIMARY KEY, at timestamptz, yes boolean, tags json)');
    const theirs = { ...table, name: 'kinds_of_user' };
    const other = await opened();
    await apply(other, upsert(theirs, ['a', '2026-11-21T10:00:00.123456Z', 1, '{"b": [1]}']), upsert(theirs, ['b', null, null, null]));
    await other.close();
    expect(await rows('kinds_of_user')).toEqual(expected);
  });

  it('chooses types and widens them in its own tables', async () => {
    const table = sinkTable('chosen', [
      { name: 'id', type: 'INTEGER', key: true, alwaysInteger: true },
      { name: 'likes', type: 'INTEGER' },
      { name: 'verified', type: 'BOOLEAN' },
      { name: 'at', type: 'DATETIME' },
      { name: 'price', type: 'DECIMAL' },
      { name: 'ratio', type: 'REAL' },
      { name: 'body', type: 'TEXT' },
      { name: 'data', type: 'BLOB' },
      { name: 'any', type: '' },
    ]);
    const sink = await opened();
    await apply(sink, upsert(table, [1, 2, 1, '2026-01-01', 1.5, 0.5, 'x', new Uint8Array([1]), 7]));
    expect(await typesOf('chosen')).toEqual({
      id: 'bigint',
      likes: 'bigint',
      verified: 'bigint',
      at: 'text',
      price: 'numeric',
      ratio: 'double precision',
      body: 'text',
      data: 'bytea',
      any: 'text',
    });
    await apply(sink, upsert(table, [2, 45.5, 1, null, null, 'n/a', null, null, null]));
    expect(await typesOf('chosen')).toMatchObject({ likes: 'numeric', ratio: 'text', price: 'numeric' });
    await apply(sink, upsert(table, [3, 'many', 1, null, null, 1e21, null, null, null]));
    await sink.close();
    expect(await typesOf('chosen')).toMatchObject({ likes: 'text', data: 'bytea' });
    const { rows } = await admin.query('SELECT likes, ratio FROM chosen ORDER BY id');
    expect(rows).toEqual([
      { likes: '2', ratio: '0.5' },
      { likes: '45.5', ratio: 'n/a' },
      { likes: 'many', ratio: '1000000000000000000000' },
    ]);
  });

  it.each<[string, string, Value[]]>([
    ['NUMERIC', 'text', [1, 1.5, 1e300, -2.5e-7, 123456789012345680000, 9007199254740993n]],
    ['REAL', 'text', [1, 1.5, 1e300, -2.5e-7, 1e16, 0.1]],
    ['BLOB', 'text', [new Uint8Array([0]), new Uint8Array([255]), new Uint8Array(0), new Uint8Array([1]), new Uint8Array([2]), new Uint8Array([3])]],
  ])('finds keys of a %s column again after it was widened to %s', async (type, widened, keys) => {
    const table = sinkTable(`widened_${type.toLowerCase()}`, [{ name: 'k', type, key: true }, { name: 'v' }]);
    const sink = await opened();
    await apply(sink, ...keys.map((key) => upsert(table, [key, 'old'])));
    await apply(sink, upsert(table, ['word', 'new']));
    await apply(sink, ...keys.slice(0, 3).map((key) => upsert(table, [key, 'new'])), ...keys.slice(3).map((key) => remove(table, [key])));
    await sink.close();
    expect(await typesOf(table.name)).toMatchObject({ k: widened });
    expect((await admin.query(`SELECT count(*)::int AS n, count(*) FILTER (WHERE v = 'new')::int AS new FROM ${table.name}`)).rows).toEqual([
      { n: 4, new: 4 },
    ]);
  });

  it.each<[string, string, Value]>([
    ['bigint', 'bigint', 45.5],
    ['bigint', 'bigint', 'SECRET'],
    ['integer', 'integer', 5_000_000_000],
    ['varchar', 'varchar(5)', 'SECRET'],
    ['timestamptz', 'timestamptz', 'SECRET'],
    ['uuid', 'uuid', 'SECRET'],
    ['boolean', 'boolean', 2],
    ['jsonb', 'jsonb', '{SECRET'],
    ['text', 'text', new Uint8Array([1])],
    ['bytea', 'bytea', 'SECRET'],
    ['char', 'char(3)', 'SECRET'],
    ['bit', 'bit(3)', '10101'],
    ['check', "text CHECK (v <> 'SECRET')", 'SECRET'],
    ['not null', 'text NOT NULL', null],
  ])("refuses a value in a user's column of type %s", async (_name, type, value) => {
    const name = `users_${(counter += 1)}`;
    await admin.query(`CREATE TABLE ${name} (id text PRIMARY KEY, v ${type})`);
    const table = sinkTable(name, [
      { name: 'id', key: true },
      { name: 'v', type: '' },
    ]);
    const sink = await opened();
    const error: unknown = await apply(sink, upsert(table, ['KEY', value])).catch((reason: unknown) => reason);
    await sink.close();
    expect(error).toMatchObject({ code: 'SINK_ROW_REFUSED', retryable: false });
    if (!(error instanceof Error)) throw new Error('not an error');
    expect(error.message).toContain(name);
    expect(error.message).toMatch(/column v|constraint/);
    expect(JSON.stringify([error.message, error.cause ?? null, error.stack])).not.toMatch(/SECRET|KEY/);
    expect((await admin.query(`SELECT FROM ${name}`)).rowCount).toBe(0);
  });

  it("fills a user's typed columns", async () => {
    await admin.query(
      "CREATE TYPE mood AS ENUM ('ok'); CREATE TABLE typed (id uuid PRIMARY KEY, at timestamptz, ok boolean, doc jsonb, n integer, price numeric(10,2), mood mood, short varchar(5), serial bigint GENERATED ALWAYS AS IDENTITY)",
    );
    const table = sinkTable('typed', [
      { name: 'id', key: true },
      { name: 'at' },
      { name: 'ok', type: 'BOOLEAN' },
      { name: 'doc' },
      { name: 'n', type: 'INTEGER' },
      { name: 'price', type: 'NUMERIC' },
      { name: 'mood' },
      { name: 'short' },
    ]);
    const sink = await opened();
    const id = '2c8f6a3e-0d0d-4f5d-9d66-7a1f0b5f8c11';
    await apply(
      sink,
      upsert(table, [id, '2026-01-01T00:00:00.000Z', 1, '{"a":"\\"x\\""}', 5, 1.25, 'ok', 'abcde']),
      upsert(table, [id.replace('2', '3'), null, 0, null, null, null, null, null]),
    );
    await apply(sink, remove(table, [id.replace('2', '3')]));
    await sink.close();
    const { rows } = await admin.query('SELECT at::text, ok, doc, n, price, mood, short, serial FROM typed');
    expect(rows).toEqual([
      { at: expect.stringContaining('2026-01-01'), ok: true, doc: { a: '"x"' }, n: 5, price: '1.25', mood: 'ok', short: 'abcde', serial: '1' },
    ]);
  });

  describe("a column of the user's with another type", () => {
    const make = async (declared: string, type: string, kind?: ColumnKind): Promise<SinkTable> => {
      const table = sinkTable(`typed_${(counter += 1)}`, [
        { name: 'id', key: true },
        { name: 'v', type: declared },
      ]);
      await admin.query(`CREATE TABLE ${table.name} (id text PRIMARY KEY, v ${type})`);
      return kind === undefined ? table : { ...table, columns: table.columns.with(1, { ...table.columns[1]!, kind }) };
    };

    it.each<[string, string, ColumnKind?]>([
      ['INTEGER', 'uuid'],
      ['INTEGER', 'bytea'],
      ['REAL', 'integer[]'],
      ['TEXT', 'bytea'],
      ['BLOB', 'bigint'],
      ['TEXT', 'jsonb', 'timestamp'],
      ['TEXT', 'integer', 'timestamp'],
      ['INTEGER', 'timestamptz', 'boolean'],
    ])('that holds no value of the kind at all is told before the first row: %s → %s %s', async (declared, type, kind) => {
      const table = await make(declared, type, kind);
      const sink = await opened();
      // Also a row that would do no harm.
      await expect(sink.apply(batchOf([[upsert(table, ['a', null])]], checkpointAt(1)))).rejects.toMatchObject({
        code: 'SINK_TABLE_MISFIT',
        message: expect.stringMatching(
          new RegExp(`table ${table.name}: the column v is .*, which holds no ${kind ?? declared} of the hive$`),
        ) as string,
      });
      await sink.close();
      expect((await admin.query(`SELECT * FROM ${table.name}`)).rows).toEqual([]);
    });

    it.each<[string, string, Value, ColumnKind?]>([
      ['INTEGER', 'text', 5],
      ['INTEGER', 'jsonb', 5],
      ['INTEGER', 'boolean', 1],
      ['INTEGER', 'date', 20_260_101],
      ['REAL', 'integer', 5],
      ['TEXT', 'integer', '5'],
      ['TEXT', 'integer[]', '{5}'],
      ['TEXT', 'uuid', '11111111-1111-1111-1111-111111111111'],
      ['DECIMAL', 'text', 1.5],
      ['BLOB', 'text', 'a text'],
      ['', 'bigint', 5],
      ['TEXT', 'text', '2026-01-01T00:00:00Z', 'timestamp'],
      ['INTEGER', 'integer', 1, 'boolean'],
      ['TEXT', 'integer', '5', 'json'],
    ])('that some values fit takes these: %s → %s', async (declared, type, value, kind) => {
      const table = await make(declared, type, kind);
      const sink = await opened();
      await apply(sink, upsert(table, ['a', value]));
      await sink.close();
      expect((await admin.query(`SELECT * FROM ${table.name}`)).rows.length).toBe(1);
    });
  });

  describe('constraints of the target that were legal in the hive as a whole', () => {
    const users = sinkTable('unique_users', [{ name: 'id', key: true }, { name: 'email' }]);
    const parents = sinkTable('fk_parents', [{ name: 'id', key: true }]);
    const children = sinkTable('fk_children', [{ name: 'id', key: true }, { name: 'parent' }]);

    it.each(['UNIQUE', 'UNIQUE DEFERRABLE'])('a %s value that changes places, moves from a deleted row, goes round', async (unique) => {
      await admin.query(`DROP TABLE IF EXISTS unique_users; CREATE TABLE unique_users (id text PRIMARY KEY, email text ${unique})`);
      const sink = await opened();
      await apply(sink, upsert(users, ['a', 'A']), upsert(users, ['b', 'B']), upsert(users, ['c', 'C']));
      await apply(sink, upsert(users, ['a', 'B']), upsert(users, ['b', 'A']));
      await apply(sink, upsert(users, ['d', 'C']), remove(users, ['c']));
      await apply(sink, upsert(users, ['a', 'A']), upsert(users, ['b', 'C']), upsert(users, ['d', 'B']));
      const { rows } = await admin.query({ text: 'SELECT id, email FROM unique_users ORDER BY id', rowMode: 'array' });
      expect(rows).toEqual([
        ['a', 'A'],
        ['b', 'C'],
        ['d', 'B'],
      ]);
      await expect(apply(sink, upsert(users, ['x', 'A']))).rejects.toMatchObject({ code: 'SINK_ROW_REFUSED' });
      await sink.close();
    });

    it('foreign keys: children come and go in any order, and move to another parent', async () => {
      await admin.query(
        'CREATE TABLE fk_parents (id text PRIMARY KEY); CREATE TABLE fk_children (id text PRIMARY KEY, parent text REFERENCES fk_parents)',
      );
      const sink = await opened();
      await apply(sink, upsert(children, ['c', 'p']), upsert(parents, ['p']));
      await apply(sink, upsert(parents, ['q']), upsert(children, ['c', 'q']), remove(parents, ['p']));
      await apply(sink, remove(parents, ['q']), remove(children, ['c']));
      expect((await admin.query('SELECT FROM fk_children')).rowCount).toBe(0);
      expect((await admin.query('SELECT FROM fk_parents')).rowCount).toBe(0);
      await expect(apply(sink, upsert(children, ['c', 'none']))).rejects.toMatchObject({
        code: 'SINK_ROW_REFUSED',
        message: expect.stringContaining('fk_children'),
      });
      await sink.close();
    });

    it('never deletes a row to write it again where that would take more with it', async () => {
      await admin.query(
        `CREATE TABLE cascading (id text PRIMARY KEY, email text UNIQUE); CREATE TABLE of_the_user (id text REFERENCES cascading ON DELETE CASCADE);
         CREATE TABLE with_more (id text PRIMARY KEY, email text UNIQUE, note text)`,
      );
      for (const name of ['cascading', 'with_more']) {
        const table = sinkTable(name, [{ name: 'id', key: true }, { name: 'email' }]);
        const sink = await opened();
        await apply(sink, upsert(table, ['a', 'A']), upsert(table, ['b', 'B']));
        await admin.query("INSERT INTO of_the_user SELECT 'a' WHERE NOT EXISTS (SELECT FROM of_the_user); UPDATE with_more SET note = 'mine'");
        await expect(apply(sink, upsert(table, ['a', 'B']), upsert(table, ['b', 'A']))).rejects.toMatchObject({ code: 'SINK_ROW_REFUSED' });
        await sink.close();
      }
      expect((await admin.query('SELECT FROM of_the_user')).rowCount).toBe(1);
      expect((await admin.query("SELECT FROM with_more WHERE note = 'mine'")).rowCount).toBe(2);
    });
  });

  it('writes into a schema of its own', async () => {
    const table = sinkTable('t', [{ name: 'id', key: true }]);
    const sink = await opened({ schema: 'My.Schema' });
    await apply(sink, upsert(table, ['1']));
    await sink.close();
    expect((await admin.query('SELECT id FROM "My.Schema".t')).rows).toEqual([{ id: '1' }]);
  });

  it('replaces the primary key when the hive has another one', async () => {
    const name = 'rekeyed';
    const one = sinkTable(name, [{ name: 'waggle_rowid', type: 'INTEGER', key: true, alwaysInteger: true }, { name: 'id' }]);
    const two = sinkTable(name, [{ name: 'id', key: true }]);
    const sink = await opened();
    await apply(sink, upsert(one, [1, 'a']));
    await apply(sink, upsert(two, ['a']), upsert(two, ['b']));
    await sink.close();
    expect((await admin.query('SELECT id FROM rekeyed ORDER BY id')).rows).toEqual([{ id: 'a' }, { id: 'b' }]);
  });

  it('classifies what stands between it and the server, and never shows the password', async () => {
    const failure = async (url: string): Promise<unknown> => {
      const sink = createSink({ url });
      const error: unknown = await sink.open(contextOf('x')).catch((reason: unknown) => reason);
      await sink.close();
      if (!(error instanceof Error)) throw new Error('did not fail');
      expect(`${error.message} ${JSON.stringify(error)} ${String(error.cause)}`).not.toContain('hunter2');
      return error;
    };
    const at = server.url.replace('postgres@', 'postgres:hunter2@');
    expect(await failure(at.replace(`:${server.port}`, ':1'))).toMatchObject({ code: 'SINK_UNREACHABLE', retryable: true });
    expect(await failure(at.replace('127.0.0.1', 'no-such-host.invalid'))).toMatchObject({ code: 'SINK_UNREACHABLE' });
    expect(await failure(at.replace(/postgres$/, 'nodatabase'))).toMatchObject({ code: 'SINK_DENIED', retryable: false });
    expect(await failure(at.replace('postgres:hunter2', 'nobody:hunter2'))).toMatchObject({ code: 'SINK_DENIED' });
    await admin.query('CREATE ROLE reader LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC');
    expect(await failure(at.replace('postgres:hunter2', 'reader:hunter2'))).toMatchObject({ code: 'SINK_DENIED' });
    expect(await failure('postgres://u:hunter2@[bad')).toBeInstanceOf(Error);
  });

  it('waits no longer than its lock timeout for a batch of another runner', async () => {
    const sink = await opened();
    await admin.query('BEGIN; SELECT FROM waggle_checkpoint FOR UPDATE');
    await expect(apply(sink)).rejects.toMatchObject({ code: 'SINK_BUSY', retryable: true });
    await admin.query('ROLLBACK');
    await sink.close();
  });

  it('loses and doubles nothing when connections are cut at any byte or backends are terminated', { timeout: 120_000 }, async () => {
    await using proxy = await startTcpProxy({ host: '127.0.0.1', port: server.port });
    const sink = createSink({ url: server.url.replace(`:${server.port}`, `:${proxy.port}`) });
    // Counts each insert: exactly once means that a batch that was committed is not applied again.
    await admin.query(
      `CREATE TABLE cut (id bigint PRIMARY KEY, batch bigint); CREATE TABLE cut_log (id bigint, batch bigint);
       CREATE FUNCTION cut_log() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO cut_log VALUES (NEW.id, NEW.batch); RETURN NEW; END $$;
       CREATE TRIGGER cut_log AFTER INSERT OR UPDATE ON cut FOR EACH ROW EXECUTE FUNCTION cut_log()`,
    );
    const table = sinkTable('cut', [
      { name: 'id', type: 'INTEGER', key: true, alwaysInteger: true },
      { name: 'batch', type: 'INTEGER' },
    ]);
    const context = contextOf('cut');
    let seq = 0;
    let cuts = 0;
    for (let attempt = 0; attempt < 60 || seq < 20; attempt += 1) {
      try {
        const checkpoint = await sink.open(context);
        if (checkpoint !== null) seq = checkpoint.seq;
        if (attempt % 3 === 0) proxy.cutAfter(Math.floor(Math.random() * 6000));
        if (attempt % 3 === 1)
          setTimeout(
            () => void admin.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'waggle cut'`).catch(() => {}),
            Math.random() * 15,
          );
        const next = seq + 1;
        const parts = Array.from({ length: 4 }, (_, part) => Array.from({ length: 50 }, (_row, row) => upsert(table, [part * 50 + row, next])));
        await sink.apply(batchOf(parts, checkpointAt(next)));
        seq = next;
      } catch (error) {
        cuts += 1;
        if (!(error instanceof WaggleError && error.retryable)) throw error;
      } finally {
        await sink.close();
      }
    }
    expect(cuts).toBeGreaterThan(10);
    const { rows } = await admin.query('SELECT batch::int, count(*)::int AS n FROM cut_log GROUP BY batch ORDER BY batch');
    const last = (await sink.open(context))!.seq;
    await sink.close();
    expect(rows).toEqual(Array.from({ length: last }, (_, index) => ({ batch: index + 1, n: 200 })));
    expect((await admin.query('SELECT DISTINCT batch::int FROM cut')).rows).toEqual([{ batch: last }]);
  });
});
