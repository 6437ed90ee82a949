/** What every connector that keeps tables must do, against its real target. */
import * as fc from 'fast-check';
import { expect, it as vitestIt } from 'vitest';
import type { Value } from '../../src/change/table.ts';
import type { Sink, SinkChange, SinkColumn, SinkTable } from '../../src/pipeline/sink.ts';
import {
  batchOf,
  brokenBatch,
  checkpointAt,
  type ColumnSpec,
  contextOf,
  forSink,
  remove,
  schemaChange,
  sinkTable,
  truncate,
  upsert,
} from './sink-changes.ts';

export interface ConformanceTarget {
  /** A new runner's sink into the same target. */
  createSink(): Sink;
  /** Drops a table beside the sink. */
  drop(table: SinkTable): Promise<void>;
  /** All rows in the order of the columns, each value as a text that shows its value (and storage class where the target keeps it). */
  rows(table: SinkTable): Promise<(string | null)[][]>;
  /** How `rows` shows a value that was applied. */
  show(value: Value, column: SinkColumn): string | null;
}

/** In what targets differ by their nature. */
export interface TargetTraits {
  /** A text may hold U+0000; else such a row is refused. */
  readonly holdsNul: boolean;
  /** A batch that breaks off leaves nothing behind; else what it leaves is made whole when it comes again. */
  readonly atomic: boolean;
  /** The target's table can get another key when the hive's has one. */
  readonly rekeys: boolean;
  /**
   * For targets whose tables have a schema: makes, beside the sink, a user's table `name` with the one text column `id`, and a unique index
   * on that column. Null: there is no such thing as a misfit.
   */
  readonly users: { createTable(name: string): Promise<void>; createUniqueIndex(name: string): Promise<void> } | null;
  /** Rows in each part of a large batch. Default 1000. */
  readonly partRows?: number;
  /** Names of further tests that the kind of target cannot pass; the rest is required. */
  readonly without?: readonly string[];
}

/** `users` of a target that takes plain SQL. */
export const sqlUsers = (run: (sql: string) => Promise<void>, type = 'text'): NonNullable<TargetTraits['users']> => ({
  createTable: (name) => run(`CREATE TABLE ${name} (id ${type})`),
  createUniqueIndex: (name) => run(`CREATE UNIQUE INDEX ${name}_key ON ${name} (id)`),
});

const VALUES: ColumnSpec[] = [
  { name: 'id', type: 'INTEGER', key: true, alwaysInteger: true },
  { name: 'int', type: 'INTEGER' },
  { name: 'real', type: 'REAL' },
  { name: 'text', type: 'TEXT' },
  { name: 'blob', type: 'BLOB' },
  { name: 'bool', type: 'BOOLEAN' },
  { name: 'date', type: 'DATETIME' },
  { name: 'num', type: 'DECIMAL(10,2)' },
  { name: 'any', type: '' },
];

