/** Tables that come, change and go. */
import { expect } from 'vitest';
import type { SinkChange } from '../../../src/pipeline/sink.ts';
import { batchOf, checkpointAt, type ColumnSpec, contextOf, remove, schemaChange, sinkTable, truncate, upsert } from '../sink-changes.ts';
import { adapt, type ConformanceScene } from './scene.ts';
export const schema = ({ applyAll, expectRows, fresh, it, open, traits }: ConformanceScene): void => {
  it('creates a table with the schema change alone', async () => {
    const table = sinkTable(fresh('empty'), [{ name: 'id', key: true }]);
    await expectRows(await applyAll([[[schemaChange(null, table)]]]), table, []);
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

  if (traits.rekeys)
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

  const { users } = traits;
  if (users !== null)
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
