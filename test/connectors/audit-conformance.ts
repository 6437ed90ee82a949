/** What a connector does that can rehearse a batch and read its target back. */
import { expect, it } from 'vitest';
import type { Value } from '../../src/change/table.ts';
import type { Sink, SinkAudit, SinkChange, SinkTable } from '../../src/pipeline/sink.ts';
import type { ConformanceTarget } from './conformance.ts';
import { batchOf, checkpointAt, contextOf, forSink, remove, sinkTable, truncate, upsert } from './sink-changes.ts';

export const auditConformance = (open: () => Promise<ConformanceTarget>): void => {
  let counter = 0;
  const fresh = (prefix: string): string => `${prefix}_${(counter += 1)}`;

  const opened = async (): Promise<{ target: ConformanceTarget; sink: Sink; audit: SinkAudit }> => {
    const target = await open();
    const sink = target.createSink();
    await sink.open(contextOf(fresh('audit_sink')));
    if (sink.audit === undefined || sink.rehearse === undefined) throw new Error('the connector can neither be read nor rehearse');
    return { target, sink, audit: sink.audit };
  };
  const apply = (sink: Sink, seq: number, ...changes: SinkChange[]): Promise<void> =>
    sink.apply(batchOf([changes.map((change) => adapted(sink, change))], checkpointAt(seq)));

  it('rehearses a batch and leaves nothing of it', async () => {
    const { target, sink } = await opened();
    const table = sinkTable(fresh('rehearsed'), [
      { name: 'id', key: true },
      { name: 'v', type: 'INTEGER' },
    ]);
    const other = sinkTable(fresh('rehearsed_too'), [{ name: 'id', key: true }]);
    await apply(sink, 1, upsert(table, ['1', 1n]));
    // A column is widened and a table created on the way: both must be forgotten again.
    const changes = [upsert(table, ['1', 2.5]), upsert(table, ['2', 'word']), upsert(other, ['x'])].map((change) => adapted(sink, change));
    await sink.rehearse!(batchOf([changes], checkpointAt(2)));
    expect(await target.rows(table)).toEqual([[target.show('1', table.columns[0]!), target.show(1n, table.columns[1]!)]]);
    await sink.apply(batchOf([changes], checkpointAt(2)));
    await sink.close();
    expect((await target.rows(table)).length).toBe(2);
    expect((await target.rows(other)).length).toBe(1);
  });

  it('a rehearsal finds a row that the target refuses', async () => {
    const { sink } = await opened();
    const table = sinkTable(fresh('refusing'), [{ name: 'id', key: true }, { name: 'v' }]);
    await expect(sink.rehearse!(batchOf([[upsert(table, ['ok', 'v']), upsert(table, [null, 'v'])]], checkpointAt(1)))).rejects.toMatchObject({
      code: 'SINK_ROW_REFUSED',
    });
    await sink.close();
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
    for (const [type, keys] of [
      ['INTEGER', [-5n, 3n, 2n ** 52n, 9007199254740993n]],
      ['TEXT', ['', 'Zebra', 'apple', 'äpfel', '10', "it's"]],
      ['REAL', [-1e300, 0.1, 2.5, 1e22]],
      ['NUMERIC', [1n, 1.5, 123456789012345n]],
      ['BLOB', [new Uint8Array([0]), new Uint8Array([0, 1]), new Uint8Array([255])]],
    ] as [string, Value[]][]) {
      const { target, sink, audit } = await opened();
      const table = sinkTable(fresh('keys'), [{ name: 'v' }, { name: 'k', type, key: true }, { name: 'part', type: 'INTEGER', key: true }]);
      await apply(sink, 1, ...keys.flatMap((key) => [upsert(table, ['v', key, 1n]), upsert(table, ['v', key, 2n])]));
      const found: (readonly Value[])[] = [];
      for (let after: readonly Value[] | null = null; ;) {
        const chunk: (readonly Value[])[] = await audit.keys(table, after, 3);
        if (chunk.length === 0) break;
        found.push(...chunk);
        after = chunk.at(-1)!;
      }
      expect(found.length).toBe(2 * keys.length);
      await apply(sink, 2, ...found.slice(1).map((key) => remove(table, key)));
      expect((await target.rows(table)).length).toBe(1);
      await apply(sink, 3, truncate(table));
      expect(await audit.count(table)).toBe(0);
      await sink.close();
    }
  });

  it('takes a table that is not there for an empty one, and tells of a missing column', async () => {
    const { target, sink, audit } = await opened();
    const name = fresh('absent');
    const one = sinkTable(name, [{ name: 'id', key: true }]);
    const two = sinkTable(name, [{ name: 'id', key: true }, { name: 'late' }]);
    expect(await audit.compare(one, [['a'], ['b']])).toEqual({ missing: [0, 1], changed: [] });
    expect(await audit.count(one)).toBe(0);
    expect(await audit.keys(one, null, 10)).toEqual([]);
    await apply(sink, 1, upsert(one, ['a']));
    await expect(audit.compare(two, [['a', 'x']])).rejects.toMatchObject({ code: 'SINK_TABLE_MISFIT', message: expect.stringContaining('late') });
    await sink.close();
    expect((await target.rows(one)).length).toBe(1);
  });
};

const adapted = (sink: Sink, change: SinkChange): SinkChange => {
  if (change.op === 't' || change.op === 's') return change;
  return { ...change, key: forSink(sink, change.key), after: change.after === null ? null : forSink(sink, change.after) };
};
