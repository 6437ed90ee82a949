import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { addedColumns, renamedColumns } from '../../connectors/column-changes.ts';
import { targetTableName } from '../../connectors/postgres/names.ts';
import { CONNECTORS } from '../../connectors/registry.ts';
import { plainNumber } from '../../connectors/value-text.ts';
import { matchColumns } from '../../src/diff/column-changes.ts';
import { hiveTable, schemaChange, sinkTable } from './sink-changes.ts';

describe('registry', () => {
  it.each(Object.keys(CONNECTORS))('%s: options become a JSON Schema with a description of each, and the code loads', async (type) => {
    const entry = CONNECTORS[type]!;
    const schema = z.toJSONSchema(entry.options, { io: 'input' });
    expect(schema.additionalProperties).toBe(false);
    for (const property of Object.values(schema.properties ?? {})) expect(property).toHaveProperty('description');
    for (const name of [...entry.paths, ...entry.secrets]) expect(schema.properties).toHaveProperty(name);
    expect(await entry.load()).toBeTypeOf('function');
  });

  it('never shows a URL in what is wrong with it', () => {
    const result = CONNECTORS['postgres']!.options.safeParse({ url: 'mysql://u:hunter2@host/db' });
    expect(JSON.stringify(result.error?.issues)).not.toContain('hunter2');
    expect(result.success).toBe(false);
  });
});

describe('column changes', () => {
  it('follow the rule by which the diff compares rows', () => {
    const column = fc.record({
      name: fc.constantFrom('a', 'b', 'c', 'd', 'e'),
      type: fc.constantFrom('TEXT', 'INTEGER'),
      defaultValue: fc.constantFrom(null, 5),
    });
    const columns = fc.uniqueArray(column, { selector: ({ name }) => name, maxLength: 4 });
    fc.assert(
      fc.property(columns, columns, (old, now) => {
        const [before, after] = [old, now].map((list) => sinkTable('t', [{ name: 'id', key: true }, ...list]));
        const places = matchColumns(hiveTable(before!), hiveTable(after!));
        const change = schemaChange(before!, after!);
        const renamed = new Map(renamedColumns(change).map(([from, to]) => [to, before!.columns.findIndex(({ name }) => name === from)]));
        const added = new Set(addedColumns(change));
        const told = after!.columns.map(
          ({ name }, index) => renamed.get(index) ?? (added.has(index) ? -1 : before!.columns.findIndex((other) => other.name === name)),
        );
        expect(told).toEqual(places);
      }),
      { numRuns: 500 },
    );
  });
});

describe('names and numbers in Postgres', () => {
  it('keeps names distinct and within 63 bytes', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 100 }), fc.string({ unit: 'grapheme', maxLength: 100 }), (a, b) => {
        expect(Buffer.byteLength(targetTableName(a))).toBeLessThanOrEqual(63);
        expect(targetTableName(a)).not.toBe('');
        expect(targetTableName(a) === targetTableName(b)).toBe(a === b);
      }),
    );
  });

  it('writes doubles in plain digits that read back equal', () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true }), (value) => {
        const text = plainNumber(value);
        expect(Number(text)).toBe(value === 0 ? 0 : value);
        expect(text).not.toMatch(/e[+-]?\d/);
      }),
    );
  });
});
