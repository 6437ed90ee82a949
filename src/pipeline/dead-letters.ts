/**
 * One sink's dead letters, as its session needs them.
 *
 * Order per row: once a change of a row was refused, no later `c` or `u` of that row goes to the target before the letter was retried or discarded.
 * A sink that wants states keeps one letter a row, with its last state; its `d` goes to the target and takes the letter's place, because a row that the
 * hive no longer has must not stay there. A sink that wants changes keeps every change of the row, in order. A `t` takes the place of all letters of its
 * table.
 *
 * Letters are stored before the batch without them is applied: a kill in between stores them again.
 */
import type { RowChange } from '../change/change.ts';
import type { Clock } from '../support/clock.ts';
import { WaggleError } from '../support/errors.ts';
import type { DeadLetter, DeadLetterStore } from './dead-letter-store.ts';
import { rowIdentity } from './letter-codec.ts';
import type { TableMapping } from './mapping.ts';
import type { Sink, SinkChange } from './sink.ts';

export interface DeadLettersOptions {
  readonly store: DeadLetterStore;
  readonly sink: string;
  readonly wants: Sink['wants'];
  readonly mapping: TableMapping;
  /** So many letters at most; with the next one the sink stops. */
  readonly limit: number;
  readonly clock: Clock;
}

export class DeadLetters {
  readonly #options: DeadLettersOptions;
  #version = -1;
  #news = true;
  /** By table and row: op of the letter that came last. */
  #rows = new Map<string, Map<string, string>>();
  #count = 0;
  #settling = true;

  constructor(options: DeadLettersOptions) {
    this.#options = options;
    this.#load();
  }

  /** Takes in what `waggle dead-letters` did meanwhile. True: it did something, or nobody asked before. */
  refresh(): boolean {
    this.#sync();
    const news = this.#news;
    this.#news = false;
    return news;
  }

  /** What goes to the target of a part; the rest is stored. */
  pass(part: SinkChange[]): SinkChange[] {
    if (this.#count === 0) return part;
    this.#sync();
    let passing = part;
    this.#options.store.transaction(() => {
      passing = part.flatMap((change) => this.#passing(change));
    });
    return passing;
  }

  /** Stores a change that was refused. Throws SINK_DEAD_LETTERS_FULL. */
  refuse(change: RowChange, error: WaggleError): void {
    const row = rowIdentity(change);
    const { code, message, hint } = error;
    this.#store(change, row, { code, message, hint });
  }

  /** The target stands at this seq. */
  applied(seq: number): void {
    if (!this.#settling) return;
    this.#settling = false;
    if (this.#options.store.sweep(this.#options.sink, seq)) this.#load();
  }

  /** All rows of the table are read anew. */
  forgetTable(table: string): void {
    if (!this.#rows.has(table)) return;
    this.#options.store.forgetTable(this.#options.sink, table);
    this.#load();
  }

  isDead(change: RowChange): boolean {
    return this.#rows.get(change.table.name)?.has(rowIdentity(change)) === true;
  }

  /** Letters that are to be tried again, oldest first. */
  asked(): DeadLetter[] {
    return this.#count === 0 ? [] : this.#options.store.asked(this.#options.sink);
  }

  all(): DeadLetter[] {
    return this.#count === 0 ? [] : this.#options.store.list(this.#options.sink);
  }

  /** Something has changed in the target for which they may fit now. */
  askAll(): void {
    if (this.#count === 0) return;
    this.#options.store.askRetry(this.#options.sink, null);
    this.#news = true;
  }

  retried(letter: DeadLetter): void {
    this.#options.store.remove(letter.id);
    this.#load();
  }

  refusedAgain(letter: DeadLetter, { code, message, hint }: WaggleError): void {
    this.#options.store.refusedAgain(letter.id, { code, message, hint });
  }

  #passing(change: SinkChange): SinkChange[] {
    const { source } = change;
    const states = this.#options.wants === 'states';
    if (source.op === 's') return [change];
    const rows = this.#rows.get(source.table.name);
    if (rows === undefined) return [change];
    if (source.op === 't') {
      if (source.seq !== null) this.#settle(source.table.name, null, source.seq);
      return [change];
    }
    if (source.before === null && source.after === null) return [change];
    const row = rowIdentity(source);
    const letter = rows.get(row);
    if (letter === undefined) return [change];
    // A delete that was refused itself waits like anything else.
    if (states && source.op === 'd' && letter !== 'd' && source.seq !== null) {
      this.#settle(source.table.name, row, source.seq);
      return this.#removal(change, source, row);
    }
    this.#store(source, row, null);
    return [];
  }

  /** The target has the row as it was before the first change that it refused: perhaps with another key, certainly with values that it takes. */
  #removal(change: SinkChange, deleted: RowChange, row: string): SinkChange[] {
    const { store, sink, mapping } = this.#options;
    const before = store.held(sink, deleted.table.name, row)?.before ?? null;
    return before === null ? [change] : mapping.map({ ...deleted, before });
  }

  #settle(table: string, row: string | null, seq: number): void {
    const { store, sink } = this.#options;
    store.settle(sink, table, { row, seq });
    this.#settling = true;
  }

  #store(change: RowChange, row: string, error: DeadLetter['error'] | null): void {
    const { store, sink, wants, limit, clock } = this.#options;
    const letter = { sink, row, change, error, atMs: clock.now() };
    const rows = this.#rows.get(change.table.name);
    if (wants === 'states' && rows?.has(row) === true && store.replace(letter)) {
      // One letter a row.
    } else if (!store.has(sink, change.table.name, { row, seq: change.seq })) {
      if (this.#count >= limit)
        throw new WaggleError(
          'SINK_DEAD_LETTERS_FULL',
          `${this.#count} rows were refused, which is the limit (dead_letters.limit); the last: ${error?.message ?? 'a row that waits behind another'}`,
        );
      store.add(letter);
      this.#count += 1;
    }
    if (rows === undefined) this.#rows.set(change.table.name, new Map([[row, change.op]]));
    else rows.set(row, change.op);
  }

  #sync(): void {
    const version = this.#options.store.version();
    if (version === this.#version) return;
    this.#version = version;
    this.#news = true;
    this.#load();
  }

  #load(): void {
    const { store, sink } = this.#options;
    this.#rows = new Map();
    const keys = store.keys(sink);
    for (const { table, row, op } of keys) {
      const rows = this.#rows.get(table) ?? new Map<string, string>();
      this.#rows.set(table, rows.set(row, op));
    }
    this.#count = keys.length;
    this.#settling = true;
  }
}
