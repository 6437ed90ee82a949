/**
 * For any shaping: a target that saw every step of a history holds the same as one that is filled at its end. The first is written
 * while rows come, go and change, tables are rebuilt and the runner is restarted; the second by a fill alone.
 */
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Value } from '../../../src/change/table.ts';
import type { TableOptions } from '../../../src/pipeline/shaping/options.ts';
import { Random } from '../../helpers/random.ts';
import { RunnerScene } from '../../helpers/runner-scene.ts';
import { SqliteTestSink } from '../../helpers/sqlite-test-sink.ts';

interface Columns {
  readonly key: readonly string[];
  readonly plain: readonly string[];
  /** Keys that tell the rows, too; the last column of a table is the one that updates change. */
  readonly keys: readonly (readonly string[])[];
}
const TABLES: Readonly<Record<string, Columns>> = {
  items: {
    key: ['id'],
    plain: ['name', 'value'],
    keys: [
      ['id', 'value'],
      ['value', 'id'],
      ['tenant', 'id'],
    ],
  },
  pairs: {
    key: ['a', 'b'],
    plain: ['v'],
    keys: [
      ['b', 'a'],
      ['v', 'b', 'a'],
      ['a', 'tenant', 'b'],
    ],
  },
  notes: { key: [], plain: ['body', 'n'], keys: [] },
};

const mask = fc.constantFrom('hash' as const, 'redact' as const, { truncate: 2 });

/** True, false or unknown for any value: a condition that fails would be a refused row. */
const condition = (column: string): fc.Arbitrary<string> =>
  fc.constantFrom(
    `type(${column}) == string`,
    `type(${column}) != int || ${column} % 2 == 0`,
    `${column} == null || type(row["${column}"]) == double`,
    `type(${column}) == int && ${column} < 3`,
    `[1, 2, 3].exists(n, n == ${column})`,
  );

const optionsFor = (name: string): fc.Arbitrary<TableOptions> => {
  const { plain, keys } = TABLES[name]!;
  const [first = ''] = plain;
  // A column that the chosen key needs must be there, and unmasked or hashed.
  const free = (chosen: readonly string[] | undefined): string[] => plain.filter((column) => chosen?.includes(column) !== true);
  return fc
    .record(
      {
        key: fc.constantFrom(undefined, ...keys),
        to: fc.constantFrom(undefined, 'app_*', `${name}_2`),
        where: fc.option(fc.constantFrom(...plain).chain(condition), { nil: undefined }),
        deleted: fc.constantFrom(undefined, 'hard' as const, 'soft' as const),
        excluded: fc.subarray([...plain]),
        masks: fc.dictionary(fc.constantFrom(...plain), mask),
        hashKey: fc.boolean(),
        rename: fc.boolean(),
      },
      { requiredKeys: ['key', 'excluded', 'masks', 'hashKey', 'rename'] },
    )
    .map(({ key: chosen, excluded, masks, hashKey, rename, to, where, deleted }): TableOptions => {
      const may = free(chosen);
      const masked = Object.fromEntries(Object.entries(masks).filter(([column]) => may.includes(column)));
      return {
        to,
        where,
        deleted,
        key: chosen,
        columns: {
          exclude: excluded.filter((column) => may.includes(column)),
          rename: rename ? { [first]: 'renamed' } : {},
          mask: hashKey && TABLES[name]!.key.length > 0 ? { ...masked, [TABLES[name]!.key[0]!]: 'hash' } : masked,
          add: { tenant: '$hive', constant: 7 },
        },
      };
    });
};

const shapings = fc.record({ items: optionsFor('items'), pairs: optionsFor('pairs'), notes: optionsFor('notes') });

/** All rows of all tables that have any; of tables with soft deletes those that live. */
const contents = (sink: SqliteTestSink): Record<string, unknown> => {
  const names = sink.db
    .prepare<[], string>("SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'checkpoint' ORDER BY name")
    .pluck()
    .all();
  return Object.fromEntries(
    names.flatMap((name) => {
      const columns = sink.db.prepare<[], string>(`SELECT name FROM pragma_table_info('${name}')`).pluck().all();
      const deletedAt = columns.indexOf('deleted_at');
      const rows = sink.rows(name).filter((row) => deletedAt === -1 || row[deletedAt] === null);
      return rows.length === 0 ? [] : [[name, { columns, rows: rows.map(shown).sort() }]];
    }),
  );
};

const shown = (row: readonly Value[]): string =>
  JSON.stringify(
    row.map((value) => (value instanceof Uint8Array ? `blob ${Buffer.from(value).toString('hex')}` : `${typeof value} ${String(value)}`)),
  );

test.each(['states', 'changes'] as const)('a sink that wants %s', { timeout: 120_000 }, async (wants) => {
  let shapedRows = 0;
  await fc.assert(
    fc.asyncProperty(fc.integer(), shapings, async (seed, tables) => {
      using scene = new RunnerScene();
      const random = new Random(seed);
      const mapping = { tables, maskKey: 'a key of the masks' };
      scene.sink = new SqliteTestSink(wants);
      scene.source.seed(random, random.int(10));
      let running = scene.start({ mapping, batch: { rows: 1 + random.int(20), delayMs: 50 } });
      for (let index = 40; index > 0; index -= 1) {
        scene.source.commit(random);
        if (random.chance(0.03)) scene.source.recreate(random.pick(['items', 'pairs', 'notes']));
        if (random.chance(0.2)) await scene.caughtUp(running.runner);
        if (!random.chance(0.03)) continue;
        await running.stop();
        running = scene.start({ mapping });
      }
      await scene.caughtUp(running.runner);
      await running.stop();
      const filled = new SqliteTestSink(wants);
      const filling = scene.start({ mapping, name: 'filled', sink: filled });
      await scene.caughtUp(filling.runner);
      await filling.stop();
      expect(running.runner.status.error).toBeNull();
      const expected = contents(filled);
      expect(contents(scene.sink)).toEqual(expected);
      shapedRows += Object.values(expected).reduce<number>((sum, table) => sum + (table as { rows: unknown[] }).rows.length, 0);
    }),
    { numRuns: 40 },
  );
  expect(shapedRows).toBeGreaterThan(60);
});
