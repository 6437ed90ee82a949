/**
 * Rows that a sink refused, in `<state>/dead-letters.db` (mode 0600: it holds values). Written by the daemon's main thread, and by
 * `waggle dead-letters` at any time; the runner sees by `version` that somebody else wrote.
 *
 *     dead_letters   id, sink, table, row (identity), op, seq, change (JSON), error, changes, first_at_ms, last_at_ms, settled_seq, retry
 *
 * `settled_seq`: a later change of the row (a `d`, a `t`) takes the letter's place and is on its way to the target; once the target's checkpoint is
 * there, the letter goes. So neither a kill before nor one behind the commit loses the letter or leaves a stale one.
 */
import { closeSync, existsSync, openSync } from 'node:fs';
import Database from 'better-sqlite3';
import type { RowChange } from '../change/change.ts';
import { stateError } from '../log/state-errors.ts';
import type { ErrorCode } from '../support/errors.ts';
import { WaggleError } from '../support/errors.ts';
import { decodeLetter, encodeLetter } from './letter-codec.ts';

const FORMAT = 1;

/** Why a row was refused. */
export interface Refusal {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string;
}

export interface NewLetter {
  readonly sink: string;
  /** As `rowIdentity` says. */
  readonly row: string;
  readonly change: RowChange;
  /** Null: the row waits behind an earlier change of it that was refused. */
  readonly error: Refusal | null;
  readonly atMs: number;
}

export interface DeadLetter {
  readonly id: number;
  readonly sink: string;
  /** Name in the hive. */
  readonly table: string;
  readonly row: string;
  readonly op: RowChange['op'];
  /** Null: a row of a first fill. */
  readonly seq: number | null;
  readonly error: Refusal;
  /** How many changes of the row it stands for. */
  readonly changes: number;
  readonly firstAtMs: number;
  readonly lastAtMs: number;
  readonly retry: boolean;
  readonly change: RowChange;
}

export interface LetterSummary {
  readonly sink: string;
  readonly letters: number;
  readonly sinceMs: number;
  /** Message of the last refusal. */
  readonly reason: string;
}

export interface LetterKey {
  readonly table: string;
  readonly row: string;
  readonly op: string;
}

interface LetterRow {
  id: number;
  sink: string;
  source: string;
  row: string;
  op: RowChange['op'];
  seq: number | null;
  change: string;
  error: string;
  changes: number;
  firstAtMs: number;
  lastAtMs: number;
  retry: number;
}

const SELECT = `SELECT id, sink, source, row, op, seq, change, error, changes, first_at_ms AS firstAtMs, last_at_ms AS lastAtMs, retry
  FROM dead_letters WHERE settled_seq IS NULL`;
const NO_REASON: Refusal = { code: 'SINK_ROW_REFUSED', message: 'waits behind an earlier change of the row', hint: '' };

export class DeadLetterStore implements Disposable {
  readonly #path: string;
  readonly #database: Database.Database;

  private constructor(path: string, database: Database.Database) {
    this.#path = path;
    this.#database = database;
  }

  /** Opens or makes the file. Throws STATE_FORMAT, STATE_CORRUPT, STATE_UNUSABLE, DISK_FULL. */
  static open(path: string): DeadLetterStore {
    let database: Database.Database | null = null;
    try {
      if (!existsSync(path)) closeSync(openSync(path, 'a', 0o600));
      database = new Database(path, { timeout: 2000 });
      // FULL: the target's checkpoint goes past a letter, so it must be as safe as that one.
      database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
      database.exec(
        `CREATE TABLE IF NOT EXISTS dead_letters (
           id INTEGER PRIMARY KEY AUTOINCREMENT, sink TEXT NOT NULL, source TEXT NOT NULL, row TEXT NOT NULL, op TEXT NOT NULL, seq INTEGER, change TEXT NOT NULL,
           error TEXT NOT NULL, changes INTEGER NOT NULL, first_at_ms INTEGER NOT NULL, last_at_ms INTEGER NOT NULL, settled_seq INTEGER, retry INTEGER NOT NULL DEFAULT 0);
         CREATE INDEX IF NOT EXISTS dead_letters_row ON dead_letters (sink, source, row)`,
      );
      const format: unknown = database.pragma('user_version', { simple: true });
      if (format === 0) database.pragma(`user_version = ${FORMAT}`);
      else if (format !== FORMAT) throw new WaggleError('STATE_FORMAT', `${path} has format ${String(format)}; this waggle reads format ${FORMAT}`);
      return new DeadLetterStore(path, database);
    } catch (error) {
      database?.close();
      throw stateError(error, path);
    }
  }

