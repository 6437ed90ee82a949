/**
 * A writer's account of its transaction: what SQLite itself says stands in the tables, in a form in which the rows of the log can
 * be compared with it. One JSON object a line, written before COMMIT.
 *
 *     row text     value texts joined by `|`; `@rowid|` in front where no declared key tells the row
 *     value text   n, i<integer>, r<real>, t<HEX of the bytes as stored>, b<HEX>; a long one is its beginning, length and hash
 *     sum          of the rows' hashes, modulo 2^52: order does not matter, and one changed row is one subtraction and one addition
 */
import type { Value } from '../../src/change/table.ts';

export interface TableAccount {
  readonly name: string;
  readonly columns: readonly string[];
  readonly rows: number;
  readonly sum: number;
  /** Row texts that came and went since this writer's last account of the table, in all their transactions and everybody else's. */
  readonly added: readonly string[];
  readonly removed: readonly string[];
  /** Only in a complete account: the sum with the rowid in front of each row text; -1 where the table has none. */
  readonly rowidSum?: number;
}

export interface Account {
  /** Value of the counter that each transaction raises: the commit order over all writers. */
  readonly order: number;
  readonly writer: number;
  /** Tables that the transaction may have changed, as they stand right before COMMIT. */
  readonly tables: readonly TableAccount[];
  /** All tables that capture should know. Present where the schema is another one than in this writer's last account. */
  readonly names?: readonly string[];
  /** Sums of some tables at the transaction's beginning. */
  readonly before?: readonly { readonly name: string; readonly sum: number }[];
  readonly statements?: readonly string[];
}

/** COMMIT was refused: the account with this order is void. */
export interface VoidAccount {
  readonly void: number;
}

const HASH_LIMIT = 2 ** 52;

/** 52 bits (cyrb53, two of its bits less, so that two sums can be added exactly). */
export const hashText = (text: string): number => {
  let h1 = 0xdeadbeef;
  let h2 = 0x41c6ce57;
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index);
    h1 = Math.imul(h1 ^ code, 2654435761);
    h2 = Math.imul(h2 ^ code, 1597334677);
  }
  h1 = Math.imul(h1 ^ (h1 >>> 16), 2246822507) ^ Math.imul(h2 ^ (h2 >>> 13), 3266489909);
  h2 = Math.imul(h2 ^ (h2 >>> 16), 2246822507) ^ Math.imul(h1 ^ (h1 >>> 13), 3266489909);
  return (h2 & 0xfffff) * 2 ** 32 + (h1 >>> 0);
};

export const addHash = (sum: number, hash: number): number => (sum + hash) % HASH_LIMIT;
export const subtractHash = (sum: number, hash: number): number => (sum - hash + HASH_LIMIT) % HASH_LIMIT;

const LONG = 64;

const shortened = (text: string): string => (text.length <= LONG ? text : `${text.slice(0, 24)}…${text.length}#${hashText(text).toString(36)}`);

/** The value text of a value whose text or BLOB was made hexadecimal already (`t…`, `b…`). */
export const valueText = (value: Value): string => {
  switch (typeof value) {
    case 'string':
      return shortened(value);
    case 'bigint':
      return `i${value}`;
    case 'number':
      return Object.is(value, -0) ? 'r-0' : `r${value}`;
    default:
      if (value !== null) throw new Error('a BLOB that was not made text');
      return 'n';
  }
};

/** An expression whose result `valueText` takes: text as the bytes that are stored, whatever the encoding and however invalid. */
export const valueExpression = (column: string): string =>
  `CASE typeof(${column}) WHEN 'text' THEN 't'||hex(CAST(${column} AS BLOB)) WHEN 'blob' THEN 'b'||hex(${column}) ELSE ${column} END`;

export const rowText = (rowid: bigint | number | null, values: readonly string[]): string =>
  rowid === null ? values.join('|') : `@${rowid}|${values.join('|')}`;

/** Back to what `rowText` took. */
export const parseRowText = (text: string): { rowid: string | null; values: string[] } => {
  const values = text.split('|');
  return text.startsWith('@') ? { rowid: values.shift()!.slice(1), values } : { rowid: null, values };
};
