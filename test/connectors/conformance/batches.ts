/** Batches, their checkpoint, and who may apply them. */
import { expect } from 'vitest';
import type { SinkChange } from '../../../src/pipeline/sink.ts';
import { batchOf, brokenBatch, checkpointAt, contextOf, remove, schemaChange, sinkTable, upsert } from '../sink-changes.ts';
import { adapt, type ConformanceScene } from './scene.ts';
export const batches = ({ applyAll, expectRows, fresh, it, open, traits }: ConformanceScene): void => {
  // Some targets take a request for each of its 20,000 rows.
  it('applies a batch of many parts whole', { timeout: 120_000 }, async () => {
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
    await sink.apply({ parts, checkpoint: checkpointAt(1) });
    await sink.close();
    const rows = await target.rows(table);
    expect(rows.length).toBe(19 * distance + partRows);
    expect(rows.filter((row) => row[1] === target.show('19', table.columns[1]!)).length).toBe(partRows);
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
};
