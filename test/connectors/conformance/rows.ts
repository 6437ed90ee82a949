/** Rows by their keys. */
import { expect } from 'vitest';
import { batchOf, checkpointAt, contextOf, remove, sinkTable, upsert } from '../sink-changes.ts';
import type { ConformanceScene } from './scene.ts';
export const rows = ({ applyAll, expectRows, fresh, it, open }: ConformanceScene): void => {
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
};
