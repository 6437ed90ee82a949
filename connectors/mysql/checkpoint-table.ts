/**
 * Waggle's own two tables beside the data.
 *
 *     waggle_checkpoint   sink (key), token, log_id, term, seq, txid, fill, updated_at,     a row a sink name
 *                         part_log, part_term, part_seq
 *     waggle_table        relation (key), source, created_at                               the tables that waggle created
 *
 * `token` fences: who opens a sink writes his own token, and each batch locks the row and looks whether the token is
 * still his. log_id NULL: opened, nothing applied yet.
 *
 * DDL commits what was applied before it, ahead of the batch's checkpoint. Rows of before a schema change must not come behind it, because columns
 * have other names then. So `part_seq` goes in with what is applied before a schema change: everything up to it is there and is passed over when it
 * comes again, in one batch or in several. It counts for its log and term only. All other DDL (a new table, a widened column) waits until nothing of a
 * batch is open.
 *
 * created_at NULL: the table is about to be created.
 */
import type { Checkpoint } from '../../src/change/change.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { quoteLiteral } from './names.ts';
import type { ResultRow, Session } from './session.ts';

export const CHECKPOINT_TABLE = 'waggle_checkpoint';
export const TABLE_TABLE = 'waggle_table';

export interface CheckpointTableOptions {
  readonly session: Session;
  readonly sink: string;
  /** Of this runner; the same for the life of a Sink object. */
  readonly token: string;
}

/** How far an unfinished batch is applied. */
interface Part {
  readonly logId: string;
  readonly term: string;
  readonly seq: number;
}

export class CheckpointTable {
  readonly #session: Session;
  readonly #sink: string;
  readonly #sinkName: string;
  readonly #token: string;
  /** What was committed ahead of the checkpoint. */
  #part: Part | null = null;
  #seq = 0;

  constructor(options: CheckpointTableOptions) {
    this.#session = options.session;
    this.#sinkName = options.sink;
    this.#sink = quoteLiteral(options.sink);
    this.#token = options.token;
  }

