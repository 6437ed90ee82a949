import { createHmac } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { Change, TransactionInfo } from '../../../src/change/change.ts';
import { Row } from '../../../src/change/row.ts';
import type { Table, Value } from '../../../src/change/table.ts';
import { type MappingOptions, TableMapping } from '../../../src/pipeline/mapping.ts';
import { convert } from '../../../src/pipeline/shaping/convert.ts';
import { MaskKey } from '../../../src/pipeline/shaping/mask.ts';
import type { TableOptions } from '../../../src/pipeline/shaping/options.ts';
import { checkSharedTables } from '../../../src/pipeline/shaping/shared-tables.ts';
import { testTable } from '../../helpers/logged-database.ts';
import { encodeRecord } from '../../helpers/record-encoder.ts';

const column = (name: string, type: string, affinity: 'TEXT' | 'INTEGER' | 'NUMERIC' | 'REAL', keyOrdinal = 0) => ({
  name,
  type,
  affinity,
  notNull: false,
  defaultSql: null,
  defaultValue: null,
  keyOrdinal,
  generated: false,
});
const ACCOUNTS = testTable('accounts', [
  column('id', 'TEXT', 'TEXT', 1),
  column('ronin.createdAt', 'DATETIME', 'NUMERIC'),
  column('email', 'TEXT', 'TEXT'),
  column('age', 'INTEGER', 'INTEGER'),
  column('verified', 'BOOLEAN', 'NUMERIC'),
]);
const LOGS = testTable('logs', [column('line', 'TEXT', 'TEXT'), column('n', 'INTEGER', 'INTEGER')]);
const CATALOG = { version: 1, encoding: 'utf8' as const, tables: [ACCOUNTS, LOGS] };

const transaction: TransactionInfo = {
  txid: '3:77',
  epoch: 3,
  frame: 77,
  firstSeq: 9,
  lastSeq: 9,
  timestampUs: 1_700_000_000_123_456,
  origin: null,
  recovered: false,
};
const COMMITTED = '2023-11-14T22:13:20.123456Z';
const row = (table: Table, values: Value[]): Row => new Row(table, 5, encodeRecord(values), 'utf8');
const ADA: Value[] = ['a', '2026-11-21T00:10:49.686Z', 'ada@waggle.dev', 36n, 1n];

type Values = Value[] | null;
const change = (before: Values, after: Values, table = ACCOUNTS): Change => {
  const op = before === null ? 'c' : after === null ? 'd' : 'u';
  const images = { before: before && row(table, before), after: after && row(table, after) };
  return { op, seq: 9, transaction, collectionOrder: 1, table, ...images };
};
const filled = (values: Value[], table = ACCOUNTS): Change => ({
  op: 'r',
  seq: null,
  transaction: null,
  collectionOrder: 0,
  snapshot: { seq: 8, txid: '3:70', timestampUs: transaction.timestampUs },
  table,
  before: null,
  after: row(table, values),
});

const shaping = (accounts: TableOptions, options: MappingOptions = {}): TableMapping =>
  new TableMapping({ hive: 'app', tables: { accounts }, ...options });
const shown = (mapping: TableMapping, made: Change): unknown[] =>
  mapping.map(made).map((each) => (each.op === 's' || each.op === 't' ? each.op : [each.op, each.key, each.before, each.after]));
const columnsOf = (mapping: TableMapping, table = ACCOUNTS): string[] => mapping.table(table)!.columns.map(({ name }) => name);
const invalid = (accounts: TableOptions, message: string | RegExp): void =>
  expect(() => shaping(accounts).check(CATALOG)).toThrow(
    expect.objectContaining({ code: 'CONFIG_INVALID', message: expect.stringMatching(message) }),
  );

describe('names', () => {
  test('tables by pattern; the full name wins, option by option', () => {
    const mapping = new TableMapping({ tables: { accounts: { columns: { exclude: ['email'] } }, '*': { to: 'app_*' } } });
    expect([ACCOUNTS, LOGS].map((table) => mapping.table(table)!.name)).toEqual(['app_accounts', 'app_logs']);
    expect(columnsOf(mapping)).toEqual(['id', 'ronin.createdAt', 'age', 'verified']);
    expect(new TableMapping({ tables: { accounts: { to: 'x' }, '*': { to: 'app_*' } } }).table(ACCOUNTS)!.name).toBe('x');
  });

  test('columns by pattern', () => {
    expect(columnsOf(shaping({ columns: { include: ['ID', 'ronin.*', 'a*'], exclude: ['AGE'] } }))).toEqual(['id', 'ronin.createdAt']);
    invalid({ columns: { include: ['email'] } }, 'accounts: the column id belongs to the key');
  });
});