/** `without`: names of what the kind of target cannot promise; the rest is required. */
export const conformance = (open: () => Promise<ConformanceTarget>, traits: TargetTraits): void => {
  const left = new Set(traits.without);
  const it = (name: string, ...rest: [() => Promise<void>] | [object, () => Promise<void>]): void => {
    if (left.delete(name)) return;
    (vitestIt as (name: string, ...rest: readonly unknown[]) => void)(name, ...rest);
  };
  let counter = 0;
  const fresh = (prefix: string): string => `${prefix}_${(counter += 1)}`;

  /** Applies each list of parts as a batch of its own through one sink; gives the target. */
  const applyAll = async (batches: readonly SinkChange[][][], sinkName = fresh('sink')): Promise<ConformanceTarget> => {
    const target = await open();
    const sink = target.createSink();
    await sink.open(contextOf(sinkName));
    try {
      for (const [index, parts] of batches.entries())
        await sink.apply(
          batchOf(
            parts.map((part) => part.map((change) => adapt(sink, change))),
            checkpointAt(index + 1),
          ),
        );
    } finally {
      await sink.close();
    }
    return target;
  };

  const expectRows = async (target: ConformanceTarget, table: SinkTable, rows: readonly (readonly Value[])[]): Promise<void> => {
    const sorted = (list: (string | null)[][]): string[] => list.map((row) => JSON.stringify(row)).sort();
    const expected = rows.map((row) => row.map((value, index) => target.show(value, table.columns[index]!)));
    expect(sorted(await target.rows(table))).toEqual(sorted(expected));
  };

  it('keeps all kinds of values', async () => {
    const table = sinkTable(fresh('values'), VALUES);
    const rows: Value[][] = [
      [1n, 5n, 1.5, 'a', new Uint8Array([0, 255]), 1n, '2026-01-02T03:04:05.678Z', 12.25, 'x'],
      [2n, 9223372036854775807n, 0.1, '', new Uint8Array(0), 0n, null, 3n, 7n],
      [3n, -9223372036854775808n, -0.5, 'quote " back \\ brace {} comma , NULL', new Uint8Array([92, 120]), null, '', -1e-7, -0],
      [4n, null, Infinity, '{"json":[1,"ä€😀"]}', null, null, null, null, null],
      [5n, 9007199254740993n, -Infinity, '\n\t\r\u0001\u007f', null, 1n, null, 1e300, 1.25],
      [6n, 0n, 5e-324, "'; DROP TABLE x; --", null, 1n, null, 123456789012345n, '\\x00'],
      [7n, -1n, 1.7976931348623157e308, '${}$1::text', null, 1n, null, 0.30000000000000004, ''],
      [9223372036854775807n, null, 3, 'NULL', null, null, null, null, null],
    ];
    const target = await applyAll([[rows.map((row) => upsert(table, row, 'c'))]]);
    await expectRows(target, table, rows);
  });

  it('takes values that do not fit the declared type', async () => {
    const table = sinkTable(fresh('misfits'), VALUES);
    const first: Value[] = [1n, 5n, 1.5, 'a', new Uint8Array([1]), 1n, 'd', 2n, 'x'];
    const rows: Value[][] = [
      [2n, 45.5, 'real text', 'b', 'blob text', 2.5, 5n, 'num text', new Uint8Array([1, 2])],
      [3n, 'int text', new Uint8Array([9]), new Uint8Array([3]), 5n, 'yes', 1.5, new Uint8Array([7]), 1e21],
      [4n, Infinity, null, 'c', 1.5, null, null, -Infinity, -5n],
    ];
    const target = await applyAll([
      [[upsert(table, first)]],
      [rows.slice(0, 1).map((row) => upsert(table, row))],
      [rows.slice(1).map((row) => upsert(table, row))],
    ]);
    await expectRows(target, table, [first, ...rows]);
  });

  it('updates and deletes by composite keys', async () => {
    const table = sinkTable(fresh('composite'), [{ name: 'value' }, { name: 'b', type: 'INTEGER', key: true }, { name: 'a', key: true }]);
    const target = await applyAll([
      [[upsert(table, ['x', 1n, 'k']), upsert(table, ['y', 2n, 'k']), upsert(table, ['z', 1n, 'l'])]],
      [[upsert(table, ['x2', 1n, 'k']), remove(table, [2n, 'k']), remove(table, [3n, 'nothing'])]],
    ]);
    await expectRows(target, table, [
      ['x2', 1n, 'k'],
      ['z', 1n, 'l'],
    ]);
  });

  it('follows key changes in their order across parts', async () => {
    const table = sinkTable(fresh('moves'), [{ name: 'id', key: true }, { name: 'v' }]);
    const target = await applyAll([
      [
        [upsert(table, ['a', '1']), upsert(table, ['b', '2'])],
        [remove(table, ['a']), upsert(table, ['c', '1'])],
        [upsert(table, ['a', '3'])],
        [remove(table, ['a'])],
        [upsert(table, ['a', '4'])],
      ],
    ]);
    await expectRows(target, table, [
      ['a', '4'],
      ['b', '2'],
      ['c', '1'],
    ]);
  });

  it('keeps tables without a key by their rowid', async () => {
    const table = sinkTable(fresh('keyless'), [
      { name: 'waggle_rowid', type: 'INTEGER', key: true, alwaysInteger: true },
      { name: 'v', type: '' },
    ]);
    const target = await applyAll([
      [[upsert(table, [1n, 'a']), upsert(table, [-5n, 'a']), upsert(table, [3n, null])]],
      [[remove(table, [1n]), upsert(table, [3n, 2n])]],
    ]);
    await expectRows(target, table, [
      [-5n, 'a'],
      [3n, 2n],
    ]);
  });

  it('keeps tables whose columns are all in the key', async () => {
    const table = sinkTable(fresh('link'), [
      { name: 'source', key: true },
      { name: 'target', key: true },
    ]);
    const target = await applyAll([
      [[upsert(table, ['a', 'b']), upsert(table, ['a', 'c'])]],
      [[upsert(table, ['a', 'b']), remove(table, ['a', 'c'])]],
    ]);
    await expectRows(target, table, [['a', 'b']]);
  });

  it('follows ADD, RENAME and DROP COLUMN in the middle of a part', async () => {
    const name = fresh('altered');
    const id: ColumnSpec = { name: 'id', key: true };
    const one = sinkTable(name, [id, { name: 'a' }]);
    const two = sinkTable(name, [id, { name: 'a' }, { name: 'b.dotted', type: 'INTEGER', defaultValue: 5 }]);
    const three = sinkTable(name, [id, { name: 'renamed' }, { name: 'b.dotted', type: 'INTEGER', defaultValue: 5 }]);
    const four = sinkTable(name, [id, { name: 'renamed' }]);
    const five = sinkTable(name, [id, { name: 'renamed' }, { name: 'b.dotted', type: 'INTEGER' }]);
    const target = await applyAll([
      [
        [
          upsert(one, ['1', 'x']),
          schemaChange(one, two),
          upsert(two, ['1', 'x', 5n]),
          upsert(two, ['2', 'y', 6n]),
          schemaChange(two, three),
          upsert(three, ['3', 'z', 7n]),
        ],
      ],
    ]);
    await expectRows(target, three, [
      ['1', 'x', 5n],
      ['2', 'y', 6n],
      ['3', 'z', 7n],
    ]);
    const sink = target.createSink();
    await sink.open(contextOf(fresh('sink')));
    await sink.apply(batchOf([[schemaChange(three, four), upsert(four, ['1', 'x2'])]], checkpointAt(2)));
    await expectRows(target, four, [
      ['1', 'x2'],
      ['2', 'y'],
      ['3', 'z'],
    ]);
    await sink.apply(batchOf([[schemaChange(four, five), adapt(sink, upsert(five, ['2', 'y', 8n]))]], checkpointAt(3)));
    await sink.close();
    await expectRows(target, five, [
      ['1', 'x2', null],
      ['2', 'y', 8n],
      ['3', 'z', null],
    ]);
  });

  it('adds a column that a new version of the table has without a schema change', async () => {
    const name = fresh('grown');
    const one = sinkTable(name, [{ name: 'id', key: true }]);
    const two = sinkTable(name, [
      { name: 'id', key: true },
      { name: 'late', type: 'REAL' },
    ]);
    const target = await applyAll([[[upsert(one, ['1'])]], [[upsert(two, ['2', 1.5])]]]);
    await expectRows(target, two, [
      ['1', null],
      ['2', 1.5],
    ]);
  });

  it('swaps the values of two columns that swapped their names', async () => {
    const name = fresh('swapped');
    const one = sinkTable(name, [{ name: 'id', key: true }, { name: 'a' }, { name: 'b' }]);
    const two = sinkTable(name, [{ name: 'id', key: true }, { name: 'b' }, { name: 'a' }]);
    const target = await applyAll([[[upsert(one, ['1', 'x', 'y'])]], [[schemaChange(one, two), upsert(two, ['1', 'x', 'y'])]]]);
    await expectRows(target, one, [['1', 'y', 'x']]);
  });

  it('empties a truncated table and keeps a dropped one', async () => {
    const table = sinkTable(fresh('dropped'), [{ name: 'id', key: true }]);
    const target = await applyAll([[[upsert(table, ['1']), truncate(table), upsert(table, ['2'])]]]);
    await expectRows(target, table, [['2']]);
    const again = await applyAll([[[truncate(table), schemaChange(table, null)]]]);
    await expectRows(again, table, []);
  });

  it('marks the rows of an emptied table where deletes are soft', async () => {
    const table = sinkTable(fresh('marked'), [{ name: 'id', key: true }, { name: 'deleted_at' }]);
    const mark = { column: 1, value: '2026-11-21T10:00:00.000000Z' };
    const emptied = { ...truncate(table), mark } as SinkChange;
    const target = await applyAll([[[upsert(table, ['1', null]), upsert(table, ['2', 'before']), emptied, upsert(table, ['3', null])]]]);
    await expectRows(target, table, [
      ['1', mark.value],
      ['2', 'before'],
      ['3', null],
    ]);
  });

  it('keeps keys apart that a collation could take for one', async () => {
    const table = sinkTable(fresh('collated'), [{ name: 'id', key: true }, { name: 'v' }]);
    const keys = ['a', 'A', 'ä', 'Ä', 'a\u0308', 'a ', ' a', 'a\t', 'ß', 'ss', 'é', 'e', 'ﬁ', 'fi', '1', '01', '1.0', '', ' '];
    const target = await applyAll([
      [keys.map((key) => upsert(table, [key, key]))],
      [
        [remove(table, ['A']), remove(table, ['ä']), remove(table, ['a ']), remove(table, [' ']), remove(table, ['01'])],
        [upsert(table, ['SS', 'x'])],
      ],
    ]);
    const gone = new Set(['A', 'ä', 'a ', ' ', '01']);
    await expectRows(target, table, [...keys.filter((key) => !gone.has(key)).map((key) => [key, key]), ['SS', 'x']]);
  });

  it('passes over deletes of what is not there', async () => {
    const table = sinkTable(fresh('absent'), [{ name: 'id', type: 'INTEGER', key: true, alwaysInteger: true }, { name: 'v' }]);
    const target = await applyAll([[[remove(table, [1n])]], [[upsert(table, [2n, 'v']), remove(table, [3n])], [remove(table, ['text'])]]]);
    await expectRows(target, table, [[2n, 'v']]);
  });

  it('takes a REPLACE, and values that move between rows', async () => {
    const table = sinkTable(fresh('replaced'), [{ name: 'id', key: true }, { name: 'email' }]);
    const target = await applyAll([
      [[upsert(table, ['1', 'a@x']), upsert(table, ['2', 'b@x']), upsert(table, ['3', 'c@x'])]],
      [[remove(table, ['1']), upsert(table, ['4', 'a@x'])], [remove(table, ['4'])], [upsert(table, ['4', 'a@x'], 'c')]],
      [[upsert(table, ['2', 'c@x']), upsert(table, ['3', 'b@x'])]],
    ]);
    await expectRows(target, table, [
      ['2', 'c@x'],
      ['3', 'b@x'],
      ['4', 'a@x'],
    ]);
  });

  it('follows a renamed table, which comes as dropped and created', async () => {
    const columns: ColumnSpec[] = [{ name: 'id', key: true }, { name: 'v' }];
    const [one, two] = [sinkTable(fresh('old'), columns), sinkTable(fresh('new'), columns)];
    const target = await applyAll([
      [[upsert(one, ['1', 'a'])]],
      [[truncate(one), schemaChange(one, null), schemaChange(null, two), upsert(two, ['1', 'a'], 'c'), upsert(two, ['2', 'b'], 'c')]],
    ]);
    await expectRows(target, one, []);
    await expectRows(target, two, [
      ['1', 'a'],
      ['2', 'b'],
    ]);
  });

  it('moves its checkpoint over empty batches and empty parts', async () => {
    const table = sinkTable(fresh('quiet'), [{ name: 'id', key: true }]);
    const name = fresh('sink');
    const target = await applyAll([[], [[]], [[], [upsert(table, ['1'])], []], []], name);
    await expectRows(target, table, [['1']]);
    const sink = target.createSink();
    expect(await sink.open(contextOf(name))).toEqual(checkpointAt(4));
    await sink.close();
  });

  it('creates a table with the schema change alone', async () => {
    const table = sinkTable(fresh('empty'), [{ name: 'id', key: true }]);
    await expectRows(await applyAll([[[schemaChange(null, table)]]]), table, []);
  });

  it('ends in the same state when a batch is delivered again', async () => {
    const name = fresh('again');
    const one = sinkTable(name, [
      { name: 'id', key: true },
      { name: 'v', type: 'INTEGER' },
    ]);
    const two = sinkTable(name, [
      { name: 'id', key: true },
      { name: 'w', type: 'INTEGER' },
    ]);
    const batch = [
      [upsert(one, ['1', 1n]), upsert(one, ['2', 2n]), remove(one, ['3'])],
      [upsert(one, ['1', 45.5]), schemaChange(one, two), upsert(two, ['4', 4n])],
      [remove(two, ['2'])],
    ];
    const target = await applyAll([batch, batch, batch]);
    await expectRows(target, two, [
      ['1', 45.5],
      ['4', 4n],
    ]);
  });

  it('takes any legal name', async () => {
    const long = `n${'ä'.repeat(60)}`;
    const columns: ColumnSpec[] = [
      { name: 'Id "quoted"', key: true },
      { name: 'ronin.createdAt' },
      { name: 'select' },
      { name: 'ctid' },
      { name: `${long}1` },
      { name: `${long}2` },
      { name: "it's; --" },
    ];
    const tables = ['UPPER.dotted', 'order', `${long}1`, `${long}2`, `"quo'ted" ä`].map((name) => sinkTable(fresh(name), columns));
    const target = await applyAll([
      [tables.map((table) => upsert(table, ['k', table.name, 'c', 'd', 'e', 'f', 'g']))],
      [tables.map((table) => upsert(table, ['k2', table.name, 'c', 'd', 'e', 'f', 'g']))],
    ]);
    for (const table of tables)
      await expectRows(target, table, [
        ['k', table.name, 'c', 'd', 'e', 'f', 'g'],
        ['k2', table.name, 'c', 'd', 'e', 'f', 'g'],
      ]);
  });

  it('applies a batch of many parts whole', async () => {
    const table = sinkTable(fresh('big'), [{ name: 'id', type: 'INTEGER', key: true, alwaysInteger: true }, { name: 'v' }]);
    const target = await open();
    const sink = target.createSink();
    await sink.open(contextOf(fresh('sink')));
    const { partRows = 1000 } = traits;
    const distance = partRows * 0.9;
    const parts = async function* (): AsyncGenerator<SinkChange[]> {
      for (let part = 0; part < 20; part += 1)
        yield Array.from({ length: partRows }, (_, row) => adapt(sink, upsert(table, [BigInt(part * distance + row), `${part}`], 'c')));
    };
    await sink.apply({ parts: parts(), checkpoint: checkpointAt(1) });
    await sink.close();
    const rows = await target.rows(table);
    expect(rows.length).toBe(19 * distance + partRows);
    expect(rows.filter((row) => row[1] === target.show('19', table.columns[1]!)).length).toBe(partRows);
  });

  it('keeps the checkpoint and gives it back', async () => {
    const target = await open();
    const name = fresh("it's a sink");
    const sink = target.createSink();
    expect(await sink.open(contextOf(name))).toBeNull();
    await sink.close();
    await sink.close();
    expect(await sink.open(contextOf(name))).toBeNull();
    const checkpoint = { ...checkpointAt(2 ** 52, `{"cursor":"it's"}`), txid: '3:881' };
    await sink.apply(batchOf([], checkpoint));
    expect(await sink.open(contextOf(name))).toEqual(checkpoint);
    await sink.apply(batchOf([], checkpointAt(5)));
    await sink.close();
    const next = target.createSink();
    expect(await next.open(contextOf(name))).toEqual(checkpointAt(5));
    await next.close();
  });

  it(`${traits.atomic ? 'leaves nothing of' : 'makes whole'} a batch that broke off`, async () => {
    const target = await open();
    const table = sinkTable(fresh('broken'), [
      { name: 'id', key: true },
      { name: 'v', type: 'INTEGER' },
    ]);
    const other = sinkTable(fresh('broken_too'), [{ name: 'id', key: true }]);
    const name = fresh('sink');
    const sink = target.createSink();
    await sink.open(contextOf(name));
    await sink.apply(batchOf([[adapt(sink, upsert(table, ['1', 1n]))]], checkpointAt(1)));
    const parts = [[adapt(sink, upsert(table, ['1', 2.5])), upsert(other, ['x'])], [adapt(sink, upsert(table, ['2', 2n]))]];
    await expect(sink.apply(brokenBatch(parts, checkpointAt(2)))).rejects.toMatchObject({ code: 'SINK_FAILED' });
    await sink.close();
    expect(await sink.open(contextOf(name))).toEqual(checkpointAt(1));
    if (traits.atomic) await expectRows(target, table, [['1', 1n]]);
    await sink.apply(batchOf(parts, checkpointAt(2)));
    await sink.close();
    await expectRows(target, table, [
      ['1', 2.5],
      ['2', 2n],
    ]);
    await expectRows(target, other, [['x']]);
  });

  it('refuses a key that is NULL, and passes over its delete', async () => {
    const target = await open();
    const table = sinkTable(fresh('nullkey'), [{ name: 'id', key: true }, { name: 'v' }]);
    const sink = target.createSink();
    await sink.open(contextOf(fresh('sink')));
    await expect(sink.apply(batchOf([[upsert(table, ['ok', 'v']), upsert(table, [null, 'SECRET'])]], checkpointAt(1)))).rejects.toSatisfy(
      (error: Error) =>
        'code' in error &&
        error.code === 'SINK_ROW_REFUSED' &&
        error.message.includes(table.name) &&
        error.message.includes('id') &&
        !error.message.includes('SECRET'),
    );
    await sink.close();
    await sink.open(contextOf(fresh('sink')));
    await sink.apply(batchOf([[upsert(table, ['ok', 'v'])], [remove(table, [null])]], checkpointAt(1)));
    await sink.close();
    await expectRows(target, table, [['ok', 'v']]);
  });

  it("refuses waggle's own table names", async () => {
    const target = await open();
    const sink = target.createSink();
    await sink.open(contextOf(fresh('sink')));
    const table = sinkTable('waggle_checkpoint', [{ name: 'id', key: true }]);
    await expect(sink.apply(batchOf([[upsert(table, ['1'])]], checkpointAt(1)))).rejects.toMatchObject({ code: 'SINK_TABLE_MISFIT' });
    await sink.close();
  });

  it('says so when a table that it created has gone, instead of going on with an empty one', async () => {
    const target = await open();
    const table = sinkTable(fresh('vanished'), [{ name: 'id', key: true }]);
    const name = fresh('sink');
    await applyAll([[[upsert(table, ['1'])]]], name);
    await target.drop(table);
    const sink = target.createSink();
    await sink.open(contextOf(name));
    await expect(sink.apply(batchOf([[upsert(table, ['2'])]], checkpointAt(2)))).rejects.toMatchObject({ code: 'SINK_TABLE_MISFIT' });
    await sink.close();
    await applyAll([[[upsert(table, ['3'])]]]);
    await expectRows(target, table, [['3']]);
  });

  it('lets a second runner take over and stops the first', async () => {
    const target = await open();
    const name = fresh('sink');
    const table = sinkTable(fresh('fenced'), [{ name: 'id', key: true }]);
    const [first, second] = [target.createSink(), target.createSink()];
    await first.open(contextOf(name));
    await first.apply(batchOf([[upsert(table, ['1'])]], checkpointAt(1)));
    expect(await second.open(contextOf(name))).toEqual(checkpointAt(1));
    await expect(first.apply(batchOf([[upsert(table, ['late'])]], checkpointAt(2)))).rejects.toMatchObject({ code: 'SINK_FENCED', retryable: false });
    await first.close();
    await second.apply(batchOf([[upsert(table, ['2'])]], checkpointAt(2)));
    await expectRows(target, table, [['1'], ['2']]);
    await second.close();
  });

  it('does not take the sink back from a second runner by opening again', async () => {
    const target = await open();
    const name = fresh('sink');
    const [first, second] = [target.createSink(), target.createSink()];
    await first.open(contextOf(name));
    await second.open(contextOf(name));
    await expect(first.open(contextOf(name))).rejects.toMatchObject({ code: 'SINK_FENCED' });
    await second.apply(batchOf([], checkpointAt(1)));
    await Promise.all([first.close(), second.close()]);
  });

  it('ends random streams in the state of a plain Map', { timeout: 120_000 }, async () => {
    const target = await open();
    await fc.assert(
      fc.asyncProperty(randomStream(traits.holdsNul), fc.infiniteStream(fc.boolean()), async (batches, again) => {
        const table = sinkTable(fresh('random'), RANDOM_COLUMNS);
        const expected = new Map<string, Value[]>();
        const keyOf = (values: readonly Value[]): string => JSON.stringify(values.map((value) => target.show(value, RANDOM_KEY)));
        const made = batches.map((parts) =>
          parts.map((part) => {
            // A part has each key once, as the runner makes it.
            const byKey = new Map<string, SinkChange>();
            for (const { key, row } of part) byKey.set(keyOf(key), row === null ? remove(table, key) : upsert(table, [...key, ...row]));
            for (const change of byKey.values()) {
              if (change.op === 'd') expected.delete(keyOf(change.key));
              else if (change.op === 'u') expected.set(keyOf(change.key), [...change.after!]);
            }
            return [...byKey.values()];
          }),
        );
        // Any batch may come again, as after an answer that was lost.
        await applyAll([[[schemaChange(null, table)]], ...made.flatMap((parts) => (again.next().value ? [parts, parts] : [parts]))]);
        await expectRows(target, table, [...expected.values()]);
        await target.drop(table);
      }),
      { numRuns: 25, endOnFailure: true },
    );
  });

  const takesNul = (): void => {
    it('takes U+0000 in a text', async () => {
      const table = sinkTable(fresh('nul'), [{ name: 'id', key: true }, { name: 'v' }]);
      const rows = [
        ['1', 'a\0b'],
        ['2', '\0'],
      ];
      await expectRows(await applyAll([[rows.map((row) => upsert(table, row))]]), table, rows);
    });
  };

  const refusesNul = (): void => {
    it('refuses U+0000 in a text, with table and column', async () => {
      const target = await open();
      const table = sinkTable(fresh('nul'), [{ name: 'id', key: true }, { name: 'v' }]);
      const sink = target.createSink();
      await sink.open(contextOf(fresh('sink')));
      await expect(sink.apply(batchOf([[upsert(table, ['1', 'a\0b'])]], checkpointAt(1)))).rejects.toMatchObject({
        code: 'SINK_ROW_REFUSED',
        message: expect.stringMatching(new RegExp(`${table.name}, column v.*U\\+0000`)),
      });
      await sink.close();
    });
  };

  const rekeying = (): void => {
    it('follows a table that was dropped and created with another key', async () => {
      const name = fresh('rekeyed');
      const one = sinkTable(name, [{ name: 'waggle_rowid', type: 'INTEGER', key: true, alwaysInteger: true }, { name: 'id' }]);
      const two = sinkTable(name, [
        { name: 'id', key: true },
        { name: 'sub', key: true },
      ]);
      const target = await applyAll([
        [[upsert(one, [1n, 'a']), upsert(one, [2n, 'b'])]],
        [[truncate(one), schemaChange(one, null), schemaChange(null, two), upsert(two, ['a', 'x'], 'c'), upsert(two, ['a', 'y'], 'c')]],
        [[remove(two, ['a', 'x'])]],
      ]);
      await expectRows(target, two, [['a', 'y']]);
    });
  };

  const tablesOfUsers = (users: NonNullable<TargetTraits['users']>): void => {
    it('refuses a table of the user without a unique index on the key', async () => {
      const target = await open();
      const table = sinkTable(fresh('unindexed'), [{ name: 'id', key: true }]);
      await users.createTable(table.name);
      const sink = target.createSink();
      await sink.open(contextOf(fresh('sink')));
      await expect(sink.apply(batchOf([[upsert(table, ['1'])]], checkpointAt(1)))).rejects.toMatchObject({
        code: 'SINK_TABLE_MISFIT',
        retryable: false,
      });
      await sink.close();
      await users.createUniqueIndex(table.name);
      await sink.open(contextOf(fresh('sink')));
      await sink.apply(batchOf([[upsert(table, ['1']), upsert(table, ['2'])]], checkpointAt(1)));
      await sink.close();
      await expectRows(target, table, [['1'], ['2']]);
    });
  };

  (traits.holdsNul ? takesNul : refusesNul)();
  if (traits.rekeys) rekeying();
  if (traits.users !== null) tablesOfUsers(traits.users);
  if (left.size > 0) throw new Error(`the conformance suite has no ${[...left].join(', ')}`);
};

