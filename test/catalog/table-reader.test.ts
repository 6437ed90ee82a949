/** Tables as the catalog tells them, against SQLite's own answers for rows that exist. */
import Database from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import type { SchemaRow } from '../../src/catalog/schema-rows.ts';
import { readTables } from '../../src/catalog/table-reader.ts';
import type { Table } from '../../src/change/table.ts';

const schemaOf = (db: Database.Database): SchemaRow[] =>
  db.prepare<[], SchemaRow>('SELECT type, name, rootpage AS root, sql FROM sqlite_schema').all();

const tablesOf = (sql: string, captured: (name: string) => boolean = () => true): Map<string, Table> => {
  const db = new Database(':memory:');
  db.exec(sql);
  return new Map(readTables(schemaOf(db), captured).map(({ table }) => [table.name, table]));
};

const only = (sql: string): Table => tablesOf(sql).values().next().value!;

describe('rowid alias and key', () => {
  it.each<[string, number, number[]]>([
    ['id INTEGER PRIMARY KEY, v', 0, [0]],
    ['id integer PRIMARY KEY AUTOINCREMENT, v', 0, [0]],
    ['v, id "INTEGER", PRIMARY KEY (id)', 1, [1]],
    ['v, id INTEGER, PRIMARY KEY (id DESC)', 1, [1]],
    ['id INTEGER PRIMARY KEY DESC, v', -1, [0]],
    ['id INT PRIMARY KEY, v', -1, [0]],
    ['id TEXT PRIMARY KEY, v', -1, [0]],
    ['id BIGINT PRIMARY KEY', -1, [0]],
    ['a, b, c, PRIMARY KEY (c, a)', -1, [2, 0]],
    ['a INTEGER, b INTEGER, PRIMARY KEY (a, b)', -1, [0, 1]],
    ['a, b', -1, []],
  ])('(%s)', (columns, alias, key) => {
    const table = only(`CREATE TABLE t (${columns})`);
    expect([table.rowidAlias, table.key]).toEqual([alias, key]);
    // SQLite's word: where the column is an alias, it is the rowid.
    if (key.length !== 1) return;
    const db = new Database(':memory:');
    db.exec(`CREATE TABLE t (${columns}); INSERT INTO t (rowid) VALUES (77)`);
    expect(db.prepare(`SELECT "${table.columns[key[0]!]!.name}" FROM t`).pluck().get()).toBe(alias === -1 ? null : 77);
  });
});

describe('defaults', () => {
  it.each([
    '5',
    '-5',
    '+5',
    "'text'",
    '"quoted"',
    "x'00ff'",
    'NULL',
    'TRUE',
    'false',
    '1.5',
    '9223372036854775807',
    '-9223372036854775808',
    '1e100',
    "''",
    '(5)',
    "('a''b')",
    '(CAST(5 AS TEXT))',
    '(-7)',
    "(x'01')",
    '(TRUE)',
    '0x10',
  ])('DEFAULT %s in columns of every affinity is what SQLite reads from an older row', (text) => {
    for (const type of ['', 'TEXT', 'INTEGER', 'REAL', 'NUMERIC', 'BLOB', 'VARCHAR(5)']) {
      const db = new Database(':memory:');
      db.exec(`CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1); ALTER TABLE t ADD COLUMN c ${type} DEFAULT ${text}`);
      const { table } = readTables(schemaOf(db), () => true)[0]!;
      expect(table.columns[1]!.defaultValue).toEqual(db.prepare('SELECT c FROM t').pluck().safeIntegers().get());
    }
  });

  it('one that is not constant means nothing to older rows: there are none', () => {
    const table = only('CREATE TABLE t (id INTEGER PRIMARY KEY, at DEFAULT CURRENT_TIMESTAMP, r DEFAULT (random()), n DEFAULT (1 + 1))');
    expect(table.columns.map((column) => column.defaultValue)).toEqual([null, null, null, null]);
    expect(table.columns[2]!.defaultSql).toBe('random()');
  });
});