describe('added columns', () => {
  test('constants and what is known of the change', () => {
    const add = {
      tenant: 'eu',
      weight: 1.5,
      version: 3,
      live: true,
      nothing: null,
      dollar: '$$x',
      s: '$seq',
      t: '$txid',
      at: '$ts',
      o: '$op',
      h: '$hive',
    };
    const mapping = shaping({ columns: { include: ['id'], add } });
    const constants = ['eu', 1.5, 3, 1, null, '$x'];
    expect(shown(mapping, change(null, ADA))).toEqual([['c', ['a'], null, ['a', ...constants, 9, '3:77', COMMITTED, 'c', 'app']]]);
    expect(shown(mapping, filled(ADA))).toEqual([['r', ['a'], null, ['a', ...constants, 8, '3:70', COMMITTED, 'r', 'app']]]);
    // Of before, nobody knows them any more.
    expect(shown(mapping, change(ADA, null))).toEqual([['d', ['a'], ['a', ...constants, null, null, null, null, 'app'], null]]);
    expect(mapping.table(ACCOUNTS)!.columns.map(({ type, kind }) => [type, kind])).toEqual([
      ['TEXT', undefined],
      ['TEXT', undefined],
      ['REAL', undefined],
      ['INTEGER', undefined],
      ['BOOLEAN', 'boolean'],
      ['TEXT', undefined],
      ['TEXT', undefined],
      ['INTEGER', undefined],
      ['TEXT', undefined],
      ['DATETIME', 'timestamp'],
      ['TEXT', undefined],
      ['TEXT', undefined],
    ]);
    const bigint = shaping({ columns: { include: ['id'], add: { v: 3, live: false, s: '$seq' } } }, { integers: 'bigint' });
    expect(shown(bigint, change(null, ADA))).toEqual([['c', ['a'], null, ['a', 3n, 0n, 9n]]]);
  });

  test('a mistyped name is told', () => {
    invalid({ columns: { add: { s: '$sec' } } }, 'did you mean `\\$seq`');
    invalid({ columns: { add: { email: 'x' } } }, 'two columns of accounts would both be named email');
  });
});

describe('key', () => {
  const mapping = shaping({ key: ['email'] });

  test('an update that changes it is a delete and a create', () => {
    const moved = ADA.with(2, 'lovelace@waggle.dev');
    expect(shown(mapping, change(ADA, moved))).toMatchObject([
      ['d', ['ada@waggle.dev'], expect.arrayContaining(['ada@waggle.dev']), null],
      ['c', ['lovelace@waggle.dev'], null, expect.arrayContaining(['lovelace@waggle.dev'])],
    ]);
    expect(shown(mapping, change(ADA, ADA.with(3, 37n)))).toMatchObject([['u', ['ada@waggle.dev'], expect.anything(), expect.anything()]]);
    const states = shaping({ key: ['email'] }, { wants: 'states' });
    expect(shown(states, change(ADA, moved))).toMatchObject([
      ['d', ['ada@waggle.dev'], null, null],
      ['c', ['lovelace@waggle.dev'], null, expect.anything()],
    ]);
  });

  test('an integer and the double that is equal are one key', () => {
    const byAge = shaping({ key: ['age'] }, { integers: 'bigint' });
    expect(shown(byAge, change(ADA, ADA.with(3, 36)))).toHaveLength(1);
  });

  test('the declared key need not come along; a table without one needs no rowid', () => {
    expect(columnsOf(shaping({ key: ['email'], columns: { exclude: ['id'] } }))).not.toContain('id');
    const logs = new TableMapping({ tables: { logs: { key: ['n'] } } });
    expect(logs.table(LOGS)).toMatchObject({ columns: [{ name: 'line' }, { name: 'n' }], key: [1] });
    expect(logs.change(change(null, ['x', 1n], LOGS))).toMatchObject({ key: [1], after: ['x', 1] });
  });

  test('can hold constants: several hives in one table', () => {
    const mapped = shaping({ columns: { add: { tenant: '$hive' } }, key: ['tenant', 'id'] });
    expect(mapped.change(change(null, ADA))).toMatchObject({ key: ['app', 'a'] });
  });

  test('what cannot be', () => {
    invalid({ key: ['email'], columns: { exclude: ['email'] } }, 'the key column email is left out');
    invalid({ key: ['s'], columns: { add: { s: '$seq' } } }, 'the key column s would be another with each change');
    invalid({ columns: { mask: { id: 'redact' } } }, 'the column id belongs to the key: masked');
    shaping({ columns: { mask: { id: 'hash' } } }, { maskKey: 'k' }).check(CATALOG);
  });
});

