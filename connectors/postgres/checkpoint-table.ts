/**
 * Waggle's own two tables beside the data.
 *
 *     waggle_checkpoint   sink (key), token, log_id, term, seq, txid, fill, updated_at      a row a sink name
 *     waggle_table        relation (key), source, created_at                               the tables that waggle created
 *
 * `token` fences: who opens a sink writes his own token, and each batch locks the row and looks whether the token is
 * still his. log_id NULL: opened, nothing applied yet.
 */
import type { Checkpoint } from '../../src/change/change.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { quoteLiteral, quoteName } from './names.ts';
import type { Session } from './session.ts';

export const CHECKPOINT_TABLE = 'waggle_checkpoint';
export const TABLE_TABLE = 'waggle_table';

export interface CheckpointTableOptions {
  readonly session: Session;
  readonly schema: string;
  readonly sink: string;
  /** Of this runner; the same for the life of a Sink object. */
  readonly token: string;
}

export class CheckpointTable {
  readonly #session: Session;
  readonly #table: string;
  readonly #sink: string;
  readonly #token: string;

  constructor(options: CheckpointTableOptions) {
    this.#session = options.session;
    this.#table = `${quoteName(options.schema)}.${quoteName(CHECKPOINT_TABLE)}`;
    this.#sink = options.sink;
    this.#token = options.token;
  }

  /**
   * Takes the sink over and tells its checkpoint; waits for a batch of another runner that is being committed. `held`:
   * this runner has taken it before, so another token means that a second runner came.
   */
  async take(held: boolean): Promise<Checkpoint | null> {
    const sink = quoteLiteral(this.#sink);
    const [row] = await this.#session.script(
      `BEGIN; SET LOCAL lock_timeout = '10s';
       INSERT INTO ${this.#table} AS c (sink, token) VALUES (${sink}, ${quoteLiteral(this.#token)}) ON CONFLICT (sink) DO NOTHING;
       SELECT token, log_id, term, seq::text AS seq, txid, fill FROM ${this.#table} WHERE sink = ${sink} FOR UPDATE`,
    );
    if (row === undefined) throw new WaggleError('SINK_BUSY', `sink ${this.#sink}: its checkpoint was removed at this moment`);
    if (row['token'] !== this.#token && held) {
      await this.#session.script('ROLLBACK');
      throw this.#fenced();
    }
    await this.#session.script(`UPDATE ${this.#table} SET token = ${quoteLiteral(this.#token)} WHERE sink = ${sink}; COMMIT`);
    const { log_id: logId, term, seq, txid, fill } = row;
    if (logId == null || term == null || seq == null || txid == null) return null;
    return { logId, term, seq: Number(seq), txid, fill: fill ?? null };
  }

  /** Begins the transaction of a batch. From here to its end no other runner can take the sink over. */
  async begin(): Promise<void> {
    const [row] = await this.#session.script(
      `BEGIN; SET CONSTRAINTS ALL DEFERRED; SET LOCAL lock_timeout = '10s'; SELECT token FROM ${this.#table} WHERE sink = ${quoteLiteral(this.#sink)} FOR UPDATE`,
    );
    if (row === undefined) throw new WaggleError('SINK_CHECKPOINT_UNKNOWN', `sink ${this.#sink}: its checkpoint was removed from the target`);
    if (row['token'] !== this.#token) throw this.#fenced();
  }

  /** Writes the checkpoint and commits, in one round trip. */
  async commit(checkpoint: Checkpoint): Promise<void> {
    const values = [checkpoint.logId, checkpoint.term, String(checkpoint.seq), checkpoint.txid, checkpoint.fill];
    const [logId, term, seq, txid, fill] = values.map((value) => (value === null ? 'NULL' : quoteLiteral(value)));
    await this.#session.script(
      `UPDATE ${this.#table} SET log_id = ${logId}, term = ${term}, seq = ${seq}, txid = ${txid}, fill = ${fill}, updated_at = now() WHERE sink = ${quoteLiteral(this.#sink)}; COMMIT`,
    );
  }

  /** Ends the transaction of a batch that was only tried, after the checks that a commit would have made. */
  async rollback(): Promise<void> {
    await this.#session.script('SET CONSTRAINTS ALL IMMEDIATE; ROLLBACK');
  }

  #fenced(): WaggleError {
    return new WaggleError('SINK_FENCED', `sink ${this.#sink}: another runner has taken it over`);
  }
}

/** Creates the schema and both tables where they are missing; asks first, so that no right to create is needed later. */
export const prepareTables = async (session: Session, schema: string): Promise<void> => {
  const [found] = await session.query('SELECT 1::text AS found FROM pg_namespace WHERE nspname = $1', [schema]);
  if (found === undefined) await session.script(`CREATE SCHEMA IF NOT EXISTS ${quoteName(schema)}`);
  const rows = await session.query(
    `SELECT c.relname::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname IN ($2, $3)`,
    [schema, CHECKPOINT_TABLE, TABLE_TABLE],
  );
  if (rows.length === 2) return;
  await session.script(
    `BEGIN; SELECT pg_advisory_xact_lock(hashtext('waggle'));
     CREATE TABLE IF NOT EXISTS ${quoteName(schema)}.${CHECKPOINT_TABLE} (
       sink text PRIMARY KEY, token text NOT NULL, log_id text, term text, seq bigint, txid text, fill text, updated_at timestamptz NOT NULL DEFAULT now());
     CREATE TABLE IF NOT EXISTS ${quoteName(schema)}.${TABLE_TABLE} (
       relation text PRIMARY KEY, source text NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
     COMMIT`,
  );
};
