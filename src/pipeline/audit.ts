/**
 * Compares every row of some tables of the hive with what a sink's target holds, and mends the target if asked to, while the sink streams on.
 *
 * Table by table, in two passes. *Rows*: a chunk of the mirror's rows is compared in the target when the sink stands exactly at the chunk's position,
 * so changes on their way are no differences. *Keys*: the target's keys are read, and one that neither stood in any chunk nor came by the stream
 * meanwhile is surplus. The second pass is left out where the numbers say that there is none.
 *
 * What is mended is written as a first fill writes it, at the sink's checkpoint. Rows of dead letters are counted apart and left alone.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { keyNeedsRowid } from '../change/key.ts';
import type { Row } from '../change/row.ts';
import type { RowPlace, Value } from '../change/table.ts';
import { WaggleError } from '../support/errors.ts';
import { placeOfRow } from './fill-cursor.ts';
import { KeyFilter } from './key-filter.ts';
import type { TableMapping } from './mapping.ts';
import type { RowChunk, RowSource } from './row-source.ts';
import { twoValues, type TwoValues } from './two-values.ts';
import type { RowDifferences, SinkAudit, SinkChange, SinkRowChange, SinkTable } from './sink.ts';

/** What an audit needs of the session that it runs in. */
export interface AuditHost {
  readonly rows: RowSource;
  readonly target: SinkAudit;
  readonly mapping: TableMapping;
  /** Brings the sink to this position. False: not possible now, ask for the rows again. */
  reach(asOf: RowChunk['asOf']): Promise<boolean>;
  /** Brings the sink to the end of the log. */
  catchUp(): Promise<void>;
  /** Applies these changes at the sink's checkpoint. */
  mend(changes: readonly SinkChange[]): Promise<void>;
  /**
   * The changes by which a first fill writes these rows of a chunk; `begin`: with the table before them; `refused` is called for each row that
   * the sink cannot be given.
   */
  fillChanges(chunk: RowChunk, rows: readonly Row[], options: { readonly begin: boolean; readonly refused: () => void }): SinkChange[];
  isDeadLetter(change: SinkRowChange): boolean;
}

export interface TableAuditResult {
  /** Name in the hive. */
  readonly table: string;
  /** Rows of the hive that were compared. */
  readonly rows: number;
  readonly missing: number;
  readonly changed: number;
  /** Null: keys of this type cannot be read back. */
  readonly surplus: number | null;
  /** Rows that differ because they are dead letters; in no other count. */
  readonly deadLetters: number;
  /** Why the table was left out; null: it was compared. */
  readonly notCompared: 'history' | null;
}

export interface AuditDifference {
  readonly table: string;
  readonly kind: 'missing' | 'changed' | 'surplus';
  /** Column and value. */
  readonly key: Readonly<Record<string, string | number | null>>;
  /** In the hive; only where the key does not tell the row (SQLite allows any number of NULLs in most keys). */
  readonly rowid?: string;
}

/** Row values, as text for people: for whoever asked for them alone, never for a log. */
export interface DifferentValue extends TwoValues {
  /** Index into `AuditResult.first`. */
  readonly difference: number;
  readonly column: string;
}

export interface AuditResult {
  /** Those that are done, and the one that is being compared. */
  readonly tables: readonly TableAuditResult[];
  /** The first differences. */
  readonly first: readonly AuditDifference[];
}

/** The stream waits for so much to be compared. */
const CHUNK_BYTES = 2 * 1024 * 1024;
/** Rows in a question to the target. */
const COMPARE_ROWS = 5000;
const KEYS = 10_000;
const FIRST_DIFFERENCES = 20;

export interface AuditOptions {
  readonly mends: boolean;
  /** Keep the values of the first differences. */
  readonly values: boolean;
}

export class Audit {
  readonly #host: AuditHost;
  readonly #options: AuditOptions;
  readonly #tables: string[];
  readonly #done: TableAuditResult[] = [];
  readonly #first: AuditDifference[] = [];
  readonly #values: DifferentValue[] = [];
  #current: TableRun | null = null;

  constructor(host: AuditHost, tables: readonly string[], options: AuditOptions) {
    this.#host = host;
    this.#tables = [...tables];
    this.#options = options;
  }

  /** Of the first differences that are changed rows. Null: nobody asked, or the target cannot tell. */
  get values(): readonly DifferentValue[] | null {
    return this.#tellsValues ? this.#values : null;
  }