describe('where', () => {
  const mapping = shaping({ where: 'age >= 18' });
  const child = ADA.with(3, 9n);

  test('rows that are, come in, go out and are not', () => {
    expect(shown(mapping, change(null, ADA))).toMatchObject([['c', ['a'], null, expect.anything()]]);
    expect(shown(mapping, change(null, child))).toEqual([]);
    expect(shown(mapping, change(child, ADA))).toMatchObject([['c', ['a'], null, expect.anything()]]);
    expect(shown(mapping, change(ADA, child))).toMatchObject([['d', ['a'], expect.anything(), null]]);
    expect(shown(mapping, change(child, child))).toEqual([]);
    expect(shown(mapping, change(ADA, ADA))).toMatchObject([['u', ['a'], expect.anything(), expect.anything()]]);
    expect(shown(mapping, change(child, null))).toEqual([]);
    expect(shown(mapping, change(ADA, null))).toMatchObject([['d', ['a'], expect.anything(), null]]);
    expect(shown(mapping, filled(child))).toEqual([]);
  });

  test('a sink that wants states is told of those that go out, too', () => {
    const states = shaping({ where: 'age >= 18' }, { wants: 'states' });
    expect(shown(states, change(ADA, child))).toEqual([['d', ['a'], null, null]]);
    expect(shown(states, change(child, ADA))).toMatchObject([['c', ['a'], null, expect.anything()]]);
  });

  test('NULL is unknown: the row does not pass, as in SQL; null can be asked for', () => {
    expect(shown(mapping, change(null, ADA.with(3, null)))).toEqual([]);
    expect(shown(shaping({ where: 'age == null || age >= 18' }), change(null, ADA.with(3, null)))).toHaveLength(1);
  });

  test('a value of another type is a refused row, without its value', () => {
    const refused = (): unknown => shown(mapping, change(null, ADA.with(3, 'SECRET')));
    expect(refused).toThrow(expect.objectContaining({ code: 'SINK_ROW_REFUSED', message: expect.not.stringContaining('SECRET') }));
    expect(() => shown(shaping({ where: 'row["email"]' }), change(null, ADA))).toThrow(/neither true nor false/);
  });

  test.each([
    ['verified == 1', true],
    ['row["ronin.createdAt"].startsWith("2026-")', true],
    ['row.email.endsWith("@waggle.dev") && age > 30', true],
    ['email in ["bob@x", "eve@x"]', false],
    ['["a", "b"].exists(letter, letter == id)', true],
    ['age > 35.5 && age < 36.5', true],
    ['timestamp(row["ronin.createdAt"]) > timestamp("2027-01-01T00:00:00Z")', false],
  ])('%s', (where, passes) => {
    const filter = shaping({ where });
    filter.check(CATALOG);
    expect(shown(filter, change(null, ADA)).length === 1).toBe(passes);
  });

  test('sees the values as the hive has them, also those that the target does not get', () => {
    const masked = shaping({ where: 'email == "ada@waggle.dev" && verified == 1', columns: { exclude: ['verified'], mask: { email: 'redact' } } });
    expect(shown(masked, change(null, ADA))).toMatchObject([['c', ['a'], null, ['a', ADA[1], '[redacted]', 36]]]);
  });

  test('an expression that is none, or no condition', () => {
    expect(() => shaping({ where: 'age >' })).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
    invalid({ where: '1 + 2' }, 'not a condition, but of type int');
  });
});