  /** Differs after another process wrote. */
  version(): number {
    return this.#try(() => this.#database.pragma('data_version', { simple: true }) as number);
  }

  /** All or nothing of what `work` writes. */
  transaction(work: () => void): void {
    this.#try(() => {
      this.#database.transaction(work).immediate();
    });
  }

  /** A letter of its own. */
  add({ sink, row, change, error, atMs }: NewLetter): void {
    this.#try(() => {
      this.#database
        .prepare(
          'INSERT INTO dead_letters (sink, source, row, op, seq, change, error, changes, first_at_ms, last_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?, ?)',
        )
        .run(sink, change.table.name, row, change.op, change.seq, encodeLetter(change), JSON.stringify(error ?? NO_REASON), atMs, atMs);
    });
  }

  /**
   * The change joins the one that the row's letter holds: from what the target has to what the row is now. An error replaces the letter's, and
   * ends an asked retry. False: there is none (any more).
   */
  replace({ sink, row, change: latest, error, atMs }: NewLetter): boolean {
    return this.#try(() => {
      const held = this.held(sink, latest.table.name, row);
      if (held === null) return false;
      const change = joined(held, latest);
      const { changes } = this.#database
        .prepare(
          `UPDATE dead_letters SET changes = changes + (seq IS NOT ?3), op = ?2, seq = ?3, change = ?4, error = coalesce(?5, error), last_at_ms = ?6, settled_seq = NULL,
             retry = CASE WHEN ?5 IS NULL THEN retry ELSE 0 END WHERE sink = ?1 AND source = ?7 AND row = ?8`,
        )
        .run({
          1: sink,
          2: change.op,
          3: change.seq,
          4: encodeLetter(change),
          5: error === null ? null : JSON.stringify(error),
          6: atMs,
          7: change.table.name,
          8: row,
        });
      return changes > 0;
    });
  }

  /** The change in the row's first letter. */
  held(sink: string, table: string, row: string): RowChange | null {
    return this.#try(() => {
      const text = this.#database
        .prepare<[string, string, string], string>('SELECT change FROM dead_letters WHERE sink = ? AND source = ? AND row = ? ORDER BY id')
        .pluck()
        .get(sink, table, row);
      return text === undefined ? null : decodeLetter(text);
    });
  }

  has(sink: string, table: string, letter: { readonly row: string; readonly seq: number | null }): boolean {
    return this.#try(
      () =>
        this.#database
          .prepare('SELECT 1 FROM dead_letters WHERE sink = ? AND source = ? AND row = ? AND seq IS ?')
          .get(sink, table, letter.row, letter.seq) !== undefined,
    );
  }

  /** A change with this seq takes the place of the row's letter (`row` null: of all letters of the table from before). */
  settle(sink: string, table: string, by: { readonly row: string | null; readonly seq: number }): void {
    this.#try(() => {
      this.#database
        .prepare('UPDATE dead_letters SET settled_seq = ?3 WHERE sink = ?1 AND source = ?2 AND row = coalesce(?4, row) AND coalesce(seq, 0) < ?3')
        .run({ 1: sink, 2: table, 3: by.seq, 4: by.row });
    });
  }

  /** Removes what changes up to `seq` have taken the place of. True: there was any. */
  sweep(sink: string, seq: number): boolean {
    return this.#try(() => this.#database.prepare('DELETE FROM dead_letters WHERE sink = ? AND settled_seq <= ?').run(sink, seq).changes > 0);
  }

  forgetTable(sink: string, table: string): void {
    this.#try(() => {
      this.#database.prepare('DELETE FROM dead_letters WHERE sink = ? AND source = ?').run(sink, table);
    });
  }

  keys(sink: string): LetterKey[] {
    return this.#try(() =>
      this.#database.prepare<[string], LetterKey>('SELECT source AS "table", row, op FROM dead_letters WHERE sink = ? ORDER BY id').all(sink),
    );
  }

  count(sink: string): number {
    return this.#try(() => this.#database.prepare<[string], number>('SELECT count(*) FROM dead_letters WHERE sink = ?').pluck().get(sink) ?? 0);
  }

  /** In the order in which they came. `sink` null: of all sinks. */
  list(sink: string | null): DeadLetter[] {
    return this.#try(() =>
      this.#database.prepare<[string | null], LetterRow>(`${SELECT} AND sink = coalesce(?, sink) ORDER BY id`).all(sink).map(letterOf),
    );
  }

  /** Those whose retry was asked for. */
  asked(sink: string): DeadLetter[] {
    return this.#try(() => this.#database.prepare<[string], LetterRow>(`${SELECT} AND sink = ? AND retry ORDER BY id`).all(sink).map(letterOf));
  }

  /** Asks for a retry of these letters (null: of all) and of whatever else waits for the same rows. How many they are. */
  askRetry(sink: string, ids: readonly number[] | null): number {
    const chosen = ids === null ? '' : 'AND (source, row) IN (SELECT source, row FROM dead_letters WHERE id IN (SELECT value FROM json_each(?)))';
    return this.#change(`UPDATE dead_letters SET retry = 1 WHERE sink = ? ${chosen}`, sink, ids);
  }

  /** What the sink has of the row stays as it is. How many letters there were. */
  discard(sink: string, ids: readonly number[] | null): number {
    const chosen = ids === null ? '' : 'AND id IN (SELECT value FROM json_each(?))';
    return this.#change(`DELETE FROM dead_letters WHERE sink = ? ${chosen}`, sink, ids);
  }

  remove(id: number): void {
    this.#try(() => {
      this.#database.prepare('DELETE FROM dead_letters WHERE id = ?').run(id);
    });
  }

  /** The retry of a letter failed. */
  refusedAgain(id: number, error: Refusal): void {
    this.#try(() => {
      this.#database.prepare('UPDATE dead_letters SET retry = 0, error = ? WHERE id = ?').run(JSON.stringify(error), id);
    });
  }

  summaries(): LetterSummary[] {
    return this.#try(() =>
      this.#database
        .prepare<[], Omit<LetterSummary, 'reason'> & { error: string }>(
          'SELECT sink, count(*) AS letters, min(first_at_ms) AS sinceMs, max(id) AS id, error FROM dead_letters WHERE settled_seq IS NULL GROUP BY sink',
        )
        .all()
        .map(({ sink, letters, sinceMs, error }) => ({ sink, letters, sinceMs, reason: (JSON.parse(error) as Refusal).message })),
    );
  }

  close(): void {
    this.#database.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #change(sql: string, sink: string, ids: readonly number[] | null): number {
    return this.#try(() => this.#database.prepare(sql).run(sink, ...(ids === null ? [] : [JSON.stringify(ids)])).changes);
  }

  #try<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw stateError(error, this.#path);
    }
  }
}

/** A row that gets another key in the target must not stay there under the one that it had before the first of these changes. */
const joined = ({ before }: RowChange, latest: RowChange): RowChange => {
  if (latest.op === 'd') return { ...latest, before: before ?? latest.before };
  if (before !== null) return { ...latest, op: 'u', before };
  return latest.op === 'u' ? { ...latest, op: 'c', before } : latest;
};

const letterOf = ({ source, error, retry, change, ...letter }: LetterRow): DeadLetter => ({
  ...letter,
  table: source,
  error: JSON.parse(error) as Refusal,
  retry: retry === 1,
  change: decodeLetter(change),
});