  get #mends(): boolean {
    return this.#options.mends;
  }

  get #tellsValues(): boolean {
    return this.#options.values && this.#host.target.differences !== undefined;
  }

  get result(): AuditResult {
    return { tables: this.#current === null ? this.#done : [...this.#done, this.#current.counts()], first: this.#first };
  }

  /** A chunk. True: that was the last. Rejects with the target's error, or SINK_NOT_READABLE. */
  async step(): Promise<boolean> {
    const name = this.#tables[0];
    if (name === undefined) return true;
    this.#current ??= new TableRun(name);
    const finished = this.#current.table !== null && this.#current.allRows ? await this.#keys(this.#current) : await this.#rows(this.#current);
    if (!finished) return false;
    if (this.#current.table !== null || this.#current.notCompared !== null) this.#done.push(this.#current.counts());
    this.#current = null;
    this.#tables.shift();
    return this.#tables.length === 0;
  }

  /** Told of all that streams into the sink meanwhile. */
  streamed(part: readonly SinkChange[]): void {
    const run = this.#current;
    if (run === null) return;
    for (const change of part) {
      if (change.op === 's' || change.table.source !== run.name || change.source.seq === null) continue;
      run.touched = true;
      if (change.op !== 't' && change.after !== null) run.seen?.add(change.key);
    }
  }

  /** True: nothing more to do for this table. */
  async #rows(run: TableRun): Promise<boolean> {
    const { rows, mapping, reach } = this.#host;
    const chunk = await (run.ahead ?? rows.readRows(run.name, run.after, CHUNK_BYTES));
    run.ahead = null;
    const table = chunk === null ? null : mapping.table(chunk.table);
    if (chunk === null || table === null) return true;
    if (table.history === true) {
      run.notCompared = 'history';
      return true;
    }
    if (run.generation !== null && run.generation !== chunk.generation) {
      this.#current = new TableRun(run.name);
      return false;
    }
    if (!(await reach(chunk.asOf))) return false;
    const begin = run.table === null;
    if (begin && this.#mends) await this.#host.mend(this.#host.fillChanges(chunk, [], { begin: true, refused: () => {} }));
    run.seen ??= new KeyFilter((await this.#host.target.count(table)) + chunk.rows.length);
    run.table = table;
    run.chunk = { ...chunk, rows: [] };
    run.generation = chunk.generation;
    run.allRows = chunk.done;
    const last = chunk.rows.at(-1);
    if (last !== undefined) run.after = placeOfRow(last);
    if (!chunk.done) {
      run.ahead = rows.readRows(run.name, run.after, CHUNK_BYTES);
      run.ahead.catch(() => {}); // Seen when it is awaited, if it ever is.
    }
    // The target compares while the next rows are made ready. What is mended must not come between.
    const pipelined = this.#host.target.pipelined === true && !this.#mends;
    let comparing: Promise<Compared> | null = null;
    for (const group of groupsOf(chunk.rows, COMPARE_ROWS)) {
      const changes = this.#changesOf(run, chunk, group);
      const next = pipelined ? this.#compare(table, changes) : null;
      if (comparing !== null) await this.#take(run, await comparing);
      comparing = next ?? this.#compare(table, changes);
      await nextTurn();
    }
    if (comparing !== null) await this.#take(run, await comparing);
    return false;
  }

  #compare(table: SinkTable, changes: readonly SinkRowChange[]): Promise<Compared> {
    const compare = async (): Promise<Compared> => ({
      changes,
      ...(await this.#host.target.compare(
        table,
        changes.map((change) => change.after!),
      )),
    });
    const compared = compare();
    compared.catch(() => {}); // Seen when it is awaited, if it ever is.
    return compared;
  }

  #changesOf(run: TableRun, chunk: RowChunk, rows: readonly Row[]): SinkRowChange[] {
    const refused = (): void => void (run.deadLetters += 1);
    const changes = this.#host.fillChanges(chunk, rows, { begin: false, refused }).filter((change) => change.op !== 's' && change.op !== 't');
    for (const { key } of changes) run.seen!.add(key);
    run.rows += changes.length;
    return changes;
  }

  async #take(run: TableRun, { changes, missing, changed }: Compared): Promise<void> {
    const wrong = [
      ...missing.map((index) => ['missing', changes[index]!] as const),
      ...changed.map((index) => ['changed', changes[index]!] as const),
    ];
    const mended: SinkChange[] = [];
    const told: { readonly difference: number; readonly change: SinkRowChange }[] = [];
    for (const [kind, change] of wrong) {
      if (this.#host.isDeadLetter(change)) {
        run.deadLetters += 1;
        if (kind === 'missing') run.absent += 1;
        continue;
      }
      run[kind] += 1;
      if (kind === 'missing') run.absent += 1;
      const difference = this.#tell(run, kind, change.key, rowidOf(change));
      if (kind === 'changed' && difference !== null) told.push({ difference, change });
      mended.push(change);
    }
    if (this.#tellsValues && told.length > 0) await this.#readValues(run.table!, told);
    if (this.#mends && mended.length > 0) await this.#host.mend(mended);
  }

  async #readValues(table: SinkTable, told: readonly { readonly difference: number; readonly change: SinkRowChange }[]): Promise<void> {
    const rows = told.map(({ change }) => change.after!);
    const differences = await this.#host.target.differences!(table, rows);
    for (const [place, { difference }] of told.entries()) {
      for (const { column, wanted, found } of differences[place] ?? [])
        this.#values.push({ difference, column: table.columns[column]!.name, ...twoValues(wanted, found) });
    }
  }

  async #keys(run: TableRun): Promise<boolean> {
    const { target, catchUp } = this.#host;
    const table = run.table!;
    const mendedRows = this.#mends ? run.missing : 0;
    const expected = run.rows - run.absent + mendedRows;
    if (run.keyAfter === null && !run.touched && (await target.count(table)) === expected) return true;
    await catchUp();
    let keys: (readonly Value[])[];
    try {
      keys = await target.keys(table, run.keyAfter, KEYS);
    } catch (error) {
      if (!(error instanceof WaggleError) || error.code !== 'SINK_NOT_READABLE') throw error;
      run.surplus = null;
      return true;
    }
    const surplus = keys.filter((key) => !run.seen!.has(key));
    run.surplus = (run.surplus ?? 0) + surplus.length;
    for (const key of surplus) this.#tell(run, 'surplus', key);
    if (this.#mends && surplus.length > 0) await this.#host.mend(surplus.map((key) => removal(table, key, run.chunk!)));
    run.keyAfter = keys.at(-1) ?? null;
    return keys.length < KEYS;
  }

  /** Index into what is told; null: enough is told. */
  #tell(run: TableRun, kind: AuditDifference['kind'], key: readonly Value[], rowid: string | null = null): number | null {
    if (this.#first.length >= FIRST_DIFFERENCES) return null;
    const columns = run.table!.key.map((index) => run.table!.columns[index]!.name);
    const named = { table: run.name, kind, key: Object.fromEntries(columns.map((column, place) => [column, shown(key[place] ?? null)])) };
    return this.#first.push(rowid === null ? named : { ...named, rowid }) - 1;
  }
}

