/**
 * What a consumer of a jsonl file ends up with, strictly: seq without a gap, no create of a row that is there, no update or
 * delete of one that is not, every before image equal to the state. While the first fill runs, a change may come before the
 * row it changes was read: until the last `r` of its table an unknown row is allowed.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { type RowSet, tally } from './row-sets.ts';

type JsonRow = Record<string, string | number | null>;

interface Event {
  readonly seq: number | null;
  readonly op: 'c' | 'u' | 'd' | 'r' | 's' | 't';
  readonly key: JsonRow | null;
  readonly before: JsonRow | null;
  readonly after: JsonRow | null;
  readonly columns?: readonly { readonly name: string }[] | null;
  readonly source: { readonly table: string; readonly recovered: boolean };
  readonly transaction: { readonly id: string; readonly total_order: number; readonly last?: true } | null;
}

export interface JsonlReplay {
  readonly events: number;
  /** Rows of the first fill. */
  readonly filled: number;
  readonly lastSeq: number;
  /** Changes that contradict the state before them, or the order; the first of each kind is named. */
  readonly faults: readonly string[];
  /** The state after the last event, in the tables and columns of `like`; form `text`. */
  rowsLike(like: RowSet): RowSet;
}

export const replayJsonl = (path: string): JsonlReplay => {
  const tables = new Map<string, Map<string, JsonRow>>();
  const faults: string[] = [];
  const lastRead = lastReads(path);
  let [events, filled] = [0, 0];
  let seq: number | null = null;
  let open: string | null = null;

  for (const line of linesOf(path)) {
    const event = JSON.parse(line) as Event;
    const { op, source, transaction } = event;
    const where = `seq ${event.seq} (${op} ${source.table})`;
    events += 1;
    if (op === 'r') filled += 1;
    if (event.seq !== null) {
      if (seq !== null && event.seq !== seq + 1) faults.push(`${where} follows seq ${seq}`);
      seq = event.seq;
      if (open === null ? transaction?.total_order !== 1 : transaction?.id !== open) faults.push(`${where} does not stand in its transaction`);
      open = transaction?.last === true ? null : (transaction?.id ?? null);
    }
    const rows = tables.get(source.table) ?? new Map<string, JsonRow>();
    tables.set(source.table, rows);
    if (op === 't') {
      rows.clear();
      continue;
    }
    if (op === 's') {
      alter(tables, event);
      continue;
    }
    const key = JSON.stringify(event.key);
    const known = rows.get(key);
    const filling = events < (lastRead.get(source.table) ?? 0);
    if (op === 'c' && known !== undefined) faults.push(`${where} creates a row that is there`);
    if ((op === 'u' || op === 'd') && known === undefined && !filling) faults.push(`${where} of a row that is not there`);
    const told = op === 'r' ? event.after : event.before;
    if (known !== undefined && told !== null && !agree(known, told)) faults.push(`${where}: the row before it is another one`);
    if (event.after === null) rows.delete(key);
    else rows.set(key, event.after);
  }

  return {
    events,
    filled,
    lastSeq: seq ?? 0,
    faults,
    rowsLike: (like) =>
      new Map(
        [...like].map(([name, { columns }]) => [
          name,
          tally(
            columns,
            [...(tables.get(name)?.values() ?? [])].map((row) => JSON.stringify(columns.map((column) => textOf(row[column])))),
          ),
        ]),
      ),
  };
};

/** Which line, from 1, is the last row of the first fill, by table. */
const lastReads = (path: string): Map<string, number> => {
  const last = new Map<string, number>();
  let number = 0;
  for (const line of linesOf(path)) {
    number += 1;
    if (line.startsWith('{"seq":null,"op":"r"')) last.set((JSON.parse(line) as Event).source.table, number);
  }
  return last;
};

/** The file can be larger than a string. */
const linesOf = function* (path: string): Generator<string> {
  const fd = openSync(path, 'r');
  try {
    const block = Buffer.alloc(4 << 20);
    let rest = Buffer.alloc(0);
    for (let size = readSync(fd, block); size > 0; size = readSync(fd, block)) {
      const bytes = Buffer.concat([rest, block.subarray(0, size)]);
      let from = 0;
      for (let end = bytes.indexOf(10); end !== -1; end = bytes.indexOf(10, from)) {
        yield bytes.toString('utf8', from, end);
        from = end + 1;
      }
      rest = bytes.subarray(from);
    }
    if (rest.length > 0) throw new Error(`${path} ends with a torn line`);
  } finally {
    closeSync(fd);
  }
};

/** New columns are null until a change says otherwise, dropped ones go, a dropped table goes. */
const alter = (tables: Map<string, Map<string, JsonRow>>, { source, columns }: Event): void => {
  if (columns === null || columns === undefined) return void tables.delete(source.table);
  const rows = tables.get(source.table)!;
  for (const [key, row] of rows) rows.set(key, Object.fromEntries(columns.map(({ name }) => [name, row[name] ?? null])));
};

/** In the columns that both have: a before image of an altered table has the old columns. */
const agree = (known: JsonRow, told: JsonRow): boolean =>
  Object.entries(told).every(([column, value]) => !(column in known) || known[column] === value);

const textOf = (value: string | number | null | undefined): string | null => (value === null || value === undefined ? null : String(value));
