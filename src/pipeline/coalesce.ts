/**
 * The last state of each key, for sinks that want states.
 *
 * What is left of a part: of each key the last change, in the order of these last changes. A `t` removes what came
 * before it of its table (one that marks is a barrier for its table); an `s` is a barrier: nothing before it joins with anything behind it. Between two of them a
 * key comes once at most, so that a sink may group upserts and deletes as it likes.
 *
 * Keys are compared as SQLite compares them: INTEGER 1 and REAL 1.0 are one key; TEXT '1' and BLOB x'31' are others.
 * Where a key does not tell the row (NULL, invalid text), the rowid counts, too.
 */
import { keyNeedsRowid } from '../change/key.ts';
import type { Rowid, Value } from '../change/table.ts';
import type { SinkChange, SinkColumn, SinkRowChange, SinkTable } from './sink.ts';

export const coalesce = (part: readonly SinkChange[]): SinkChange[] => {
  const kept: (SinkChange | null)[] = [];
  let places = new Map<string, TablePlaces>();
  let lost = 0;
  for (const change of part) {
    switch (change.op) {
      case 's':
        places = new Map();
        break;
      case 't': {
        const cleared = places.get(change.table.name);
        if (cleared === undefined) break;
        // Marked rows stay: what came before it is to be marked, too.
        if (change.mark !== undefined) {
          places.delete(change.table.name);
          break;
        }
        for (const place of cleared.byKey.values()) kept[place] = null;
        lost += cleared.byKey.size;
        places.delete(change.table.name);
        break;
      }
      default: {
        const { byKey, keyColumns } = tablePlaces(places, change.table);
        const identity = identityOf(change, keyColumns);
        const before = byKey.get(identity);
        if (before !== undefined) {
          kept[before] = null;
          lost += 1;
        }
        byKey.set(identity, kept.length);
      }
    }
    kept.push(change);
  }
  return lost === 0 ? (kept as SinkChange[]) : kept.filter((change) => change !== null);
};

type Identity = string | number | bigint;

interface TablePlaces {
  readonly keyColumns: readonly SinkColumn[];
  /** Where the last change of each key stands in what is kept. */
  readonly byKey: Map<Identity, number>;
}

const tablePlaces = (places: Map<string, TablePlaces>, table: SinkTable): TablePlaces => {
  let found = places.get(table.name);
  if (found === undefined) {
    found = { keyColumns: table.key.map((index) => table.columns[index]!), byKey: new Map() };
    places.set(table.name, found);
  }
  return found;
};

/** What two changes have in common exactly when they are of the same row of a table. */
const identityOf = (change: SinkRowChange, keyColumns: readonly SinkColumn[]): Identity => {
  const { key } = change;
  const single = key.length === 1 ? key[0]! : null;
  if (typeof single === 'number' && Number.isFinite(single)) return single;
  if (typeof single === 'bigint') return plainInteger(single);
  const needsRowid = keyNeedsRowid(keyColumns, key);
  // Text that begins with NUL could be mistaken for one of the tagged forms.
  if (typeof single === 'string' && !needsRowid && single[0] !== '\0') return single;
  const rowid = needsRowid ? `${rowidOf(change) ?? ''}` : '';
  return `\0${rowid}\0${key.map(tagged).join('')}`;
};

// A bigint that a double holds exactly is the same key as that double.
const plainInteger = (value: bigint): number | bigint => {
  const number = Number(value);
  return BigInt(number) === value ? number : value;
};

/** Equal exactly for values that SQLite takes for the same key. */
export const tagged = (value: Value): string => {
  switch (typeof value) {
    case 'string':
      return `t${value.length}:${value}`;
    case 'number':
      return `n${value === 0 ? 0 : value};`;
    case 'bigint':
      return `n${plainInteger(value)};`;
    default:
      return value === null ? '_' : `b${value.length}:${Buffer.from(value.buffer, value.byteOffset, value.length).toString('latin1')}`;
  }
};

const rowidOf = ({ source }: SinkRowChange): Rowid | null =>
  source.op === 's' || source.op === 't' ? null : ((source.after ?? source.before)?.rowid ?? null);
