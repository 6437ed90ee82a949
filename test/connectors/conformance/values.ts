/** Values of all kinds. */
import { expect } from 'vitest';
import type { Value } from '../../../src/change/table.ts';
import { batchOf, checkpointAt, type ColumnSpec, contextOf, sinkTable, upsert } from '../sink-changes.ts';
import type { ConformanceScene } from './scene.ts';
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

export const values = ({ applyAll, expectRows, fresh, it, open, traits }: ConformanceScene): void => {
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

  if (traits.holdsNul)
    it('takes U+0000 in a text', async () => {
      const table = sinkTable(fresh('nul'), [{ name: 'id', key: true }, { name: 'v' }]);
      const rows = [
        ['1', 'a\0b'],
        ['2', '\0'],
      ];
      await expectRows(await applyAll([[rows.map((row) => upsert(table, row))]]), table, rows);
    });
  else
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
