import { describe, expect, test } from 'vitest';
import { Row } from '../../src/change/row.ts';
import { type MappingOptions, TableMapping } from '../../src/pipeline/mapping.ts';
import { ITEMS, NOTES, PAIRS, testTable } from '../helpers/logged-database.ts';
import { encodeRecord } from '../helpers/record-encoder.ts';

const CATALOG = { version: 1, encoding: 'utf8' as const, tables: [ITEMS, PAIRS, NOTES] };
const placed = { seq: 5, transaction: null, collectionOrder: 1 };
const item = new Row(ITEMS, 7, encodeRecord([null, 'n', 2n ** 53n + 1n]), 'utf8');

describe('which tables', () => {
  const names = (options: ConstructorParameters<typeof TableMapping>[0]): string[] => {
    const mapping = new TableMapping(options);
    return [...CATALOG.tables, testTable('sqlite_stat1', [])].filter((table) => mapping.table(table) !== null).map((table) => table.name);
  };
  test('all but sqlite_% by default', () => expect(names({})).toEqual(['items', 'pairs', 'notes']));
  test('every filter counts; exclude wins; names have no case; * is a wildcard', () => {
    expect(names({ filters: [{ exclude: ['PAIRS'] }] })).toEqual(['items', 'notes']);
    expect(names({ filters: [{ include: ['i*', 'notes'] }, { exclude: ['n*'] }] })).toEqual(['items']);
    expect(names({ filters: [{ include: ['items'], exclude: ['items'] }] })).toEqual([]);
    expect(names({ filters: [{ include: ['item.'] }] })).toEqual([]);
  });
});

describe('how', () => {
  test('renames and excludes columns, and renames the table', () => {
    const mapping = new TableMapping({ tables: { Items: { to: 'users', columns: { exclude: ['name'], rename: { VALUE: 'v.x' } } } } });
    const change = mapping.change({ op: 'u', ...placed, table: ITEMS, before: item, after: item });
    expect(change).toMatchObject({ op: 'u', key: [7], before: [7, 2n ** 53n + 1n], after: [7, 2n ** 53n + 1n] });
    expect(mapping.table(ITEMS)).toMatchObject({ name: 'users', source: 'items', key: [0] });
    expect(mapping.table(ITEMS)!.columns.map((column) => [column.name, column.alwaysInteger])).toEqual([
      ['id', true],
      ['v.x', false],
    ]);
    expect(mapping.table(ITEMS)).toBe(mapping.table(ITEMS));
  });

  test('tables without a key get their rowid in front, under a free name', () => {
    const mapping = new TableMapping({ integers: 'bigint' });
    const row = new Row(NOTES, 9, encodeRecord(['b', 1n]), 'utf8');
    expect(mapping.change({ op: 'd', ...placed, table: NOTES, before: row, after: null })).toMatchObject({
      key: [9n],
      before: [9n, 'b', 1n],
      after: null,
    });
    const taken = testTable('taken', [{ ...NOTES.columns[0]!, name: 'WAGGLE_ROWID' }]);
    expect(mapping.table(taken)!.columns.map((column) => column.name)).toEqual(['waggle_rowid_', 'WAGGLE_ROWID']);
  });

  test('a sink that wants states gets no before images, but the key of what goes', () => {
    const mapping = new TableMapping({ wants: 'states' });
    expect(mapping.change({ op: 'u', ...placed, table: ITEMS, before: item, after: item })).toMatchObject({ before: null });
    expect(mapping.change({ op: 'd', ...placed, table: ITEMS, before: item, after: null })).toMatchObject({ key: [7], before: null, after: null });
  });

  test('a before image under an older schema is shown under the new columns, by name', () => {
    const older = { ...ITEMS, columns: [ITEMS.columns[0]!, { ...ITEMS.columns[1]!, name: 'gone' }, ITEMS.columns[2]!] };
    const before = new Row(older, 7, encodeRecord([null, 'gone', 'kept']), 'utf8');
    expect(new TableMapping().change({ op: 'u', ...placed, table: ITEMS, before, after: item })).toMatchObject({ before: [7, null, 'kept'] });
  });

  test('schema changes of excluded tables are none', () => {
    const mapping = new TableMapping({ filters: [{ exclude: ['items'] }] });
    expect(mapping.change({ op: 's', ...placed, name: 'items', table: ITEMS, previous: null })).toBeNull();
    expect(mapping.change({ op: 's', ...placed, name: 'notes', table: null, previous: NOTES })).toMatchObject({
      op: 's',
      table: null,
      previous: { name: 'notes' },
    });
  });
});