describe('masks', () => {
  const maskKey = 'a long and random text';
  const mapping = shaping({ columns: { mask: { email: 'hash', '*d*': { truncate: 4 }, age: 'hash', id: 'hash' } } }, { maskKey });
  const hmac = (text: string): string => createHmac('sha256', maskKey).update(text).digest('hex');

  test('hash, truncate, redact; NULL stays NULL; a full name wins over a pattern', () => {
    expect(shown(mapping, change(null, ADA))).toEqual([['c', [hmac('a')], null, [hmac('a'), '2026', hmac('ada@waggle.dev'), hmac('36'), '1']]]);
    expect(shown(mapping, change(null, ['a', null, null, null, null]))).toMatchObject([
      ['c', [hmac('a')], null, [hmac('a'), null, null, null, null]],
    ]);
    expect(mapping.table(ACCOUNTS)!.columns.map(({ affinity }) => affinity)).toEqual(['TEXT', 'TEXT', 'TEXT', 'TEXT', 'TEXT']);
  });

  test('before images are masked, too, and characters stay whole', () => {
    const text = shaping({ columns: { include: ['id', 'email'], mask: { email: { truncate: 2 } } } });
    expect(shown(text, change(ADA.with(2, '😀😀😀'), null))).toMatchObject([['d', ['a'], ['a', '😀😀'], null]]);
    expect(shown(text, change(null, ['a', null, new Uint8Array([1, 2, 3])]))).toMatchObject([['c', ['a'], null, ['a', Buffer.from([1, 2])]]]);
  });

  test('the key shows only a fingerprint of itself', () => {
    const key = new MaskKey(maskKey);
    expect(JSON.stringify({ maskKey: key })).toMatch(/^\{"maskKey":"[0-9a-f]{16}"\}$/);
    const same = shaping({ columns: { mask: { id: 'hash' } } }, { maskKey: key });
    expect(same.change(change(null, ADA))).toMatchObject({ key: [hmac('a')] });
  });

  test('hash needs a key', () => invalid({ columns: { mask: { email: 'hash' } } }, 'no `mask_key`'));
});

describe('types', () => {
  test.each([
    ['timestamptz', '2026-11-21T00:10:49.686Z', '2026-11-21T00:10:49.686Z'],
    ['timestamptz', '2026-11-21', '2026-11-21T00:00:00Z'],
    ['timestamptz', '2026-11-21 10:20', '2026-11-21T10:20:00Z'],
    ['timestamptz', '2026-11-21T01:02:03.123456789+02:00', '2026-11-20T23:02:03.123456789Z'],
    ['timestamptz', '2026-11-21T01:02:03-0530', '2026-11-21T06:32:03Z'],
    ['timestamptz', '2026-02-29', undefined],
    ['timestamptz', '2026-13-01', undefined],
    ['timestamptz', '2026-11-21T25:00:00Z', undefined],
    ['timestamptz', '2026-11-21T24:00:00Z', undefined],
    ['timestamptz', 'yesterday', undefined],
    ['timestamptz', '', undefined],
    ['timestamptz', 1_700_000_000, undefined],
    ['timestamptz', new Uint8Array([1]), undefined],
    ['timestamptz', null, null],
    ['boolean', 1, 1],
    ['boolean', 0n, 0],
    ['boolean', 'TRUE', 1],
    ['boolean', 'false', 0],
    ['boolean', 2, undefined],
    ['boolean', 'yes', undefined],
    ['boolean', null, null],
    ['json', '{"a":[1,null]}', '{"a":[1,null]}'],
    ['json', '"text"', '"text"'],
    ['json', 5n, '5'],
    ['json', 1.5, '1.5'],
    ['json', Infinity, undefined],
    ['json', '{a}', undefined],
    ['json', '', undefined],
    ['json', null, null],
  ] as const)('%s of %s: %s', (type, value, expected) => expect(convert(type, value, 'number')).toBe(expected));

  test('what does not convert is a refused row, without its value', () => {
    const mapping = shaping({ columns: { types: { '*At': 'timestamptz', verified: 'boolean' } } });
    expect(shown(mapping, change(null, ADA))).toMatchObject([['c', ['a'], null, ADA.with(3, 36).with(4, 1)]]);
    expect(mapping.table(ACCOUNTS)!.columns.map(({ kind }) => kind)).toEqual([undefined, 'timestamp', undefined, undefined, 'boolean']);
    expect(() => shown(mapping, change(null, ADA.with(1, 'SECRET')))).toThrow(
      expect.objectContaining({ code: 'SINK_ROW_REFUSED', message: expect.stringMatching(/^(?!.*SECRET).*accounts, column ronin\.createdAt/) }),
    );
    invalid({ columns: { types: { email: 'json' }, mask: { email: 'redact' } } }, 'both a type and a mask');
  });
});

