/** DDL of MySQL commits: what a batch that needs some leaves behind when it breaks off, and that each change is applied once. */
import { describe, expect, it } from 'vitest';
import { createSink } from '../../connectors/mysql/sink.ts';
import type { SinkChange } from '../../src/pipeline/sink.ts';
import { mysqlRows } from './mysql-rows.ts';
import { MARIADB_ABSENT, MysqlScene, sinkFailure } from './mysql-scene.ts';
import { batchOf, brokenBatch, checkpointAt, type ColumnSpec, contextOf, numbered, remove, schemaChange, sinkTable, upsert } from './sink-changes.ts';

describe.skipIf(MARIADB_ABSENT)('mysql and DDL', { timeout: 30_000 }, () => {
  const scene = MysqlScene.use();

  it('ends right wherever a batch with schema changes breaks off, although DDL commits', async () => {
    const id: ColumnSpec = { name: 'id', key: true };
    for (let cut = 0; cut <= 8; cut += 1) {
      const name = `ddl_${cut}`;
      const one = sinkTable(name, [id, { name: 'v' }, { name: 'n', type: 'INTEGER' }]);
      const two = sinkTable(name, [id, { name: 'w' }, { name: 'n', type: 'INTEGER' }]);
      const three = sinkTable(name, [id, { name: 'w' }, { name: 'n', type: 'INTEGER' }, { name: 'v' }]);
      const parts = [
        numbered(2, [upsert(one, ['1', 'x1', 1])]),
        numbered(3, [upsert(one, ['4', 'x4', 4]), schemaChange(one, two)]),
        numbered(5, [upsert(two, ['2', 'x2', 2])]),
        numbered(6, [schemaChange(two, three), upsert(three, ['1', 'x1', 1, 'new'])]),
        numbered(8, [upsert(three, ['2', 'x2', 45.5, 'new'])]),
        numbered(9, [upsert(three, ['5', 'x5', 'text', null])]),
        numbered(10, [remove(three, ['4'])]),
      ];
      const context = contextOf(`ddl_${cut}`);
      const sink = createSink({ url: scene.server.url });
      await sink.open(context);
      await sink.apply(batchOf([['1', '2', '3'].map((key) => upsert(one, [key, `old ${key}`, 0]))], checkpointAt(1)));
      await expect(sink.apply(brokenBatch(parts.slice(0, cut), checkpointAt(10)))).rejects.toThrow('the source broke off');
      await sink.close();
      expect(await sink.open(context)).toEqual(checkpointAt(1));
      await sink.apply(batchOf(parts, checkpointAt(10)));
      await sink.close();
      expect((await mysqlRows(scene.admin, three)).sort((a, b) => Number(a[0]) - Number(b[0]))).toEqual([
        ['1', 'x1', '1', 'new'],
        ['2', 'x2', '45.5', 'new'],
        ['3', 'old 3', '0', null],
        ['5', 'x5', 'text', null],
      ]);
    }
  });

  it('takes a batch back for a table that is to be made and columns that are to be widened, and applies each change once', async () => {
    const table = sinkTable('again', [
      { name: 'id', key: true },
      { name: 'n', type: 'INTEGER' },
      { name: 'm', type: 'INTEGER' },
    ]);
    const other = sinkTable('again_beside', [{ name: 'id', key: true }]);
    const context = contextOf('again');
    const sink = createSink({ url: scene.server.url });
    await sink.open(context);
    await sink.apply(batchOf([[upsert(table, ['0', 0, 0])]], checkpointAt(1)));
    await scene.run('CREATE TABLE again_applied (id text)');
    for (const event of ['AFTER INSERT', 'BEFORE UPDATE'])
      await scene.run(`CREATE TRIGGER ${event.replace(' ', '_')}_again ${event} ON again FOR EACH ROW INSERT INTO again_applied VALUES (NEW.id)`);
    const parts = [
      [upsert(table, ['1', 1, 1])],
      [upsert(other, ['1'])],
      [upsert(table, ['2', 2.5, 2])],
      [upsert(table, ['3', 3, 'text'])],
      [upsert(table, ['4', 4, 'text'])],
    ];
    await expect(sink.apply(brokenBatch(parts, checkpointAt(2)))).rejects.toThrow('the source broke off');
    expect(await mysqlRows(scene.admin, table)).toEqual([['0', '0', '0']]);
    await sink.close();
    expect(await sink.open(context)).toEqual(checkpointAt(1));
    await sink.apply(batchOf(parts, checkpointAt(2)));
    await sink.close();
    expect((await mysqlRows(scene.admin, table)).sort(byKey).map(([key]) => key)).toEqual(['0', '1', '2', '3', '4']);
    expect(await mysqlRows(scene.admin, other)).toEqual([['1']]);
    expect((await scene.select('SELECT id FROM again_applied ORDER BY id')).map((row) => String(row['id']))).toEqual(['1', '2', '3', '4']);
  });

  it('passes over what a refused batch has applied before its DDL, also when it comes again in smaller batches', async () => {
    const one = sinkTable('smaller', [{ name: 'id', key: true }, { name: 'v' }]);
    const two = sinkTable('smaller', [{ name: 'id', key: true }, { name: 'w' }]);
    const other = sinkTable('smaller_beside', [{ name: 'id', key: true }]);
    const name = 'smaller';
    const sink = createSink({ url: scene.server.url });
    await sink.open(contextOf(name));
    await sink.apply(batchOf([[upsert(one, ['old', 'kept']), schemaChange(null, other)]], checkpointAt(1)));
    const first = numbered(2, [upsert(one, ['1', 'x'])]);
    const second = numbered(3, [upsert(one, ['2', 'y']), schemaChange(one, two), upsert(two, ['3', 'z']), upsert(two, [null, 'refused'])]);
    const error = await sinkFailure(sink.apply(batchOf([first, second], checkpointAt(6))));
    expect(error).toMatchObject({ code: 'SINK_ROW_REFUSED', change: { key: [null] } });
    await sink.close();
    expect(await sink.open(contextOf(name))).toEqual(checkpointAt(1));
    await sink.apply(batchOf([first], checkpointAt(2)));
    await sink.close();
    expect(await sink.open(contextOf(name))).toEqual(checkpointAt(2));
    // A dead letter of before that is tried again.
    const letter = { ...upsert(other, ['1']), source: first[0]!.source } as SinkChange;
    await sink.apply(batchOf([[letter]], checkpointAt(2)));
    expect(await mysqlRows(scene.admin, other)).toEqual([['1']]);
    await sink.apply(batchOf([second.slice(0, -1)], checkpointAt(6)));
    await sink.close();
    expect(await scene.typesOf('smaller')).toEqual({ id: 'varchar(768)', w: 'longtext' });
    expect((await mysqlRows(scene.admin, two)).sort(byKey)).toEqual([
      ['1', 'x'],
      ['2', 'y'],
      ['3', 'z'],
      ['old', 'kept'],
    ]);
  });

  it('asks for a new fill when a batch was applied in part and the log is another one', async () => {
    const one = sinkTable('torn', [{ name: 'id', key: true }, { name: 'v' }]);
    const two = sinkTable('torn', [{ name: 'id', key: true }, { name: 'w' }]);
    const sink = createSink({ url: scene.server.url });
    const context = contextOf('torn');
    await sink.open(context);
    await sink.apply(batchOf([[upsert(one, ['1', 'x'])]], checkpointAt(1)));
    await expect(sink.apply(brokenBatch([[upsert(one, ['2', 'y']), schemaChange(one, two)]], checkpointAt(2)))).rejects.toThrow(
      'the source broke off',
    );
    await sink.open(context);
    const error = await sinkFailure(sink.apply(batchOf([], { ...checkpointAt(2), term: 'term-2' })));
    expect(error).toMatchObject({ code: 'SINK_CHECKPOINT_UNKNOWN', retryable: true });
    expect(await sink.open(context)).toEqual({ ...checkpointAt(1), txid: '' });
    await sink.apply(batchOf([], { ...checkpointAt(2), term: 'term-2' }));
    await sink.close();
  });
});

const byKey = (a: readonly unknown[], b: readonly unknown[]): number => String(a[0]).localeCompare(String(b[0]));
