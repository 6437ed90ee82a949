import type { RowDataPacket } from 'mysql2/promise';
import { describe, expect, it } from 'vitest';
import { bind } from '../../connectors/mysql/column-type.ts';
import { createSink } from '../../connectors/mysql/sink.ts';
import type { MysqlOptions } from '../../connectors/mysql/options.ts';
import type { Value } from '../../src/change/table.ts';
import type { ColumnKind, Sink, SinkTable } from '../../src/pipeline/sink.ts';
import type { WaggleError } from '../../src/support/errors.ts';
import { auditConformance } from './audit-conformance.ts';
import { conformance } from './conformance.ts';
import { type ConformanceTarget, sqlUsers } from './conformance/target.ts';
import { mysqlRows, showInMysql } from './mysql-rows.ts';
import { MARIADB_ABSENT, MysqlScene, sinkFailure } from './mysql-scene.ts';
import { applyPassing } from './refused-rows.ts';
import { batchOf, checkpointAt, type ColumnSpec, contextOf, remove, sinkTable, upsert } from './sink-changes.ts';

const KEY_TYPE = 'varchar(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin';

describe.skipIf(MARIADB_ABSENT)(`mysql${MARIADB_ABSENT ? ' (MariaDB is not installed: skipped)' : ''}`, { timeout: 30_000 }, () => {
  const scene = MysqlScene.use(['--max-allowed-packet=2M']);
  const target: ConformanceTarget = {
    createSink: () => createSink({ url: scene.server.url }),
    drop: (table) => scene.run(`DROP TABLE ${table.name}`),
    rows: (table) => mysqlRows(scene.admin, table),
    show: showInMysql,
  };

  conformance(async () => target, { holdsNul: true, atomic: true, rekeys: true, users: sqlUsers((sql) => scene.run(sql), KEY_TYPE) });
  // DDL commits: the sink names the row instead.
  auditConformance(async () => target, { without: ['rehearses a batch and leaves nothing of it'] });

  let counter = 0;
  const opened = async (options: MysqlOptions = { url: scene.server.url }): Promise<Sink> => {
    const sink = createSink(options);
    await sink.open(contextOf(`mysql_${(counter += 1)}`));
    return sink;
  };
  const apply = (sink: Sink, ...changes: ReturnType<typeof upsert>[]): Promise<void> => sink.apply(batchOf([changes], checkpointAt(1)));

  it('chooses types and widens them in its own tables', async () => {
    const table = sinkTable('chosen', [
      { name: 'id', key: true },
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
    await apply(sink, upsert(table, ['1', 2, 1, '2026-01-01', 1.5, 0.5, 'x', new Uint8Array([1]), 7]));
    expect(await scene.typesOf('chosen')).toEqual({
      id: 'varchar(768)',
      likes: 'bigint',
      verified: 'bigint',
      at: 'longtext',
      price: 'double',
      ratio: 'double',
      body: 'longtext',
      data: 'longblob',
      any: 'longtext',
    });
    await apply(sink, upsert(table, ['2', 45.5, 1, null, 9007199254740993n, 'n/a', null, null, null]));
    expect(await scene.typesOf('chosen')).toMatchObject({ likes: 'double', ratio: 'longtext', price: 'longtext' });
    await apply(sink, upsert(table, ['3', Infinity, 9007199254740993n, null, null, 1e21, null, 'text', null]));
    await apply(sink, upsert(table, ['4', -1e-20, 0.5, null, null, null, null, null, null]));
    await sink.close();
    expect(await scene.typesOf('chosen')).toMatchObject({ likes: 'longtext', data: 'longtext', verified: 'longtext', ratio: 'longtext' });
    expect(Object.keys(await scene.typesOf('chosen'))).toEqual(['id', 'likes', 'verified', 'at', 'price', 'ratio', 'body', 'data', 'any']);
    expect(
      await mysqlRows(
        scene.admin,
        sinkTable(
          'chosen',
          ['likes', 'verified', 'price', 'ratio', 'data'].map((name) => ({ name })),
        ),
      ),
    ).toEqual([
      ['2', '1', '1.5', '0.5', '\\x01'],
      ['45.5', '1', '9007199254740993', 'n/a', null],
      ['Infinity', '9007199254740993', null, '1000000000000000000000', 'text'],
      ['-0.00000000000000000001', '0.5', null, null, null],
    ]);
  });

  it.each<[string, Value[]]>([
    ['NUMERIC', [1, 1.5, 1e300, -2.5e-7, 1234567890123456.8, -1e15]],
    ['REAL', [1, 1.5, 1e300, -2.5e-7, 1e16, 0.1]],
    ['INTEGER', [1, 2, -3, 9223372036854775807n, -9223372036854775808n, 0]],
    ['BLOB', [new Uint8Array([0]), new Uint8Array([255]), new Uint8Array(0), new Uint8Array([1]), new Uint8Array([2]), new Uint8Array([3])]],
  ])('finds keys of a %s column again after it was widened to text', async (type, keys) => {
    const table = sinkTable(`widened_${type.toLowerCase()}`, [{ name: 'k', type, key: true }, { name: 'v' }]);
    const sink = await opened();
    await apply(sink, ...keys.map((key) => upsert(table, [key, 'old'])));
    await apply(sink, upsert(table, ['word', 'new']));
    await apply(sink, ...keys.slice(0, 3).map((key) => upsert(table, [key, 'new'])), ...keys.slice(3).map((key) => remove(table, [key])));
    await sink.close();
    expect(await scene.typesOf(table.name)).toEqual({ k: 'varchar(768)', v: 'longtext' });
    expect((await scene.select(`SELECT count(*) AS n, sum(v = 'new') AS new FROM ${table.name}`))[0]).toEqual({ n: '4', new: '4' });
  });

  it('deletes by exact integers, also above 2^53', async () => {
    const table = sinkTable('exact', [{ name: 'id', type: 'INTEGER', key: true, alwaysInteger: true }]);
    const sink = await opened();
    await apply(sink, upsert(table, [9007199254740992n]), upsert(table, [9007199254740993n]), upsert(table, [9007199254740991]));
    await apply(sink, remove(table, [9007199254740992n]));
    await sink.close();
    expect(await scene.select('SELECT id FROM exact ORDER BY id')).toEqual([{ id: '9007199254740991' }, { id: '9007199254740993' }]);
  });

  it.each<[string, Value]>([
    ['bigint', 45.5],
    ['bigint', '45.5'],
    ['bigint', 'SECRET'],
    ['int', 5_000_000_000],
    ['bigint unsigned', -1],
    ['double', Infinity],
    ['double', 'SECRET'],
    ['varchar(5)', 'SECRET'],
    ['datetime', 'SECRET'],
    ['date', '2026-02-30'],
    ["enum('a')", 'SECRET'],
    ['longtext CHECK (json_valid(v))', '{SECRET'],
    ['text', new Uint8Array([1])],
    ['blob', 'SECRET'],
    ['varbinary(3)', new Uint8Array(4)],
    ['decimal(4,2)', 123.5],
    ["text CHECK (v <> 'SECRET')", 'SECRET'],
    ['text NOT NULL', null],
    ['varchar(10) CHARACTER SET latin1', '漢字'],
  ])("refuses a value in a user's column of type %s", async (type, value) => {
    const name = `users_${(counter += 1)}`;
    await scene.run(`CREATE TABLE ${name} (id ${KEY_TYPE} PRIMARY KEY, v ${type})`);
    const table = sinkTable(name, [
      { name: 'id', key: true },
      { name: 'v', type: '' },
    ]);
    const sink = await opened();
    const error = await sinkFailure(apply(sink, upsert(table, ['KEY', value])));
    await sink.close();
    expect(error).toMatchObject({ code: 'SINK_ROW_REFUSED', retryable: false });
    expect(error.message).toContain(name);
    expect(error.message).toMatch(/column v|CHECK/);
    expect(await scene.select(`SELECT id FROM ${name}`)).toEqual([]);
  });

  it("fills a user's typed columns", async () => {
    await scene.run(
      "CREATE TABLE typed (id uuid PRIMARY KEY, at datetime(3), ok boolean, doc json, n int, price decimal(10,2), mood enum('ok'), short varchar(5), serial int NOT NULL AUTO_INCREMENT UNIQUE)",
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
    const other = id.replace('2', '3');
    await apply(
      sink,
      upsert(table, [id, '2026-01-01T00:00:00.678Z', 1, '{"a":"\\"x\\""}', 5, 1.25, 'ok', 'abcde']),
      upsert(table, [other, null, 0, null, null, null, null, null]),
    );
    await apply(sink, remove(table, [other]), upsert(table, [id, '2026-01-01T00:00:00.678Z', 1, '{"a":"\\"x\\""}', 6, 1.25, 'ok', 'abcde']));
    await sink.close();
    expect(await scene.select('SELECT at, ok, doc, n, price, mood, short, serial FROM typed')).toEqual([
      { at: '2026-01-01 00:00:00.678', ok: '1', doc: '{"a":"\\"x\\""}', n: '6', price: '1.25', mood: 'ok', short: 'abcde', serial: '1' },
    ]);
  });

  it('never takes another row for the one it means, where a table has a second unique index', async () => {
    await scene.run(`CREATE TABLE mails (id ${KEY_TYPE} PRIMARY KEY, email varchar(50) UNIQUE, mine int DEFAULT 7)`);
    const table = sinkTable('mails', [{ name: 'id', key: true }, { name: 'email' }]);
    const sink = await opened();
    await apply(sink, upsert(table, ['1', 'a@x']), upsert(table, ['2', 'b@x']));
    await apply(sink, remove(table, ['1']), upsert(table, ['3', 'a@x']), upsert(table, ['2', 'B@x']));
    expect(await scene.select('SELECT * FROM mails ORDER BY id')).toEqual([
      { id: '2', email: 'B@x', mine: '7' },
      { id: '3', email: 'a@x', mine: '7' },
    ]);
    const error = await sinkFailure(apply(sink, upsert(table, ['9', 'b@x'])));
    expect(error).toMatchObject({ code: 'SINK_ROW_REFUSED', message: expect.stringContaining('table mails') });
    await sink.close();
    expect(await scene.select('SELECT id FROM mails ORDER BY id')).toEqual([{ id: '2' }, { id: '3' }]);
  });

  it('unique values change places, over any number of rows; never where a column of the user would be lost', async () => {
    await scene.run(`CREATE TABLE places (id bigint PRIMARY KEY, email varchar(50) COLLATE utf8mb4_nopad_bin UNIQUE)`);
    const table = sinkTable('places', [{ name: 'id', type: 'INTEGER', key: true, alwaysInteger: true }, { name: 'email' }]);
    const sink = await opened();
    const rows = Array.from({ length: 1500 }, (_, index): [number, string] => [index, `e${index}`]);
    await apply(sink, ...rows.map((row) => upsert(table, row)));
    // Each row takes the value of the next one, which gives it up only afterwards; the last that of one that is deleted.
    const moved = rows.slice(0, -1).map(([id], index): [number, string] => [id, `e${index + 1}`]);
    await apply(sink, ...moved.map((row) => upsert(table, row)), remove(table, [1499]));
    expect(await scene.select('SELECT id, email FROM places ORDER BY id')).toEqual(moved.map(([id, email]) => ({ id: String(id), email })));
    await apply(sink, upsert(table, [0, 'e2']), upsert(table, [1, 'e1']));
    expect(await scene.select('SELECT email FROM places WHERE id < 2 ORDER BY id')).toEqual([{ email: 'e2' }, { email: 'e1' }]);
    await sink.close();
    await scene.run('ALTER TABLE places ADD COLUMN note int DEFAULT 7');
    const again = await opened();
    const error = await sinkFailure(apply(again, upsert(table, [0, 'e1']), upsert(table, [1, 'e2'])));
    expect(error).toMatchObject({ code: 'SINK_ROW_REFUSED', change: { key: [0] } });
    await again.close();
  });

  it('names each row that a column or constraint of the user refuses, and writes the others, beside DDL too', async () => {
    await scene.run(
      `CREATE TABLE strict (id bigint PRIMARY KEY, email varchar(20) UNIQUE, n tinyint, short varchar(5) NOT NULL, price decimal(4,2), at datetime,
         doc json, CHECK (n <> 13))`,
    );
    await scene.run(
      "CREATE TRIGGER no_deletes BEFORE DELETE ON strict FOR EACH ROW IF OLD.id = 4 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'SECRET'; END IF",
    );
    const columns = ['email', 'n', 'short', 'price', 'at', 'doc'];
    const table = sinkTable('strict', [
      { name: 'id', type: 'INTEGER', key: true, alwaysInteger: true },
      ...columns.map((name) => ({ name, type: name === 'n' ? 'INTEGER' : '' })),
    ]);
    const other = sinkTable('strict_beside', [
      { name: 'id', key: true },
      { name: 'v', type: 'INTEGER' },
    ]);
    const good = (id: number): Value[] => [id, `e${id}`, 1, 'ok', 1.5, '2026-11-21T10:00:00Z', '{}'];
    const wrong: [number, string, Value, RegExp][] = [
      [100, 'email', 'e99', /unique index/],
      [700, 'n', 128, /out of the range/],
      [800, 'n', 13, /CHECK/],
      [1200, 'short', 'too long', /column short: .*too long/],
      [1201, 'short', null, /column short: .*NULL/],
      [2400, 'price', 100, /out of the range/],
      [2401, 'at', 'no date', /table strict/],
      [2402, 'doc', '{SECRET', /CHECK|table strict/],
      [2403, 'n', 'word', /column n: .*does not fit/],
    ];
    const rows = Array.from({ length: 2500 }, (_, id) => {
      const row = good(id);
      for (const [at, column, value] of wrong) if (at === id) row[columns.indexOf(column) + 1] = value;
      return upsert(table, row);
    });
    const parts = [
      [upsert(other, ['x', 1]), ...rows.slice(0, 600)],
      [...rows.slice(600, 1300), upsert(other, ['y', 'word'])],
      [...rows.slice(1300), upsert(table, good(5))],
    ];
    const name = 'strict_sink';
    const sink = createSink({ url: scene.server.url });
    await sink.open(contextOf(name));
    const refused = await applyPassing({ sink, name }, parts, checkpointAt(1));
    const found = refused.map(({ change, error }) => [Number('key' in change && change.key[0]), error.message] as const).sort((a, b) => a[0] - b[0]);
    expect(found).toEqual(wrong.map(([id, , , message]) => [id, expect.stringMatching(message)]));
    expect(found.join()).not.toContain('SECRET');
    expect(await scene.select('SELECT count(*) AS n FROM strict')).toEqual([{ n: String(rows.length - wrong.length) }]);
    expect(await scene.select('SELECT * FROM strict_beside ORDER BY id')).toEqual([
      { id: 'x', v: '1' },
      { id: 'y', v: 'word' },
    ]);
    const deletes = await applyPassing({ sink, name }, [[3, 4, 5].map((id) => remove(table, [id]))], checkpointAt(2));
    expect(deletes.map(({ change }) => 'key' in change && change.key)).toEqual([[4]]);
    expect(deletes[0]!.error.message).not.toContain('SECRET');
    expect(await scene.select('SELECT id FROM strict WHERE id < 7 ORDER BY id')).toEqual([0, 1, 2, 4, 6].map((id) => ({ id: String(id) })));
    await sink.close();
  });

  it('gives columns the types that the user says, in its own tables and in others, and refuses what is none', async () => {
    const plain: ColumnSpec[] = [{ name: 'id', key: true }, { name: 'at' }, { name: 'yes', type: 'BOOLEAN' }, { name: 'tags' }];
    const kinds = [undefined, 'timestamp', 'boolean', 'json'] as const;
    const columns = plain.map((column, index) => ({ ...column, ...(kinds[index] && { kind: kinds[index] }) }));
    const table = sinkTable('kinds', columns);
    const changes = [
      ['a', '2026-11-21T10:00:00.123456Z', 1, '{"b": [1]}'],
      ['b', null, null, null],
      ['c', '2026-11-21T10:00:00.1234569Z', 0, '5'],
    ];
    const sink = await opened();
    await apply(sink, ...changes.map((row) => upsert(table, row)));
    expect(await scene.typesOf('kinds')).toEqual({
      id: 'varchar(768)',
      at: 'datetime(6)',
      yes: 'tinyint(1)',
      tags: expect.stringMatching(/^(json|longtext)$/),
    });
    const rows = (name: string): Promise<RowDataPacket[]> =>
      scene.select(`SELECT at, yes, JSON_EXTRACT(tags, '$.b[0]') AS tag FROM ${name} ORDER BY id`);
    const expected = [
      { at: '2026-11-21 10:00:00.123456', yes: '1', tag: '1' },
      { at: null, yes: null, tag: null },
      { at: '2026-11-21 10:00:00.123456', yes: '0', tag: null },
    ];
    expect(await rows('kinds')).toEqual(expected);
    // MySQL would round it.
    expect(bind('2026-11-21T10:00:00.1234569Z', 'time', true)).toBe('2026-11-21 10:00:00.123456');
    await expect(apply(sink, upsert(table, ['x', 'SECRET', 1, '{}']))).rejects.toMatchObject({ code: 'SINK_ROW_REFUSED', change: { key: ['x'] } });
    await sink.close();
    const again = await opened();
    // The types were taken out of the configuration again: the columns stay what they are.
    for (const [column, value] of [
      [2, 5],
      [2, 'true'],
      [3, '{SECRET'],
      [1, 7],
    ] as const) {
      const error = await sinkFailure(apply(again, upsert(sinkTable('kinds', plain), ['d', null, null, null].with(column, value as never))));
      expect(error).toMatchObject({ code: 'SINK_ROW_REFUSED' });
      await again.close();
      await again.open(contextOf('kinds_again'));
    }
    await again.close();
    await scene.run(`CREATE TABLE kinds_of_user (id ${KEY_TYPE} PRIMARY KEY, at timestamp(6) NULL, yes boolean, tags json)`);
    const other = await opened();
    await apply(other, ...changes.map((row) => upsert({ ...table, name: 'kinds_of_user' }, row)));
    await other.close();
    expect(await rows('kinds_of_user')).toEqual(expected);
  });

  const typedTable = async (declared: string, type: string, kind?: ColumnKind): Promise<SinkTable> => {
    const name = `declared_${(counter += 1)}`;
    await scene.run(`CREATE TABLE ${name} (id ${KEY_TYPE} PRIMARY KEY, v ${type})`);
    return sinkTable(name, [
      { name: 'id', key: true },
      { name: 'v', type: declared, ...(kind && { kind }) },
    ]);
  };

  it.each<[string, string, ColumnKind?]>([
    ['INTEGER', 'blob'],
    ['INTEGER', 'datetime(3)'],
    ['REAL', 'varbinary(8)'],
    ['TEXT', 'longblob'],
    ['BLOB', 'bigint'],
    ['BLOB', 'timestamp(6) NULL'],
    ['TEXT', 'int', 'timestamp'],
    ['INTEGER', 'date', 'boolean'],
    ['TEXT', 'binary(4)', 'json'],
  ])("tells before the first row that a column of the user's holds no value of the kind at all: %s → %s %s", async (declared, type, kind) => {
    const table = await typedTable(declared, type, kind);
    const sink = await opened();
    // Also a row that would do no harm.
    expect(await sinkFailure(apply(sink, upsert(table, ['a', null])))).toMatchObject({
      code: 'SINK_TABLE_MISFIT',
      message: expect.stringMatching(new RegExp(`table ${table.name}: the column v is .*, which holds no ${kind ?? declared} of the hive$`)),
    });
    await sink.close();
    expect(await scene.select(`SELECT id FROM ${table.name}`)).toEqual([]);
  });

  it.each<[string, string, Value, ColumnKind?]>([
    ['INTEGER', 'text', 5],
    ['INTEGER', 'boolean', 1],
    ['REAL', 'int', 5],
    ['TEXT', 'int', '5'],
    ['TEXT', 'datetime', '2026-01-01T00:00:00Z'],
    ['DATETIME', 'date', '2026-01-01'],
    ['DECIMAL', 'text', 1.5],
    ['BLOB', 'text', 'a text'],
    ['', 'blob', new Uint8Array([5])],
    ['', 'bigint', 5],
    ['TEXT', 'text', '2026-01-01T00:00:00Z', 'timestamp'],
    ['INTEGER', 'int', 1, 'boolean'],
    ['TEXT', 'int', '5', 'json'],
  ])("takes what fits into a user's column that some values fit: %s → %s", async (declared, type, value, kind) => {
    const table = await typedTable(declared, type, kind);
    const sink = await opened();
    await apply(sink, upsert(table, ['a', value]));
    await sink.close();
    expect((await scene.select(`SELECT id FROM ${table.name}`)).length).toBe(1);
  });

  it('kinds in a key, and beside a new key', async () => {
    const spec = (name: string, kind: 'timestamp' | 'boolean' | 'json', key: boolean): ColumnSpec => ({ name, kind, key, type: 'TEXT' });
    const all = (key: boolean): ColumnSpec[] => [spec('at', 'timestamp', key), spec('yes', 'boolean', key), spec('doc', 'json', key)];
    const one = sinkTable('kind_keys', [{ name: 'id', key: true }, ...all(false)]);
    const two = sinkTable('kind_keys', [{ name: 'id' }, ...all(true)]);
    const sink = await opened();
    await apply(sink, upsert(one, ['a', '2026-11-21T10:00:00Z', 1, '[]']));
    await apply(sink, upsert(two, ['b', '2026-11-21T10:00:00Z', 0, '[]']), remove(two, ['2026-11-21T10:00:00Z', 1, '[]']));
    expect(await scene.typesOf('kind_keys')).toMatchObject({ at: 'datetime(6)', yes: 'tinyint(1)', doc: expect.stringMatching(/^(varchar|json)/) });
    await sink.close();
    expect(await scene.select('SELECT id, yes FROM kind_keys')).toEqual([{ id: 'b', yes: '0' }]);
    const fresh = sinkTable('kind_keys_new', all(true));
    const other = await opened();
    await apply(other, upsert(fresh, ['2026-11-21T10:00:00Z', 1, '[1]']), upsert(fresh, ['2026-11-21T10:00:00Z', 0, '[1]']));
    await apply(other, remove(fresh, ['2026-11-21T10:00:00Z', 1, '[1]']));
    expect(await scene.select('SELECT yes FROM kind_keys_new')).toEqual([{ yes: '0' }]);
    await expect(other.audit!.keys(fresh, null, 10)).rejects.toMatchObject({ code: 'SINK_NOT_READABLE' });
    await other.close();
  });

  it("compares rows with a user's table as the server would store them", async () => {
    await scene.run(
      `CREATE TABLE rounded (id ${KEY_TYPE} PRIMARY KEY, price decimal(10,2), at datetime(3), word varchar(10) COLLATE utf8mb4_general_ci, single float,
         code char(4), mood enum('ok', 'bad'))`,
    );
    const names = ['price', 'at', 'word', 'single', 'code', 'mood'];
    const table = sinkTable('rounded', [{ name: 'id', key: true }, ...names.map((name) => ({ name, type: '' }))]);
    const sink = await opened();
    const row: Value[] = ['a', 1.255, '2026-11-21T10:00:00.1236Z', 'Ärger ', 0.1, 'ab', 'ok'];
    const late: Value[] = ['b', null, null, null, null, null, null];
    await apply(sink, upsert(table, row), upsert(table, late));
    const { compare } = sink.audit!;
    expect(await compare(table, [row, late])).toEqual({ missing: [], changed: [] });
    for (const [column, value] of [
      ['price', 1.265],
      ['at', '2026-11-21T10:00:00.1246Z'],
      ['word', 'Ärger'],
      ['word', 'arger '],
      ['single', 0.1000001],
      ['code', 'abc'],
      ['mood', 'bad'],
      // What no such column holds is not in it.
      ['price', 'SECRET'],
      ['at', 'SECRET'],
      ['word', 'a word that is too long'],
      ['mood', 'SECRET'],
      ['price', new Uint8Array([1])],
    ] as const)
      expect(await compare(table, [row.with(1 + names.indexOf(column), value), late])).toEqual({ missing: [], changed: [0] });
    const strange: Value[][] = [
      ['c', ...row.slice(1)],
      [null, ...row.slice(1)],
      ['c', 'SECRET', ...row.slice(2)],
      ['x'.repeat(200), ...row.slice(1)],
      [new Uint8Array([1]), ...row.slice(1)],
    ];
    const { missing, changed } = await compare(table, [row, ...strange]);
    expect([new Set(missing), changed]).toEqual([new Set([1, 2, 3, 4, 5]), []]);
    const [told, nothing] = await sink.audit!.differences!(table, [['a', 'SECRET', '2026-11-21T10:00:00Z', 'Ärger', 0.1, 'ab', null], ...strange]);
    expect(told!.map(({ column, found }) => [names[column - 1], found])).toEqual([
      ['price', '1.26'],
      ['at', '2026-11-21 10:00:00.123'],
      ['word', 'Ärger '],
      ['mood', 'ok'],
    ]);
    expect(nothing).toEqual([]);
    await sink.close();
  });

  it.each(['char(10) COLLATE utf8mb4_nopad_bin', 'decimal(10,2)', 'float', 'datetime', 'binary(4)'])(
    'does not read keys of type %s back',
    async (type) => {
      const name = `strange_keys_${(counter += 1)}`;
      await scene.run(`CREATE TABLE ${name} (id ${type} PRIMARY KEY)`);
      const sink = await opened();
      const table = sinkTable(name, [{ name: 'id', key: true }]);
      await expect(sink.audit!.keys(table, null, 10)).rejects.toMatchObject({ code: 'SINK_NOT_READABLE', message: expect.stringContaining(name) });
      expect(await sink.audit!.count(table)).toBe(0);
      await sink.close();
    },
  );

  it("refuses a key column of the user's in which two keys of the hive could be one", async () => {
    await scene.run('CREATE TABLE folded (id varchar(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY)');
    const sink = await opened();
    const error = await sinkFailure(apply(sink, upsert(sinkTable('folded', [{ name: 'id', key: true }]), ['a'])));
    expect(error).toMatchObject({ code: 'SINK_TABLE_MISFIT', hint: expect.stringContaining('utf8mb4_nopad_bin') });
    await sink.close();
  });

  it('says so when two columns are one for MySQL', async () => {
    const table = sinkTable('umlauts', [{ name: 'id', key: true }, { name: 'ärger' }, { name: 'Ärger' }]);
    const sink = await opened();
    const error = await sinkFailure(apply(sink, upsert(table, ['1', 'a', 'b'])));
    expect(error).toMatchObject({ code: 'SINK_TABLE_MISFIT', hint: expect.stringContaining('rename') });
    await sink.close();
  });

  it('divides what is larger than max_allowed_packet, and refuses a single row that is', async () => {
    const table = sinkTable('large', [
      { name: 'id', type: 'INTEGER', key: true, alwaysInteger: true },
      { name: 'body' },
      { name: 'data', type: 'BLOB' },
    ]);
    const sink = await opened();
    const body = (size: number): string => 'ä'.repeat(size / 2);
    await apply(
      sink,
      ...Array.from({ length: 40 }, (_, id) => upsert(table, [id, body(300_000), null])),
      upsert(table, [40, body(1_000_000), new Uint8Array(1_000_000)]),
    );
    expect(await scene.select('SELECT count(*) AS n, sum(length(body)) AS bytes FROM large')).toEqual([{ n: '41', bytes: '13000000' }]);
    const error = await sinkFailure(apply(sink, upsert(table, [41, body(100), null]), upsert(table, [42, body(2_200_000), null])));
    expect(error).toMatchObject({ code: 'SINK_ROW_REFUSED', message: expect.stringMatching(/table large, column body.*max_allowed_packet/) });
    await sink.close();
    expect(await scene.select('SELECT count(*) AS n FROM large')).toEqual([{ n: '41' }]);
  });

  it('refuses a key that is longer than an index of MySQL takes', async () => {
    const table = sinkTable('longkeys', [{ name: 'id', key: true }]);
    const sink = await opened();
    await apply(sink, upsert(table, ['😀'.repeat(768)]));
    const error = await sinkFailure(apply(sink, upsert(table, ['x'.repeat(769)])));
    expect(error).toMatchObject({ code: 'SINK_ROW_REFUSED', message: expect.stringMatching(/table longkeys, column id: .*too long/) });
    await sink.close();
  });

  it('classifies what stands between it and the server, and never shows the password', async () => {
    const opening = async (options: MysqlOptions): Promise<WaggleError> => {
      const sink = createSink(options);
      const error = await sinkFailure(sink.open(contextOf('x')));
      await sink.close();
      return error;
    };
    const { port } = scene.server;
    const at = { host: '127.0.0.1', port, user: 'root', database: 'waggle' };
    expect(await opening({ ...at, port: 1 })).toMatchObject({ code: 'SINK_UNREACHABLE', retryable: true });
    expect(await opening({ ...at, host: 'no-such-host.invalid' })).toMatchObject({ code: 'SINK_UNREACHABLE' });
    expect(await opening({ ...at, tls: 'verify' })).toMatchObject({ code: 'SINK_UNREACHABLE' });
    expect(await opening({ ...at, database: 'nodatabase' })).toMatchObject({
      code: 'SINK_DENIED',
      retryable: false,
      hint: expect.stringContaining('Create'),
    });
    expect(await opening({ ...at, password: 'hunter2' })).toMatchObject({ code: 'SINK_DENIED', retryable: false });
    expect(await opening({ url: `mysql://root:hunter2@127.0.0.1:${port}/waggle` })).toMatchObject({ code: 'SINK_DENIED' });
    await scene.run("CREATE USER reader@'127.0.0.1'; CREATE DATABASE foreign_one; GRANT SELECT ON foreign_one.* TO reader@'127.0.0.1'");
    expect(await opening({ ...at, user: 'reader', database: 'foreign_one' })).toMatchObject({ code: 'SINK_DENIED', retryable: false });
  });

  it('waits no longer than its lock timeout for a batch of another runner', async () => {
    const sink = await opened();
    await scene.run('START TRANSACTION; SELECT * FROM waggle_checkpoint FOR UPDATE');
    expect(await sinkFailure(apply(sink))).toMatchObject({ code: 'SINK_BUSY', retryable: true });
    await scene.run('ROLLBACK');
    await sink.close();
  });
});