describe('tables', () => {
  it('generated columns: a stored one stands in the record, a virtual one does not', () => {
    const table = only('CREATE TABLE t (a, v AS (a + 1) VIRTUAL, s AS (a + 2) STORED, b)');
    expect(table.columns.map((column) => [column.name, column.generated])).toEqual([
      ['a', false],
      ['s', true],
      ['b', false],
    ]);
  });

  it('STRICT, and ANY in it', () => {
    const table = only('CREATE TABLE t (id INTEGER PRIMARY KEY, a ANY, b TEXT) STRICT');
    expect([table.strict, table.columns[1]!.affinity]).toEqual([true, 'BLOB']);
    expect(only('CREATE TABLE t (a ANY)').columns[0]!.affinity).toBe('NUMERIC');
  });

  it('leaves out virtual tables and their shadows, views, and SQLite’s own tables', () => {
    const tables = tablesOf(
      'CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT); CREATE VIRTUAL TABLE f USING fts5(a, b); CREATE VIRTUAL TABLE r USING rtree(id, x, y); CREATE VIEW v AS SELECT 1; CREATE INDEX i ON t (id); ANALYZE',
    );
    expect([...tables.keys()]).toEqual(['t']);
  });

  it('odd names', () => {
    const name = `we"ird 'na.me' [x] 蜂`;
    const table = only(`CREATE TABLE "${name.replaceAll('"', '""')}" ("a ""b""" PRIMARY KEY, "ſ.c" REFERENCES "o t"("x"))`);
    expect([table.name, table.columns.map((column) => column.name), table.references]).toEqual([name, ['a "b"', 'ſ.c'], ['o t']]);
  });

  it('WITHOUT ROWID: fields of a record are the key first, repeated columns once for each collation, then the others', () => {
    const table = only(
      'CREATE TABLE w (b, a, v AS (1), s AS (b) STORED, e COLLATE rtrim, PRIMARY KEY (a, a COLLATE nocase, e DESC, a, b)) WITHOUT ROWID',
    );
    expect(table.columns.map((column) => column.name)).toEqual(['b', 'a', 's', 'e']);
    expect(table.withoutRowid).toEqual({
      fields: [1, 1, 3, 0, 2],
      key: [
        { collation: 'BINARY', descending: false },
        { collation: 'NOCASE', descending: false },
        { collation: 'RTRIM', descending: true },
        { collation: 'BINARY', descending: false },
      ],
    });
    expect([table.key, table.rowidAlias]).toEqual([[1, 3, 0], -1]);
  });

  it('WITHOUT ROWID in the order of an unknown collation is refused by its name, and not in the way when it is excluded', () => {
    const rows: SchemaRow[] = [
      { type: 'table', name: 't', root: 2, sql: 'CREATE TABLE t (id TEXT COLLATE only_here PRIMARY KEY)' },
      { type: 'table', name: 'w', root: 3, sql: 'CREATE TABLE w (k TEXT COLLATE only_here PRIMARY KEY) WITHOUT ROWID' },
    ];
    expect(() => readTables(rows, () => true)).toThrow(
      expect.objectContaining({ code: 'COLLATION_UNKNOWN', message: expect.stringContaining('"w"') as string }),
    );
    expect(readTables(rows, (name) => name !== 'w').map(({ table }) => table.name)).toEqual(['t']);
  });

  it('understands functions that only the application has, and "strings" in CHECK', () => {
    const rows: SchemaRow[] = [
      {
        type: 'table',
        name: 't',
        root: 2,
        sql: 'CREATE TABLE t (id TEXT PRIMARY KEY, v CHECK (v <> "foo"), g AS (only_here(v)) STORED, d DEFAULT 7)',
      },
      { type: 'table', name: 'u', root: 4, sql: 'CREATE TABLE u (id INTEGER PRIMARY KEY)' },
    ];
    const [t, u] = readTables(rows, () => true).map(({ table }) => table);
    expect(t!.columns.map((column) => column.name)).toEqual(['id', 'v', 'g', 'd']);
    expect([t!.rowidAlias, t!.columns[3]!.defaultValue, u!.rowidAlias]).toEqual([-1, 7n, 0]);
  });

  it('a definition that is none, or more than one statement, is CATALOG_UNREADABLE', () => {
    for (const sql of ['CREATE TABLE t (', "CREATE TABLE t (a); ATTACH '/tmp/never-made' AS x", 'DROP TABLE x']) {
      expect(() => readTables([{ type: 'table', name: 't', root: 2, sql }], () => true)).toThrow(
        expect.objectContaining({ code: 'CATALOG_UNREADABLE' }),
      );
      expect(readTables([{ type: 'table', name: 't', root: 2, sql }], () => false)).toEqual([]);
    }
  });

  it('takes what it knows where the definition is the same, and asks again where it is not', () => {
    const rows = (sql: string): SchemaRow[] => [
      { type: 'table', name: 'a', root: 2, sql: 'CREATE TABLE a (x)' },
      { type: 'table', name: 'b', root: 3, sql },
    ];
    const first = readTables(rows('CREATE TABLE b (x)'), () => true);
    const known = new Map(first.map(({ table }) => [table.name, table]));
    const second = readTables(rows('CREATE TABLE b (x, y)'), () => true, known);
    expect(second[0]!.table).toBe(first[0]!.table);
    expect(second[1]!.table.columns).toHaveLength(2);
  });
});