const adapt = (sink: Sink, change: SinkChange): SinkChange => {
  if (change.op === 't' || change.op === 's') return change;
  return { ...change, key: forSink(sink, change.key), after: change.after === null ? null : forSink(sink, change.after) };
};

const RANDOM_COLUMNS: ColumnSpec[] = [
  { name: 'k', type: 'NUMERIC', key: true },
  { name: 'l', type: 'TEXT', key: true },
  { name: 'i', type: 'INTEGER' },
  { name: 'r', type: 'REAL' },
  { name: 't', type: 'TEXT' },
  { name: 'b', type: 'BLOB' },
  { name: 'n', type: 'NUMERIC' },
  { name: 'a', type: '' },
];
const RANDOM_KEY = sinkTable('', RANDOM_COLUMNS).columns[0]!;

interface RandomChange {
  readonly key: Value[];
  readonly row: Value[] | null;
}

const randomStream = (holdsNul: boolean): fc.Arbitrary<RandomChange[][][]> => {
  const string = fc.string({ unit: 'binary', maxLength: 12 }).map((text) => (holdsNul ? text : text.replaceAll('\0', '')).toWellFormed());
  const word = string.map((text) => `w${text}`);
  const blob = fc.uint8Array({ maxLength: 10 });
  const int = fc.oneof(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), fc.bigInt({ min: -9n, max: 9n }));
  const double = fc.double({ noNaN: true });
  // NUMERIC and INTEGER affinity leave no REAL that an INTEGER could hold.
  const fraction = double
    .map((value) => (Number.isInteger(value) && Math.abs(value) < 2 ** 63 ? value / 3 + 0.5 : value))
    .filter((value) => !Number.isInteger(value) || Math.abs(value) >= 2 ** 63);
  const rarely = <T extends Value>(usual: fc.Arbitrary<T>, other: fc.Arbitrary<Value>): fc.Arbitrary<Value> =>
    fc.oneof({ arbitrary: usual, weight: 30 }, { arbitrary: fc.constant(null), weight: 3 }, { arbitrary: other, weight: 1 });
  const key = fc.tuple(
    fc.oneof({ arbitrary: fc.bigInt({ min: 0n, max: 4n }), weight: 20 }, { arbitrary: fc.constantFrom<Value>(1.5, 'w', 1e300, -2.5e-7), weight: 1 }),
    fc.constantFrom('', 'a', '"', 'A'),
  );
  const row = fc.tuple(
    rarely(int, fc.oneof(fraction, word, blob)),
    // A REAL column holds 0 as an integer: it cannot hold -0.0.
    rarely(
      double.map((value) => (value === 0 ? 0 : value)),
      fc.oneof(word, blob),
    ),
    rarely(string, blob),
    rarely(blob, fc.oneof(string, int, double)),
    rarely(fc.oneof(int, fraction), fc.oneof(word, blob)),
    fc.oneof<fc.Arbitrary<Value>[]>(fc.constant(null), int, double, string, blob),
  );
  const change = fc.record({ key, row: fc.oneof({ arbitrary: row, weight: 3 }, { arbitrary: fc.constant(null), weight: 1 }) });
  return fc.array(fc.array(fc.array(change, { maxLength: 12 }), { maxLength: 4 }), { maxLength: 4 });
};
