/** A transactional sink over a real SQLite database, with faults on demand. The database outlives `close`, as a server does. */
import Database from 'better-sqlite3';
import type { Checkpoint } from '../../src/change/change.ts';
import type { Value } from '../../src/change/table.ts';
import {
  type Batch,
  RowRefusedError,
  type Sink,
  type SinkChange,
  type SinkContext,
  type SinkRowChange,
  type SinkTable,
} from '../../src/pipeline/sink.ts';
import { WaggleError } from '../../src/support/errors.ts';

const quote = (name: string): string => `"${name.replaceAll('"', '""')}"`;

export class SqliteTestSink implements Sink {
  readonly integers = 'bigint';
  readonly wants: Sink['wants'];
  batchRows?: number;
  readonly db: Database.Database = new Database(':memory:');
  /** Asked at each call; an error is thrown there. `part`: in the middle of an apply, after a part is written. */
  fault: (call: 'open' | 'apply' | 'part' | 'commit' | 'committed') => Error | null = () => null;
  /** Asked for each row change: true: SINK_ROW_REFUSED. */
  refuses: (change: SinkRowChange) => boolean = () => false;
  /** The refusal names the change. */
  namesRefused = false;
  /** Told after each commit. */
  onApplied: (checkpoint: Checkpoint) => void = () => {};
  readonly calls = { open: 0, apply: 0, rehearse: 0, close: 0 };
  largestPart = 0;
  readonly ops: string[] = [];
  #isOpen = false;
  #known = new WeakSet<SinkTable>();

  constructor(wants: Sink['wants'] = 'states') {
    this.wants = wants;
    this.db.exec('CREATE TABLE checkpoint (id INTEGER PRIMARY KEY, json TEXT)');
  }

  async open(_context: SinkContext): Promise<Checkpoint | null> {
    this.calls.open += 1;
    this.#throwFault('open');
    if (this.#isOpen) throw new Error('open of an open sink');
    this.#isOpen = true;
    return this.checkpoint();
  }

  async apply(batch: Batch): Promise<void> {
    this.calls.apply += 1;
    await this.#write(batch, () => {
      this.db.prepare('INSERT OR REPLACE INTO checkpoint VALUES (1, ?)').run(JSON.stringify(batch.checkpoint));
      this.#throwFault('commit');
      this.db.exec('COMMIT');
    });
    this.#throwFault('committed');
    this.onApplied(batch.checkpoint);
  }

  async rehearse(batch: Batch): Promise<void> {
    this.calls.rehearse += 1;
    await this.#write(batch, () => this.db.exec('ROLLBACK'));
    this.#known = new WeakSet();
  }

  async #write(batch: Batch, finish: () => void): Promise<void> {
    if (!this.#isOpen) throw new Error('apply to a closed sink');
    this.#throwFault('apply');
    this.db.exec('BEGIN');
    try {
      for await (const part of batch.parts()) {
        this.largestPart = Math.max(this.largestPart, part.length);
        for (const change of part) this.#change(change);
        this.#throwFault('part');
      }
      finish();
    } catch (error) {
      this.db.exec('ROLLBACK');
      this.#known = new WeakSet();
      this.#isOpen = false;
      throw error;
    }
  }

  async close(): Promise<void> {
    this.calls.close += 1;
    this.#isOpen = false;
  }

  checkpoint(): Checkpoint | null {
    const json = this.db.prepare<[], string>('SELECT json FROM checkpoint').pluck().get();
    return json === undefined ? null : (JSON.parse(json) as Checkpoint);
  }

  rows(name: string): Value[][] {
    if (this.db.prepare('SELECT 1 FROM sqlite_schema WHERE name = ?').get(name) === undefined) return [];
    return this.db
      .prepare<[], Value[]>(`SELECT * FROM ${quote(name)} ORDER BY 1, 2`)
      .raw()
      .safeIntegers()
      .all();
  }

  #change(change: SinkChange): void {
    this.ops.push(change.op);
    if (change.op === 's') {
      if (change.table !== null) this.#ensure(change.table);
      return;
    }
    const { table } = change;
    if (!this.#known.has(table)) this.#ensure(table);
    this.#known.add(table);
    if (change.op === 't') {
      if (change.mark === undefined) this.db.exec(`DELETE FROM ${quote(table.name)}`);
      else {
        const column = quote(table.columns[change.mark.column]!.name);
        this.db.prepare(`UPDATE ${quote(table.name)} SET ${column} = ? WHERE ${column} IS NULL`).run(change.mark.value);
      }
      return;
    }
    if (this.refuses(change)) {
      if (this.namesRefused) throw new RowRefusedError(change, 'refused by the test');
      throw new WaggleError('SINK_ROW_REFUSED', 'refused by the test');
    }
    const where = table.key.map((index) => `${quote(table.columns[index]!.name)} IS ?`).join(' AND ');
    this.db.prepare(`DELETE FROM ${quote(table.name)} WHERE ${where}`).run(...change.key);
    if (change.after !== null)
      this.db.prepare(`INSERT INTO ${quote(table.name)} VALUES (${change.after.map(() => '?').join()})`).run(...change.after);
  }

  #ensure(table: SinkTable): void {
    const key = table.key.map((index) => quote(table.columns[index]!.name));
    this.db.exec(`CREATE TABLE IF NOT EXISTS ${quote(table.name)} (${table.columns.map((column) => quote(column.name)).join()});
      CREATE INDEX IF NOT EXISTS ${quote(`${table.name} key`)} ON ${quote(table.name)} (${key.join()})`);
  }

  #throwFault(call: Parameters<typeof this.fault>[0]): void {
    const error = this.fault(call);
    if (error !== null) throw error;
  }
}
