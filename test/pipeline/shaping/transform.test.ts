import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import type { Value } from '../../../src/change/table.ts';
import { TransformingSink } from '../../../src/pipeline/shaping/transforming-sink.ts';
import type { Sink, SinkChange } from '../../../src/pipeline/sink.ts';
import { temporaryDirectory } from '../../helpers/temporary.ts';
import { batchOf, checkpointAt, contextOf, remove, schemaChange, sinkTable, truncate, upsert } from '../../connectors/sink-changes.ts';

const directory = temporaryDirectory();
afterAll(() => directory[Symbol.dispose]());

/** Keeps what it gets. */
class Keeping implements Sink {
  readonly wants: Sink['wants'];
  readonly integers: 'number' | 'bigint';
  readonly got: SinkChange[] = [];
  constructor(wants: Sink['wants'], integers: 'number' | 'bigint') {
    this.wants = wants;
    this.integers = integers;
  }
  async open(): Promise<null> {
    return null;
  }
  async apply({ parts }: Parameters<Sink['apply']>[0]): Promise<void> {
    for await (const part of parts()) this.got.push(...part);
  }
  async close(): Promise<void> {}
}

const table = sinkTable('people', [{ name: 'id', key: true }, { name: 'name' }, { name: 'age', type: 'INTEGER' }, { name: 'score', type: 'REAL' }]);
const shown = (changes: readonly SinkChange[]): unknown[] =>
  changes.map((change) => (change.op === 's' || change.op === 't' ? change.op : [change.op, change.before, change.after]));
const updated = (before: Value[], after: Value[]): SinkChange => ({ ...upsert(table, after), before });

describe('a transform module', () => {
  let count = 0;
  let sink: TransformingSink | null = null;
  afterEach(() => sink?.close());

  const opened = async (code: string, options: { wants?: Sink['wants']; integers?: 'number' | 'bigint'; timeoutMs?: number } = {}) => {
    const module = join(directory.path, `transform-${(count += 1)}.ts`);
    writeFileSync(module, code);
    const target = new Keeping(options.wants ?? 'states', options.integers ?? 'number');
    sink = new TransformingSink(target, { place: 'transform.module', module, timeoutMs: options.timeoutMs ?? 5000 });
    await sink.open(contextOf('t'));
    return { target, apply: (...parts: SinkChange[][]) => sink!.apply(batchOf(parts, checkpointAt(1))) };
  };

  it('changes columns of each row; everything else passes', async () => {
    const { target, apply } = await opened(
      'export default (row: { name: string }, { table, op }: { table: string; op: string }) => ({ name: `${row.name}@${table}/${op}` });',
    );
    await apply([schemaChange(null, table), upsert(table, ['a', 'Ada', 36, 1.5], 'c')], [truncate(table), remove(table, ['a'])]);
    expect(shown(target.got)).toEqual(['s', ['c', null, ['a', 'Ada@people/c', 36, 1.5]], 't', ['d', null, null]]);
  });

  it('may give the whole row back; integers stay integers', async () => {
    const { target, apply } = await opened('export default (row) => ({ ...row, age: row.age + 1 });', { integers: 'bigint' });
    await apply([upsert(table, ['a', 'Ada', 36n, 2]), upsert(table, ['b', 'Bob', 9223372036854775806n, 2])].slice(0, 1));
    expect(shown(target.got)).toEqual([['u', null, ['a', 'Ada', 37n, 2]]]);
  });

  it('null leaves a row out, and removes it where it may stand', async () => {
    const code = 'export default (row) => (row.age < 18 ? null : {});';
    const [adult, child]: Value[][] = [
      ['a', 'Ada', 36, 1],
      ['a', 'Ada', 9, 1],
    ];
    const states = await opened(code);
    await states.apply([upsert(table, child!), upsert(table, adult!)]);
    expect(shown(states.target.got)).toEqual([
      ['d', null, null],
      ['u', null, adult],
    ]);
    await sink!.close();
    const changes = await opened(code, { wants: 'changes' });
    const gone = (before: Value[]): SinkChange => ({ ...remove(table, ['a']), before });
    await changes.apply([
      upsert(table, child!, 'c'),
      updated(child!, adult!),
      updated(adult!, child!),
      updated(child!, child!),
      gone(child!),
      gone(adult!),
    ]);
    expect(shown(changes.target.got)).toEqual([
      ['c', null, adult],
      ['d', adult, null],
      ['d', adult, null],
    ]);
  });

  it.each([
    ['throws', 'export default () => { throw new RangeError("SECRET"); };', /threw RangeError at 1:\d+/],
    ['gives a text', 'export default () => "SECRET";', /gave neither an object nor null/],
    ['gives a promise', 'export default async () => ({});', /gave neither an object nor null/],
    ['gives an unknown column', 'export default () => ({ nmae: "SECRET" });', /gave a column nmae/],
    ['gives an object as a value', 'export default () => ({ name: { SECRET: 1 } });', /no value of a database/],
    ['gives a function as a value', 'export default () => ({ name: () => 1 });', /no value of a database/],
    ['changes the key', 'export default () => ({ id: "SECRET" });', /changed the key column id/],
    ['ends the thread', 'export default () => process.exit(3);', /ended its thread/],
    ['takes all memory', 'export default () => { const all = []; for (;;) all.push(new Array(100000).fill({})); };', /thread/],
  ])('that %s refuses the row', async (_, code, message) => {
    const { target, apply } = await opened(code, { timeoutMs: 30_000 });
    const refused = apply([upsert(table, ['a', 'SECRET', 1, 1])]);
    await expect(refused).rejects.toMatchObject({ code: 'SINK_ROW_REFUSED', message: expect.stringMatching(message) });
    await expect(refused).rejects.not.toThrow(/SECRET/);
    expect(target.got).toEqual([]);
  });

  it('that does not come back is ended, and starts again with the sink', async () => {
    const code = 'export default (row) => { while (row.age === 2); return {}; };';
    const { target, apply } = await opened(code, { timeoutMs: 100 });
    const rows = [upsert(table, ['a', 'x', 1, 1]), upsert(table, ['b', 'x', 2, 1]), upsert(table, ['c', 'x', 3, 1])];
    await expect(apply(rows)).rejects.toMatchObject({ code: 'SINK_ROW_REFUSED', message: expect.stringContaining('took longer than 100 ms') });
    await sink!.close();
    await sink!.open(contextOf('t'));
    await apply([rows[0]!, rows[2]!]);
    expect(target.got).toHaveLength(2);
  });

  it('sees nothing of the environment', async () => {
    process.env['WAGGLE_TEST_SECRET'] = 'SECRET';
    const { target, apply } = await opened('export default () => ({ name: Object.keys(process.env).join() });');
    await apply([upsert(table, ['a', 'x', 1, 1])]);
    expect(shown(target.got)).toEqual([['u', null, ['a', '', 1, 1]]]);
  });

  it.each([
    ['no such file', null],
    ['no default export', 'export const transform = 1;'],
    ['a syntax error', 'export default (row => {'],
  ])('with %s is a wrong configuration', async (_, code) => {
    const module = join(directory.path, `broken-${(count += 1)}.ts`);
    if (code !== null) writeFileSync(module, code);
    sink = new TransformingSink(new Keeping('states', 'number'), { place: 'waggle.yaml:7:5: sinks.a.transform.module', module, timeoutMs: 1000 });
    await expect(sink.open(contextOf('t'))).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining(`waggle.yaml:7:5: sinks.a.transform.module: the transform module ${module}: `),
    });
  });
});
