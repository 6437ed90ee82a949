/**
 * Waggle's own two collections beside the data.
 *
 *     waggle_checkpoint   {_id: sink, token, session, logId, term, seq, txid, fill, updatedAt}     a document a sink name
 *     waggle_table        {_id: collection, source, createdAt}                                   the collections that waggle created
 *
 * `token` fences: who opens a sink writes his own token, and each batch writes to the document under his token, so that it meets with a
 * runner that comes in between. `session` is that of his transactions: MongoDB keeps the transaction of a runner that was killed
 * open for a minute, and whoever takes over ends it. logId null: opened, nothing applied yet.
 */
import { type Binary, type ClientSession, type Collection, type Db } from 'mongodb';
import type { Checkpoint } from '../../src/change/change.ts';
import { WaggleError } from '../../src/support/errors.ts';

export const CHECKPOINT_COLLECTION = 'waggle_checkpoint';
export const TABLE_COLLECTION = 'waggle_table';

interface CheckpointDocument {
  _id: string;
  token: string;
  session: Binary | null;
  logId: string | null;
  term: string | null;
  seq: bigint | null;
  txid: string | null;
  fill: string | null;
}

export interface CheckpointCollectionOptions {
  readonly db: Db;
  readonly sink: string;
  /** Of this runner; the same for the life of a Sink object. */
  readonly token: string;
}

export class CheckpointCollection {
  readonly #db: Db;
  readonly #collection: Collection<CheckpointDocument>;
  readonly #sink: string;
  readonly #token: string;

  constructor(options: CheckpointCollectionOptions) {
    this.#db = options.db;
    this.#collection = options.db.collection(CHECKPOINT_COLLECTION);
    this.#sink = options.sink;
    this.#token = options.token;
  }

  /**
   * Takes the sink over and tells its checkpoint. `held`: this runner has taken it before, so another token means that a second
   * runner came. `session`: of this runner's transactions, null where there are none.
   */
  async take(held: boolean, session: Binary | null): Promise<Checkpoint | null> {
    const before = await this.#collection.findOne({ _id: this.#sink });
    if (held && before !== null && before.token !== this.#token) throw this.#fenced();
    if (session !== null && before?.session != null) await this.#db.command({ killSessions: [{ id: before.session }] });
    const document = await this.#collection.findOneAndUpdate(
      { _id: this.#sink },
      {
        $set: { token: this.#token, session },
        $setOnInsert: { logId: null, term: null, seq: null, txid: null, fill: null },
      },
      { upsert: true, returnDocument: 'after' },
    );
    if (document === null) throw new WaggleError('SINK_BUSY', `sink ${this.#sink}: its checkpoint was removed at this moment`);
    const { logId, term, seq, txid, fill } = document;
    if (logId === null || term === null || seq === null || txid === null) return null;
    return { logId, term, seq: Number(seq), txid, fill };
  }

  /** Begins a batch: with a transaction, no other runner can take the sink over until its end. */
  async begin(session: ClientSession | undefined): Promise<void> {
    const { matchedCount } = await this.#collection.updateOne(
      { _id: this.#sink, token: this.#token },
      { $set: { updatedAt: new Date() } },
      withSession(session),
    );
    if (matchedCount === 0) await this.#lost(session);
  }

  async write(checkpoint: Checkpoint, session: ClientSession | undefined): Promise<void> {
    const { logId, term, seq, txid, fill } = checkpoint;
    const { matchedCount } = await this.#collection.updateOne(
      { _id: this.#sink, token: this.#token },
      { $set: { logId, term, seq: BigInt(seq), txid, fill, updatedAt: new Date() } },
      withSession(session),
    );
    if (matchedCount === 0) await this.#lost(session);
  }

  async #lost(session: ClientSession | undefined): Promise<never> {
    if ((await this.#collection.findOne({ _id: this.#sink }, withSession(session))) !== null) throw this.#fenced();
    throw new WaggleError('SINK_CHECKPOINT_UNKNOWN', `sink ${this.#sink}: its checkpoint was removed from the target`);
  }

  #fenced(): WaggleError {
    return new WaggleError('SINK_FENCED', `sink ${this.#sink}: another runner has taken it over`);
  }
}

export const withSession = (session: ClientSession | undefined): { session?: ClientSession } => (session === undefined ? {} : { session });
