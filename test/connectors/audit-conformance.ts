/** What a connector does that can rehearse a batch and read its target back. */
import { expect, it as vitestIt, type TestContext } from 'vitest';
import type { Value } from '../../src/change/table.ts';
import { KeyFilter } from '../../src/pipeline/key-filter.ts';
import type { Sink, SinkAudit, SinkChange, SinkTable } from '../../src/pipeline/sink.ts';
import { adapt } from './conformance/scene.ts';
import type { ConformanceTarget } from './conformance/target.ts';
import { applyPassing } from './refused-rows.ts';
import { batchOf, checkpointAt, contextOf, forSink, remove, sinkTable, truncate, upsert } from './sink-changes.ts';

/** `without`: names of what the kind of target cannot promise; the rest is required. */
export const auditConformance = (open: () => Promise<ConformanceTarget>, { without = [] }: { readonly without?: readonly string[] } = {}): void => {
  const left = new Set(without);
  const it = (name: string, test: (context: TestContext) => Promise<void>): void => {
    if (left.delete(name)) return;
    (vitestIt as (title: string, run: typeof test) => void)(name, test);
  };
  let counter = 0;
  const fresh = (prefix: string): string => `${prefix}_${(counter += 1)}`;

  const opened = async (): Promise<{ target: ConformanceTarget; sink: Sink; name: string; audit: SinkAudit }> => {
    const target = await open();
    const sink = target.createSink();
    const name = fresh('audit_sink');
    await sink.open(contextOf(name));
    if (sink.audit === undefined) throw new Error('the connector cannot be read');
    return { target, sink, name, audit: sink.audit };
  };
  const apply = (sink: Sink, seq: number, ...changes: SinkChange[]): Promise<void> =>
    sink.apply(batchOf([changes.map((change) => adapt(sink, change))], checkpointAt(seq)));

  const allKeys = async (audit: SinkAudit, table: SinkTable): Promise<(readonly Value[])[]> => {
    const found: (readonly Value[])[] = [];
    for (let after: readonly Value[] | null = null; ;) {
      const chunk: (readonly Value[])[] = await audit.keys(table, after, 3);
      if (chunk.length === 0) return found;
      found.push(...chunk);
      after = chunk.at(-1)!;
    }
  };

  it('rehearses a batch and leaves nothing of it', async () => {
    const { target, sink } = await opened();
    const table = sinkTable(fresh('rehearsed'), [
      { name: 'id', key: true },
      { name: 'v', type: 'INTEGER' },
    ]);
    const other = sinkTable(fresh('rehearsed_too'), [{ name: 'id', key: true }]);
    await apply(sink, 1, upsert(table, ['1', 1n]));
    // A column is widened and a table created on the way: both must be forgotten again.
    const changes = [upsert(table, ['1', 2.5]), upsert(table, ['2', 'word']), upsert(other, ['x'])].map((change) => adapt(sink, change));
    await sink.rehearse!(batchOf([changes], checkpointAt(2)));
    expect(await target.rows(table)).toEqual([[target.show('1', table.columns[0]!), target.show(1n, table.columns[1]!)]]);
    await sink.apply(batchOf([changes], checkpointAt(2)));
    await sink.close();
    expect((await target.rows(table)).length).toBe(2);
    expect((await target.rows(other)).length).toBe(1);
  });

  it('finds the row that the target refuses: named, or in rehearsals; the others pass', async () => {
    const { target, sink, name } = await opened();
    const table = sinkTable(fresh('refusing'), [{ name: 'id', key: true }, { name: 'v' }]);
    const rows = Array.from({ length: 30 }, (_, index) => upsert(table, [index % 10 === 7 ? null : `k${index}`, 'v']));
    const refused = await applyPassing({ sink, name }, [rows.slice(0, 8), rows.slice(8)], checkpointAt(1));
    await sink.close();
    expect(new Set(refused.map(({ change }) => rows.findIndex((row) => row === change)))).toEqual(new Set([7, 17, 27]));
    expect((await target.rows(table)).length).toBe(27);
  });

  const kinds = (name: string): SinkTable =>
    sinkTable(name, [
      { name: 'id', type: 'INTEGER', key: true, alwaysInteger: true },
      { name: 'int', type: 'INTEGER' },
      { name: 'real', type: 'REAL' },
      { name: 'text', type: 'TEXT' },
      { name: 'blob', type: 'BLOB' },
      { name: 'num', type: 'DECIMAL' },
      { name: 'any', type: '' },
    ]);

  it('compares rows: the same, missing, changed in any one column', async () => {
    const { sink, audit } = await opened();
    const table = kinds(fresh('compared'));
    const rows: Value[][] = Array.from({ length: 20 }, (_, index) => [
      BigInt(index),
      index === 3 ? null : 2n ** 40n + BigInt(index),
      index / 3 + 0.1,
      `text "${index}" \\`,
      new Uint8Array([index, 255]),
      index + 0.125,
      index % 2 === 0 ? 'word' : 7.5,
    ]);
    const seen = rows.map((row) => forSink(sink, row));
    await apply(sink, 1, ...rows.slice(1).map((row) => upsert(table, row)));
    expect(await audit.compare(table, seen)).toEqual({ missing: [0], changed: [] });
    const wrong = seen.map((row, index) => row.map((value, column) => (column === index && column > 0 ? null : value)));
    expect(await audit.compare(table, wrong.slice(1))).toEqual({ missing: [], changed: [0, 1, 2, 3, 4, 5] });
    expect(await audit.count(table)).toBe(19);
    await sink.close();
  });

  it('tells which columns of a row differ, with what the target has there', async ({ skip }) => {
    const { sink, audit } = await opened();
    if (audit.differences === undefined) skip('the connector cannot tell values');
    const table = kinds(fresh('different'));
    const row = (id: bigint): Value[] => [id, 5n, 0.5, 'text', new Uint8Array([1]), 1.25, null];
    await apply(sink, 1, upsert(table, row(1n)), upsert(table, row(2n)));
    const wanted = [
      row(1n)
        .with(1, 6n)
        .with(4, new Uint8Array([2]))
        .with(6, 'any'),
      row(2n),
      row(3n),
    ].map((values) => forSink(sink, values));
    const [changed, same, absent] = await audit.differences!(table, wanted);
    expect(changed!.map(({ column }) => table.columns[column]!.name)).toEqual(['int', 'blob', 'any']);
    expect(changed!.map(({ wanted: value }) => value)).toEqual([wanted[0]![1], wanted[0]![4], wanted[0]![6]]);
    expect(changed!.map(({ found }) => (found instanceof Uint8Array ? [...found] : found === null ? null : Number(found)))).toEqual([5, [1], null]);
    expect([same, absent]).toEqual([[], []]);
    await sink.close();
  });

  it('gives all keys, a few at a time, such that a delete finds them', async () => {
    const { target, sink, audit } = await opened();
    let seq = 0;
    const expectKeys = async (table: SinkTable, rows: readonly Value[][]): Promise<void> => {
      await apply(sink, (seq += 1), ...rows.map((row) => upsert(table, row)));
      const found = await allKeys(audit, table);
      expect(found.length).toBe(rows.length);
      // What the audit does with them: none of the hive's may seem to be surplus.
      const seen = new KeyFilter(100);
      for (const row of rows)
        seen.add(
          forSink(
            sink,
            table.key.map((index) => row[index]!),
          ),
        );
      expect(found.filter((key) => !seen.has(key))).toEqual([]);
      await apply(sink, (seq += 1), ...found.slice(1).map((key) => remove(table, key)));
      expect((await target.rows(table)).length).toBe(1);
      expect(await audit.count(table)).toBe(1);
      expect(await allKeys(audit, table)).toEqual(found.slice(0, 1));
      await apply(sink, (seq += 1), truncate(table));
      expect(await audit.count(table)).toBe(0);
    };
    for (const [type, keys] of [
      ['INTEGER', [-5n, 3n, 2n ** 52n, 9007199254740993n]],
      ['TEXT', ['', 'Zebra', 'apple', 'äpfel', '10', "it's"]],
      ['REAL', [-1e300, 0.1, 2.5, 1e22]],
      ['NUMERIC', [1n, 1.5, 123456789012345n]],
      ['BLOB', [new Uint8Array([0]), new Uint8Array([0, 1]), new Uint8Array([255])]],
      ['', ['', 'word', 2n, -1.5, 1e-7, new Uint8Array([7]), 'x', new Uint8Array([8])]],
    ] as [string, Value[]][]) {
      const pairs = sinkTable(fresh('keys'), [{ name: 'v' }, { name: 'k', type, key: true }, { name: 'part', type: 'INTEGER', key: true }]);
      const pairRows = keys.flatMap((key): Value[][] => [
        ['v', key, 1n],
        ['v', key, 2n],
      ]);
      await expectKeys(pairs, pairRows);
      const single = sinkTable(fresh('key'), [{ name: 'k', type, key: true }]);
      await expectKeys(
        single,
        keys.map((key) => [key]),
      );
    }
    await sink.close();
  });

  it('takes a table that is not there for an empty one', async () => {
    const { sink, audit } = await opened();
    const table = sinkTable(fresh('absent'), [{ name: 'id', key: true }]);
    expect(await audit.compare(table, [['a'], ['b']])).toEqual({ missing: [0, 1], changed: [] });
    expect(await audit.count(table)).toBe(0);
    expect(await audit.keys(table, null, 10)).toEqual([]);
    await sink.close();
  });

  it('tells of a missing column', async () => {
    const { target, sink, audit } = await opened();
    const name = fresh('lacking');
    const one = sinkTable(name, [{ name: 'id', key: true }]);
    const two = sinkTable(name, [{ name: 'id', key: true }, { name: 'late' }]);
    await apply(sink, 1, upsert(one, ['a']));
    await expect(audit.compare(two, [['a', 'x']])).rejects.toMatchObject({ code: 'SINK_TABLE_MISFIT', message: expect.stringContaining('late') });
    await sink.close();
    expect((await target.rows(one)).length).toBe(1);
  });

  it('compares timestamps, booleans and JSON by what the column holds of them', async () => {
    const { sink, audit } = await opened();
    const table = sinkTable(fresh('kinds'), [
      { name: 'id', type: 'INTEGER', key: true, alwaysInteger: true },
      { name: 'at', type: 'DATETIME', kind: 'timestamp' },
      { name: 'yes', type: 'BOOLEAN', kind: 'boolean' },
      { name: 'doc', kind: 'json' },
    ]);
    const values: Value[][] = [
      [1n, '2026-11-21T10:00:00.123Z', 1n, '{"b": [1, "ä", null, {"c": -2.5}], "a": 12345678901234567890}'],
      [2n, '1969-12-31T23:59:59Z', 0n, '[]'],
      [3n, null, null, null],
      [4n, '2026-11-21T10:00:00.123456789Z', 1n, '"text"'],
    ];
    await apply(sink, 1, ...values.map((row) => upsert(table, row)));
    const rows = values.map((row) => forSink(sink, row));
    expect(await audit.compare(table, rows)).toEqual({ missing: [], changed: [] });
    // Writing it again changes nothing: the last of two states counts.
    await apply(sink, 2, ...values.map((row) => upsert(table, row)));
    expect(await audit.compare(table, rows)).toEqual({ missing: [], changed: [] });
    const others: Value[] = [0n, '2026-11-21T10:00:00.124Z', 0n, '{"b": [1, "ä", null, {"c": -2.5}], "a": 12345678901234567891}'];
    for (const column of [1, 2, 3]) {
      const wrong = [rows[0]!.with(column, others[column]!), ...rows.slice(1, 2), rows[2]!.with(column, others[column]!)].map((row) =>
        forSink(sink, row),
      );
      expect(await audit.compare(table, wrong)).toEqual({ missing: [], changed: [0, 2] });
    }
    await sink.close();
  });

  if (left.size > 0) throw new Error(`the audit's conformance suite has no ${[...left].join(', ')}`);
};