describe('soft deletes', () => {
  const mapping = shaping({ deleted: 'soft', columns: { include: ['id', 'age'], add: { o: '$op' } } });

  test('a row that goes gets the time of its end; one that comes again loses it', () => {
    expect(columnsOf(mapping)).toEqual(['id', 'age', 'o', 'deleted_at']);
    expect(shown(mapping, change(null, ADA))).toEqual([['c', ['a'], null, ['a', 36, 'c', null]]]);
    expect(shown(mapping, change(ADA, null))).toEqual([['u', ['a'], ['a', 36, null, null], ['a', 36, 'd', COMMITTED]]]);
    const states = shaping({ deleted: 'soft', where: 'age >= 18' }, { wants: 'states' });
    expect(shown(states, change(ADA, ADA.with(3, 9n)))).toMatchObject([['u', ['a'], null, ['a', ADA[1], ADA[2], 36, 1, COMMITTED]]]);
  });

  test('an emptied table is marked, not emptied', () => {
    const emptied: Change = { op: 't', seq: 9, transaction, collectionOrder: 1, table: ACCOUNTS };
    expect(mapping.change(emptied)).toMatchObject({ op: 't', mark: { column: 3, value: COMMITTED } });
    expect(shaping({}).change(emptied)).not.toHaveProperty('mark');
  });

  test('beside the rowid of a table without a key', () => {
    const logs = new TableMapping({ tables: { logs: { deleted: 'soft' } } });
    expect(shown(logs, change(['x', 1n], null, LOGS))).toEqual([['u', [5], [5, 'x', 1, null], [5, 'x', 1, COMMITTED]]]);
  });
});

describe('history', () => {
  const mapping = shaping({ history: true, columns: { include: ['id', 'age'] } }, { wants: 'states' });

  test('every change is a row', () => {
    expect(columnsOf(mapping)).toEqual(['waggle_seq', 'waggle_op', 'waggle_ts', 'id', 'age']);
    expect(shown(mapping, change(null, ADA))).toEqual([['c', [9, 'a'], null, [9, 'c', COMMITTED, 'a', 36]]]);
    expect(shown(mapping, change(ADA, ADA.with(3, 37n)))).toEqual([['c', [9, 'a'], null, [9, 'u', COMMITTED, 'a', 37]]]);
    expect(shown(mapping, change(ADA, null))).toEqual([['c', [9, 'a'], null, [9, 'd', COMMITTED, 'a', 36]]]);
    expect(shown(mapping, filled(ADA))).toEqual([['r', [8, 'a'], null, [8, 'r', COMMITTED, 'a', 36]]]);
    expect(mapping.change({ op: 't', seq: 9, transaction, collectionOrder: 1, table: ACCOUNTS })).toBeNull();
  });

  test('of a filter: what comes in is a c, what goes out a d', () => {
    const adults = shaping({ history: true, where: 'age >= 18', columns: { include: ['id', 'age'] } });
    expect(shown(adults, change(ADA.with(3, 9n), ADA))).toEqual([['c', [9, 'a'], null, [9, 'c', COMMITTED, 'a', 36]]]);
    expect(shown(adults, change(ADA, ADA.with(3, 9n)))).toEqual([['c', [9, 'a'], null, [9, 'd', COMMITTED, 'a', 36]]]);
  });

  test('of a table without a key: by number and rowid', () => {
    const logs = new TableMapping({ tables: { logs: { history: true } } });
    expect(shown(logs, change(null, ['x', 1n], LOGS))).toEqual([['c', [9, 5], null, [5, 9, 'c', COMMITTED, 'x', 1]]]);
  });

  test('has a key of its own', () => {
    invalid({ history: true, key: ['email'] }, '`history` has a key of its own');
    invalid({ history: true, deleted: 'soft' }, '`history` has a key of its own');
  });
});

test('two sinks that would write one table', () => {
  const one = {
    name: 'one',
    tablesIn: 'postgres h/db public',
    mapping: { filters: [{ include: ['accounts'] }], tables: { accounts: { to: 'users' } } },
  };
  const two = { name: 'two', tablesIn: 'postgres h/db public', mapping: { filters: [{ include: ['logs'] }], tables: { logs: { to: 'users' } } } };
  expect(() => checkSharedTables([one, two], CATALOG)).toThrow(
    expect.objectContaining({ code: 'CONFIG_INVALID', message: expect.stringContaining('one and two') }),
  );
  checkSharedTables([one, { ...two, tablesIn: 'postgres h/db other' }], CATALOG);
  checkSharedTables([one, { ...two, mapping: { filters: [{ include: ['logs'] }] } }], CATALOG);
  checkSharedTables(
    [
      { ...one, tablesIn: null },
      { ...two, tablesIn: null },
    ],
    CATALOG,
  );
  // What only one of them gets wrong stops that one alone.
  checkSharedTables([{ ...one, mapping: { tables: { accounts: { columns: { exclude: ['id'] } } } } }], CATALOG);
});