  /**
   * Takes the sink over and tells its checkpoint; waits for a batch of another runner that is being committed. `held`:
   * this runner has taken it before, so another token means that a second runner came.
   */
  async take(held: boolean): Promise<Checkpoint | null> {
    const token = quoteLiteral(this.#token);
    const [row] = await this.#session.query(
      `START TRANSACTION; INSERT INTO ${CHECKPOINT_TABLE} (sink, token) VALUES (${this.#sink}, ${token}) ON DUPLICATE KEY UPDATE sink = sink;
       SELECT token, log_id, term, seq, txid, fill, part_log, part_term, part_seq FROM ${CHECKPOINT_TABLE} WHERE sink = ${this.#sink} FOR UPDATE`,
    );
    if (row === undefined) throw new WaggleError('SINK_BUSY', `sink ${this.#sinkName}: its checkpoint was removed at this moment`);
    if (row['token'] !== this.#token && held) {
      await this.#session.query('ROLLBACK');
      throw this.#fenced();
    }
    await this.#session.query(`UPDATE ${CHECKPOINT_TABLE} SET token = ${token} WHERE sink = ${this.#sink}; COMMIT`);
    const { log_id: logId, term, seq, txid, fill } = row;
    this.#part = partOf(row);
    this.#seq = Number(seq ?? 0);
    if (logId == null || term == null || seq == null || txid == null) return null;
    return { logId, term, seq: this.#seq, txid, fill: fill ?? null };
  }

  /** Begins the transaction of a batch, or goes on after DDL. From here to its end no other runner can take the sink over. */
  async begin(): Promise<void> {
    const [row] = await this.#session.query(
      `START TRANSACTION; SELECT token, part_log, part_term, part_seq FROM ${CHECKPOINT_TABLE} WHERE sink = ${this.#sink} FOR UPDATE`,
    );
    if (row === undefined) throw new WaggleError('SINK_CHECKPOINT_UNKNOWN', `sink ${this.#sinkName}: its checkpoint was removed from the target`);
    if (row['token'] !== this.#token) throw this.#fenced();
    this.#part = partOf(row);
  }

  /** Behind which seq and up to which the batch was applied before; what comes again from before the checkpoint is a row's own business. In a transaction. */
  async applied({ logId, term }: Checkpoint): Promise<{ readonly behind: number; readonly upTo: number }> {
    const part = this.#part;
    if (part === null) return { behind: this.#seq, upTo: 0 };
    if (part.logId === logId && part.term === term) return { behind: this.#seq, upTo: part.seq };
    // Rows of an unproven tail of the log are in the target. Only a fill mends it: no log has this txid.
    await this.#session.query(
      `UPDATE ${CHECKPOINT_TABLE} SET txid = '', part_log = NULL, part_term = NULL, part_seq = NULL WHERE sink = ${this.#sink}; COMMIT`,
    );
    throw new WaggleError('SINK_CHECKPOINT_UNKNOWN', `sink ${this.#sinkName}: a batch was applied in part, and the log is another one now`);
  }

  /** Everything of the batch up to `seq` is applied: goes in with it. */
  async mark({ logId, term }: Checkpoint, seq: number): Promise<void> {
    await this.#session.query(
      `UPDATE ${CHECKPOINT_TABLE} SET part_log = ${quoteLiteral(logId)}, part_term = ${quoteLiteral(term)}, part_seq = ${seq} WHERE sink = ${this.#sink}`,
    );
  }

  /** Writes the checkpoint and commits, in one round trip. What is applied in part ends where the checkpoint comes beyond it. */
  async commit(checkpoint: Checkpoint): Promise<void> {
    const whole = this.#part === null || this.#part.seq <= checkpoint.seq;
    const ended = whole ? ', part_log = NULL, part_term = NULL, part_seq = NULL' : '';
    const values = [checkpoint.logId, checkpoint.term, String(checkpoint.seq), checkpoint.txid, checkpoint.fill];
    const [logId, term, seq, txid, fill] = values.map((value) => (value === null ? 'NULL' : quoteLiteral(value)));
    await this.#session.query(
      `UPDATE ${CHECKPOINT_TABLE} SET log_id = ${logId}, term = ${term}, seq = ${seq}, txid = ${txid}, fill = ${fill}, updated_at = now()${ended}
       WHERE sink = ${this.#sink}; COMMIT`,
    );
    if (whole) this.#part = null;
    this.#seq = checkpoint.seq;
  }

  #fenced(): WaggleError {
    return new WaggleError('SINK_FENCED', `sink ${this.#sinkName}: another runner has taken it over`);
  }
}

const partOf = ({ part_log: logId, part_term: term, part_seq: seq }: ResultRow): Part | null =>
  logId == null || term == null || seq == null ? null : { logId, term, seq: Number(seq) };

/** Creates both tables where they are missing; asks first, so that no right to create is needed later. */
export const prepareTables = async (session: Session, collation: string): Promise<void> => {
  const rows = await session.query(
    `SELECT TABLE_NAME AS name FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME IN ('${CHECKPOINT_TABLE}', '${TABLE_TABLE}')`,
  );
  if (rows.length === 2) return;
  const end = `ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE ${collation}`;
  await session.query(
    `CREATE TABLE IF NOT EXISTS ${CHECKPOINT_TABLE} (
       sink varchar(255) PRIMARY KEY, token varchar(64) NOT NULL, log_id text, term varchar(255), seq bigint, txid text, fill longtext,
       updated_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP, part_log text, part_term varchar(255), part_seq bigint) ${end};
     CREATE TABLE IF NOT EXISTS ${TABLE_TABLE} (relation varchar(64) PRIMARY KEY, source longtext NOT NULL, created_at timestamp NULL) ${end}`,
  );
};
