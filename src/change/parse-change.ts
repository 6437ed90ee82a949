/** From a record of Kafka (or a line of jsonl) back to the event, for consumers. */
import { WaggleError } from '../support/errors.ts';
import type { EventRow, RowEvent, SchemaEvent, TruncateEvent } from './envelope-object.ts';

/** What a consumer has; a `KafkaMessage` of kafkajs is one. */
export interface ChangeRecord {
  /** Null: a tombstone. */
  readonly value: Uint8Array | string | null;
}

/** The event, with rows of the type that the caller knows them to be. */
export type ParsedChange<Row extends object = EventRow> =
  | (Omit<RowEvent, 'before' | 'after'> & { readonly before: Row | null; readonly after: Row | null })
  | TruncateEvent
  | SchemaEvent;

/**
 * The event that a record of a topic `<prefix>.<table>` or `<prefix>.schema` tells; null for a tombstone.
 *
 *     await consumer.run({
 *       eachMessage: async ({ message }) => {
 *         const change = parseChange<Account>(message);
 *         if (change?.op === 'u') console.log(change.before?.name, '→', change.after?.name);
 *       },
 *     });
 *
 * Reads records with and without Kafka Connect's schema. Integers of rows and keys that a number cannot hold are bigints; all others are numbers. A BLOB is base64.
 * Throws a WaggleError EVENT_INVALID for anything else, the records of `<prefix>.transaction` and `<prefix>.heartbeat` among it.
 */
export const parseChange = <Row extends object = EventRow>({ value }: ChangeRecord): ParsedChange<Row> | null => {
  if (value === null) return null;
  const text = typeof value === 'string' ? value : Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString();
  const parsed = parseExactly(text);
  const event = isObject(parsed) && 'payload' in parsed && 'schema' in parsed ? parsed['payload'] : parsed;
  if (!isEvent(event)) throw new WaggleError('EVENT_INVALID', 'this record is not an event of waggle');
  return event as ParsedChange<Row>;
};

/** A whole number that may be beyond 2^53: sixteen digits or more behind a name. The event's own `ts_us` and `ts_ns` always have them, and are none. */
const LONG_INTEGER = /(?<!"ts_us|"ts_us":\d{1,17},"ts_ns)":-?\d{16}/;
const INTEGER = /^-?\d+$/;

/** JSON with integers digit for digit. Throws EVENT_INVALID. */
export const parseExactly = (text: string): unknown => {
  try {
    if (!LONG_INTEGER.test(text)) return JSON.parse(text);
    return JSON.parse(text, function revive(this: object, name: string, value: unknown, context?: { source?: string }): unknown {
      const digits = context?.source;
      if (typeof value !== 'number' || Number.isSafeInteger(value) || digits === undefined || !INTEGER.test(digits)) return value;
      return name === 'ts_ns' && 'ts_us' in this && 'ts_ms' in this ? value : BigInt(digits);
    });
  } catch (error) {
    throw new WaggleError('EVENT_INVALID', 'this record is not JSON', { cause: error });
  }
};

const OPERATIONS = new Set<unknown>(['c', 'u', 'd', 'r', 't', 's']);

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;

const isEvent = (value: unknown): boolean =>
  isObject(value) &&
  OPERATIONS.has(value['op']) &&
  'before' in value &&
  'after' in value &&
  isObject(value['source']) &&
  typeof value['source']['table'] === 'string';