/** What the target said of these rows. */
interface Compared extends RowDifferences {
  readonly changes: readonly SinkRowChange[];
}

/** How far a table is. */
class TableRun {
  readonly name: string;
  table: SinkTable | null = null;
  /** The last one, without its rows. */
  chunk: RowChunk | null = null;
  after: RowPlace | null = null;
  ahead: Promise<RowChunk | null> | null = null;
  generation: string | null = null;
  allRows = false;
  seen: KeyFilter | null = null;
  /** Changes of the table came by the stream. */
  touched = false;
  keyAfter: readonly Value[] | null = null;
  rows = 0;
  missing = 0;
  changed = 0;
  surplus: number | null = 0;
  deadLetters = 0;
  /** Rows that were not in the target, dead letters among them. */
  absent = 0;
  notCompared: TableAuditResult['notCompared'] = null;

  constructor(name: string) {
    this.name = name;
  }

  counts(): TableAuditResult {
    const { name: table, rows, missing, changed, surplus, deadLetters, notCompared } = this;
    return { table, rows, missing, changed, surplus, deadLetters, notCompared };
  }
}

const groupsOf = function* <T>(all: Iterable<T>, size: number): Generator<T[], void, undefined> {
  let group: T[] = [];
  for (const one of all) {
    group.push(one);
    if (group.length < size) continue;
    yield group;
    group = [];
  }
  if (group.length > 0) yield group;
};

const removal = (table: SinkTable, key: readonly Value[], { table: hiveTable, asOf }: RowChunk): SinkChange => ({
  op: 'd',
  table,
  key,
  before: null,
  after: null,
  source: {
    op: 'd',
    seq: null,
    transaction: null,
    collectionOrder: 0,
    snapshot: { ...asOf, timestampUs: 0 },
    table: hiveTable,
    before: null,
    after: null,
  },
});

/** Null: the key tells the row. */
const rowidOf = ({ table, key, source }: SinkRowChange): string | null => {
  if (source.op === 's' || source.op === 't' || source.table.withoutRowid !== undefined) return null;
  const needed = keyNeedsRowid(
    table.key.map((index) => table.columns[index]!),
    key,
  );
  return needed ? String((source.after ?? source.before)!.rowid) : null;
};

const shown = (value: Value): string | number | null => {
  if (typeof value === 'bigint') return String(value);
  return value instanceof Uint8Array ? `\\x${Buffer.from(value).toString('hex')}` : value;
};

/** Differences that are not dead letters. */
export const differencesOf = ({ tables }: AuditResult): number =>
  tables.reduce((sum, { missing, changed, surplus }) => sum + missing + changed + (surplus ?? 0), 0);
