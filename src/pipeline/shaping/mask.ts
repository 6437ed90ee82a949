/** Values that a target gets instead of the real ones. NULL stays NULL, so that it can be told from a value. */
import { createHmac, createSecretKey, type KeyObject } from 'node:crypto';
import type { Value } from '../../change/table.ts';
import type { Mask } from './options.ts';

export const REDACTED = '[redacted]';

/** The key of the mask `hash`, which nobody writes down by mistake: as JSON it is a fingerprint. */
export class MaskKey {
  readonly secret: KeyObject;

  constructor(text: string) {
    this.secret = createSecretKey(Buffer.from(text));
  }

  toJSON(): string {
    return createHmac('sha256', this.secret).update('fingerprint of the mask key').digest('hex').slice(0, 16);
  }
}

/** `key`: for `hash`, which needs one. The same value gives the same hash in every column, so that they can still be joined. */
export const maskFunction = (mask: Mask, key: MaskKey | string | null): ((value: Value) => Value) => {
  if (mask === 'redact') return (value) => (value === null ? null : REDACTED);
  if (mask !== 'hash') return (value) => truncated(value, mask.truncate);
  if (key === null) throw new TypeError('the mask `hash` needs a key');
  const { secret } = typeof key === 'string' ? new MaskKey(key) : key;
  return (value) => (value === null ? null : createHmac('sha256', secret).update(bytesOf(value)).digest('hex'));
};

const truncated = (value: Value, length: number): Value => {
  if (value === null) return null;
  if (value instanceof Uint8Array) return value.subarray(0, length);
  // By characters, not by UTF-16 units: half an emoji is no text.
  return Array.from(String(value)).slice(0, length).join('');
};

const bytesOf = (value: Exclude<Value, null>): string | Uint8Array => (value instanceof Uint8Array ? value : String(value));
