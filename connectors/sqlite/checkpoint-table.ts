/**
 * Waggle's own two tables in the copy: `waggle_checkpoint` (a row a sink name, with the fencing token of the runner that
 * took it last) and `waggle_table` (the tables that waggle created). As in `../postgres/checkpoint-table.ts`.
 */
import type Database from 'better-sqlite3';
import type { Checkpoint } from '../../src/change/change.ts';
import { WaggleError } from '../../src/support/errors.ts';

export const CHECKPOINT_TABLE = 'waggle_checkpoint';
export const TABLE_TABLE = 'waggle_table';

interface CheckpointRow {
  token: string;
  logId: string | null;
  term: string | null;
  seq: number | null;
  txid: string | null;
  fill: string | null;
}

export class CheckpointTable {
  readonly #database: Database.Database;
  readonly #sink: string;
  readonly #token: string;

  constructor(database: Database.Database, sink: string, token: string) {
    this.#database = database;
    this.#sink = sink;
    this.#token = token;
  }

  /** Takes the sink over and tells its checkpoint. `held`: this runner has taken it before. */
  take(held: boolean): Checkpoint | null {
    const database = this.#database;
    return database
      .transaction((): Checkpoint | null => {
        database.exec(
          `CREATE TABLE IF NOT EXISTS ${CHECKPOINT_TABLE} (sink TEXT PRIMARY KEY, token TEXT NOT NULL, log_id TEXT, term TEXT, seq INTEGER, txid TEXT, fill TEXT, updated_at TEXT);
           CREATE TABLE IF NOT EXISTS ${TABLE_TABLE} (relation TEXT PRIMARY KEY, source TEXT NOT NULL, created_at TEXT DEFAULT CURRENT_TIMESTAMP)`,
        );
        const row = this.#read();
        if (held && row !== undefined && row.token !== this.#token) throw this.#fenced();
        database
          .prepare(`INSERT INTO ${CHECKPOINT_TABLE} (sink, token) VALUES (?, ?) ON CONFLICT (sink) DO UPDATE SET token = excluded.token`)
          .run(this.#sink, this.#token);
        if (row === undefined || row.logId === null || row.term === null || row.seq === null || row.txid === null) return null;
        return { logId: row.logId, term: row.term, seq: row.seq, txid: row.txid, fill: row.fill };
      })
      .immediate();
  }

  /** Begins the transaction of a batch; from here to its end no other runner can take the sink over. */
  begin(): void {
    this.#database.exec('BEGIN IMMEDIATE');
    const row = this.#read();
    if (row === undefined) throw new WaggleError('SINK_CHECKPOINT_UNKNOWN', `sink ${this.#sink}: its checkpoint was removed from the target`);
    if (row.token !== this.#token) throw this.#fenced();
  }

  commit(checkpoint: Checkpoint): void {
    this.#database
      .prepare(`UPDATE ${CHECKPOINT_TABLE} SET log_id = ?, term = ?, seq = ?, txid = ?, fill = ?, updated_at = CURRENT_TIMESTAMP WHERE sink = ?`)
      .run(checkpoint.logId, checkpoint.term, BigInt(checkpoint.seq), checkpoint.txid, checkpoint.fill, this.#sink);
    this.#database.exec('COMMIT');
  }

  /** Ends the transaction of a batch that was only tried. */
  rollback(): void {
    this.#database.exec('ROLLBACK');
  }

  #read(): CheckpointRow | undefined {
    return this.#database
      .prepare<[string], CheckpointRow>(`SELECT token, log_id AS logId, term, seq, txid, fill FROM ${CHECKPOINT_TABLE} WHERE sink = ?`)
      .get(this.#sink);
  }

  #fenced(): WaggleError {
    return new WaggleError('SINK_FENCED', `sink ${this.#sink}: another runner has taken it over`);
  }
}