describe('what cannot be', () => {
  const refused = (tables: Record<string, object>, message: RegExp): void => {
    expect(() => new TableMapping({ tables }).check(CATALOG)).toThrow(message);
  };
  test('a key column excluded', () => refused({ pairs: { columns: { exclude: ['B'] } } }, /pairs: the column b belongs to the key/));
  test('two columns with one name', () => refused({ items: { columns: { rename: { name: 'Value' } } } }, /two columns of items/));
  test('two tables with one name', () => refused({ items: { to: 'notes' } }, /items and notes would both be written to notes/));
  test.each([
    [{ itmes: {} }, 'no table itmes is captured; did you mean `items`?'],
    [{ items: { columns: { exclude: ['vlaue'] } } }, 'the table items has no column vlaue; did you mean `value`?'],
    [{ items: { columns: { include: ['id', 'nme'] } } }, 'no column nme; did you mean `name`?'],
    [{ items: { columns: { types: { valeu: 'json' } } } }, 'no column valeu; did you mean `value`?'],
    [{ items: { columns: { mask: { nmae: 'redact' } } } }, 'no column nmae; did you mean `name`?'],
    [{ items: { key: ['vlue'] } }, 'no column vlue; did you mean `value`?'],
    [{ items: { where: 'vlaue > 3' } }, 'no column vlaue; did you mean `value`?'],
    [{ items: { where: 'row["vlaue"] > 3' } }, 'no column vlaue; did you mean `value`?'],
  ])('what is named but not there: %j', (tables, message) => {
    expect(() => new TableMapping({ tables: tables as MappingOptions['tables'] & object }).check(CATALOG)).toThrow(message);
  });
  test.each([
    [{ itmes: {} }, 'itmes'],
    [{ items: { columns: { exclude: ['vlaue'] } } }, 'items/columns/exclude'],
    [{ items: { columns: { rename: { vlaue: 'v' } } } }, 'items/columns/rename/vlaue'],
    [{ items: { key: ['vlue'] } }, 'items/key'],
    [{ 'it*': { where: 'vlaue > 3' } }, 'it*/where'],
    [{ 'it*': { where: 'value >' }, items: {} }, 'it*/where'],
    [{ 'it*': { where: 'value + 1' }, 'i*': { where: 'value > 1' }, items: { where: 'value + 2' } }, 'items/where'],
    [{ 'it*': { history: true }, items: { deleted: 'soft' } }, 'it*/history'],
    [{ pairs: { columns: { exclude: ['B'] } } }, 'pairs/columns/exclude'],
    [{ items: { columns: { types: { value: 'json' }, mask: { 'V*': 'redact' } } } }, 'items/columns/mask/V*'],
    [{ '*': { columns: { mask: { value: 'hash' } } }, items: {} }, '*/columns/mask/value'],
    [{ items: { columns: { mask: { id: 'redact' } } } }, 'items/columns/mask/id'],
    [{ items: { columns: { add: { at: '$time' } } } }, 'items/columns/add/at'],
    [{ items: { columns: { add: { at: '$ts' } }, key: ['at'] } }, 'items/key'],
    [{ items: { columns: { exclude: ['name'] }, key: ['name'] } }, 'items/key'],
    [{ items: { columns: { rename: { name: 'Value' } } } }, 'items/columns'],
    [{ items: { to: 'notes' } }, 'items/to'],
  ])('the error begins with the place in the configuration: %j', (tables, place) => {
    const options = { tables: tables as MappingOptions['tables'] & object, place: (path: readonly string[]) => path.join('/') };
    expect(() => new TableMapping(options).check(CATALOG)).toThrow(
      expect.objectContaining({ code: 'CONFIG_INVALID', message: expect.stringMatching(new RegExp(`^tables/${place.replaceAll('*', '\\*')}: `)) }),
    );
  });
  test('a table that a filter names and that is not there', () => {
    expect(() => new TableMapping({ filters: [{ exclude: ['note'] }] }).check(CATALOG)).toThrow('no table note is captured; did you mean `notes`?');
    new TableMapping({ filters: [{ exclude: ['nothing_*'] }], tables: { 'x*': { columns: { exclude: ['y'] } } } }).check(CATALOG);
  });
});
