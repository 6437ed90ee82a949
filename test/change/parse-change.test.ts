import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeEnvelope } from '../../src/change/envelope.ts';
import { envelopeObject } from '../../src/change/envelope-object.ts';
import { parseChange } from '../../src/change/parse-change.ts';
import { sinkTable, truncate, upsert } from '../connectors/sink-changes.ts';

const context = { hive: 'app', version: '0' };
const table = sinkTable('t', [
  { name: 'id', type: 'INTEGER', key: true },
  { name: 'v', type: '' },
  { name: 'ts_ns', type: 'INTEGER' },
]);

describe('parseChange', () => {
  it('gives the event that was written, integers digit for digit', () => {
    const integer = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
    const value = fc.oneof(
      fc.constant(null),
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      integer,
      fc.string(),
      fc.constantFrom('":1234567890123456789', '"ts_ns":1'),
    );
    fc.assert(
      fc.property(integer, value, integer, (id, v, nanoseconds) => {
        const change = upsert(table, [id, v, nanoseconds], 'c');
        const expected = envelopeObject(change, context);
        // -0 and whole REALs beyond 2^53 are written as they are, and read as what they look like.
        const looks = typeof v === 'number' && Number.isInteger(v) && !Number.isSafeInteger(v) && Math.abs(v) < 1e21;
        const shown = looks ? { ...expected, after: { ...expected.after, v: BigInt(String(v)) } } : expected;
        expect(parseChange({ value: Buffer.from(encodeEnvelope(change, context)) })).toEqual(shown);
        expect(parseChange({ value: encodeEnvelope(change, context) })).toEqual(shown);
      }),
      { numRuns: 1000 },
    );
  });

  it('reads emptied tables and records with a schema, and tells a tombstone', () => {
    const text = encodeEnvelope(truncate(table), context);
    expect(parseChange({ value: text })).toMatchObject({ op: 't', key: null });
    expect(parseChange({ value: `{"schema":{},"payload":${text}}` })).toEqual(parseChange({ value: text }));
    expect(parseChange({ value: null })).toBe(null);
  });

  it.each(['', 'no JSON', '5', 'null', '{}', '{"status":"BEGIN","id":"1:1"}', '{"op":"x","before":null,"after":null,"source":{"table":"t"}}'])(
    'refuses %s',
    (value) => {
      expect(() => parseChange({ value })).toThrow(expect.objectContaining({ code: 'EVENT_INVALID' }));
    },
  );

  it('knows the type of the rows', () => {
    const change = parseChange<{ name: string }>({
      value: encodeEnvelope(upsert(sinkTable('n', [{ name: 'name', key: true }]), ['Ada'], 'c'), context),
    });
    const names: string[] = change?.op === 'c' && change.after !== null ? [change.after.name] : [];
    expect(names).toEqual(['Ada']);
  });
});
