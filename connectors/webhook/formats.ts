/**
 * Bodies of requests.
 *
 *     envelope   [event, …]                                                  schemas/event.schema.json
 *     hive       /sync        {"model","operation","data","recordId","timestamp"}
 *                /sync/batch  {"model","operation","records":[{"data","recordId"}, …],"timestamp"}
 *     convex     {"model","operation","data","hiveId"}
 *
 * The last two are what the guides of Hive and Convex post. `model`: the table's name in the target. `operation`: create (also for an
 * existing row), update, delete; convex: add, set, remove. `data`: the row, for a delete as it was (null where that is not known); values as
 * in the envelope. `recordId` and `hiveId`: the key's value, an array of the values of a composite key, `waggle_rowid` of a table
 * without a key. `timestamp`: of the commit, ISO 8601; in a batch that of its last record.
 *
 * A body depends on its changes alone: sent again it is the same text.
 */
import { columnJson, EnvelopeEncoder, firstOwnColumn, jsonValue, markText, placeOf } from '../../src/change/envelope.ts';
import { RowRefusedError, type SinkChange, type SinkRowChange, type SinkTable, type SinkTruncateChange } from '../../src/pipeline/sink.ts';
import { VERSION } from '../../src/support/version.ts';

export type FormatName = 'envelope' | 'hive' | 'convex';

export interface Limits {
  /** Changes in a body at most. */
  readonly records: number;
  /** A body of so many characters takes no further change. */
  readonly characters: number;
}

export interface Body {
  readonly path: string;
  readonly text: string;
  /** What is in it; never empty. */
  readonly changes: readonly SinkChange[];
}

/** Changes in order → bodies in order. */
export type Format = (changes: readonly SinkChange[]) => Generator<Body, void, undefined>;

export interface FormatOptions {
  readonly hive: string;
  readonly limits: Limits;
  readonly truncate: boolean;
}

export const makeFormat = (name: FormatName, options: FormatOptions): Format => {
  switch (name) {
    case 'envelope':
      return envelopeFormat(options);
    case 'hive':
      return hiveFormat(options);
    case 'convex':
      return convexFormat(options);
  }
};

const envelopeFormat = ({ hive, limits }: FormatOptions): Format => {
  const encoder = new EnvelopeEncoder({ hive, version: VERSION });
  return function* (changes) {
    for (const { items, texts } of groups(changes, limits, (change) => ({ run: '', text: encoder.encode(change) }))) {
      yield { path: '', text: `[${texts.join()}]`, changes: items };
    }
  };
};

const HIVE_OPERATIONS = { c: 'create', r: 'create', u: 'update', d: 'delete' } as const;
const CONVEX_OPERATIONS = { c: 'add', r: 'add', u: 'set', d: 'remove' } as const;

const hiveFormat = ({ limits, truncate }: FormatOptions): Format =>
  function* (changes) {
    const record = (change: RecordChange): { run: string; text: string } => ({
      run: `"model":${JSON.stringify(change.table.name)},"operation":"${change.op === 't' ? 'truncate' : HIVE_OPERATIONS[change.op]}"`,
      text: `"data":${dataText(change)},"recordId":${recordId(change)}`,
    });
    for (const { run, items, texts } of groups(changes.filter(recordsOnly(truncate)), limits, record)) {
      const timestamp = `"timestamp":"${new Date(placeOf(items.at(-1)!.source).timestampUs / 1000).toISOString()}"`;
      yield items.length === 1
        ? { path: '/sync', text: `{${run},${texts[0]},${timestamp}}`, changes: items }
        : { path: '/sync/batch', text: `{${run},"records":[${texts.map((text) => `{${text}}`).join()}],${timestamp}}`, changes: items };
    }
  };

const convexFormat = ({ truncate }: FormatOptions): Format =>
  function* (changes) {
    for (const change of changes.filter(recordsOnly(truncate))) {
      const operation = change.op === 't' ? 'truncate' : CONVEX_OPERATIONS[change.op];
      const text = `{"model":${JSON.stringify(change.table.name)},"operation":"${operation}","data":${dataText(change)},"hiveId":${recordId(change)}}`;
      yield { path: '', text, changes: [change] };
    }
  };

interface Group<T extends SinkChange> {
  readonly run: string;
  readonly items: T[];
  readonly texts: string[];
}

/** Neighbours of one run together, within the limits. */
const groups = function* <T extends SinkChange>(
  changes: readonly T[],
  limits: Limits,
  encode: (change: T) => { run: string; text: string },
): Generator<Group<T>, void, undefined> {
  let group: Group<T> | null = null;
  let characters = 0;
  for (const change of changes) {
    const { run, text } = encode(change);
    if (group !== null && (group.run !== run || group.items.length >= limits.records || characters >= limits.characters)) {
      yield group;
      group = null;
    }
    group ??= { run, items: [], texts: [] };
    characters = group.items.length === 0 ? text.length : characters + text.length;
    group.items.push(change);
    group.texts.push(text);
  }
  if (group !== null) yield group;
};

type RecordChange = SinkRowChange | SinkTruncateChange;

/** What the guides' formats can tell. A row without a key is none that a receiver could find again: its delete says nothing. */
const recordsOnly =
  (truncate: boolean) =>
  (change: SinkChange): change is RecordChange => {
    if (change.op === 's') return false;
    if (change.op === 't') return truncate;
    return change.op !== 'd' || !change.key.includes(null);
  };

const dataText = (change: RecordChange): string => {
  if (change.op === 't') return markText(change);
  const values = change.after ?? change.before;
  if (values === null) return 'null';
  const labels = labelsOf(change.table);
  const first = firstOwnColumn(change.table);
  let text = '{';
  for (let index = first; index < labels.length; index += 1) {
    text += (index > first ? ',' : '') + labels[index]! + columnJson(change.table.columns[index]!, values[index] ?? null);
  }
  return `${text}}`;
};

const LABELS = new WeakMap<SinkTable, readonly string[]>();

/** `"column":` of each column, made once a table. */
const labelsOf = (table: SinkTable): readonly string[] => {
  let labels = LABELS.get(table);
  if (labels === undefined) {
    labels = table.columns.map(({ name }) => `${JSON.stringify(name)}:`);
    LABELS.set(table, labels);
  }
  return labels;
};

const recordId = (change: RecordChange): string => {
  if (change.op === 't') return 'null';
  const { key, table } = change;
  if (key.includes(null)) {
    const names = table.key.map((index) => table.columns[index]!.name).join(', ');
    throw new RowRefusedError(change, `webhook: a row of ${table.name} has NULL in its key (${names})`, {
      hint: 'The format has no place for such a row: use `format: envelope`, mend the row, or exclude the table.',
    });
  }
  return key.length === 1 ? jsonValue(key[0]!) : `[${key.map(jsonValue).join()}]`;
};
