/**
 * Values of an overridden type. What cannot be converted is refused, never made NULL; NULL stays NULL.
 *
 *     timestamptz  '2026-11-21', '2026-11-21 10:00', '2026-11-21T10:00:00.123Z', '…+02:00'   → '2026-11-21T08:00:00.123Z'
 *                  (no zone: UTC, as SQLite's own functions have it)
 *     boolean      0, 1, 'true', 'false'                                                      → 0, 1
 *     json         JSON text, a number                                                        → JSON text
 */
import type { Affinity, Value } from '../../change/table.ts';
import type { ColumnKind } from '../sink.ts';
import type { TypeOverride } from './options.ts';

/** What a column of this type is to the sink: kind, declared type and affinity. */
export const TYPES: Readonly<Record<TypeOverride, { readonly kind: ColumnKind; readonly type: string; readonly affinity: Affinity }>> = {
  timestamptz: { kind: 'timestamp', type: 'DATETIME', affinity: 'NUMERIC' },
  boolean: { kind: 'boolean', type: 'BOOLEAN', affinity: 'NUMERIC' },
  json: { kind: 'json', type: 'TEXT', affinity: 'TEXT' },
};

/** Undefined: the value cannot be converted. */
export const convert = (type: TypeOverride, value: Value, integers: 'number' | 'bigint'): Value | undefined => {
  if (value === null) return null;
  switch (type) {
    case 'timestamptz':
      return typeof value === 'string' ? timestampOf(value) : undefined;
    case 'boolean': {
      const truth = truthOf(value);
      return truth === undefined ? undefined : integers === 'bigint' ? BigInt(truth) : Number(truth);
    }
    case 'json':
      return jsonOf(value);
  }
};

const TIMESTAMP = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(\.\d+)?)?)? ?(Z|[+-]\d\d:?\d\d)?$/i;

const timestampOf = (text: string): string | undefined => {
  const [, day, hours = '00', minutes = '00', seconds = '00', fraction = '', zone = 'Z'] = TIMESTAMP.exec(text) ?? [];
  if (day === undefined) return undefined;
  const local = new Date(`${day}T${hours}:${minutes}:${seconds}Z`);
  // Date takes 24:00 and, in some forms, days that no month has.
  if (Number.isNaN(local.getTime()) || !local.toISOString().startsWith(`${day}T${hours}`)) return undefined;
  const offset = offsetMinutes(zone);
  if (offset === undefined) return undefined;
  const utc = new Date(local.getTime() - offset * 60_000).toISOString();
  return utc.length === 24 ? utc.slice(0, 19) + fraction + 'Z' : undefined;
};

const offsetMinutes = (zone: string): number | undefined => {
  if (/^z$/i.test(zone)) return 0;
  const [hours, minutes] = [Number(zone.slice(1, 3)), Number(zone.slice(-2))];
  if (hours > 15 || minutes > 59) return undefined;
  return (zone.startsWith('-') ? -1 : 1) * (hours * 60 + minutes);
};

const truthOf = (value: Exclude<Value, null>): boolean | undefined => {
  if (value === 0 || value === 0n) return false;
  if (value === 1 || value === 1n) return true;
  if (typeof value !== 'string' || !/^(true|false)$/i.test(value)) return undefined;
  return value.length === 4;
};

const jsonOf = (value: Exclude<Value, null>): string | undefined => {
  if (typeof value === 'bigint') return String(value);
  if (typeof value === 'number') return Number.isFinite(value) ? String(value) : undefined;
  if (typeof value !== 'string') return undefined;
  try {
    JSON.parse(value);
    return value;
  } catch {
    return undefined;
  }
};
