/**
 * In what a batch is applied: a transaction where the server has them, else nothing but its own writes.
 *
 * A transaction ends without the checkpoint where it must: before collections are created or rewritten (`outside`), and after
 * 20 seconds, because MongoDB ends one after 60. What was applied then comes again after a crash, and ends in the same state.
 */
import type { ClientSession, MongoClient } from 'mongodb';
import type { Checkpoint } from '../../src/change/change.ts';
import type { CheckpointCollection } from './checkpoint-collection.ts';

const MAX_TRANSACTION_MS = 20_000;

export class UnitOfWork {
  readonly #checkpoints: CheckpointCollection;
  readonly #session: ClientSession | undefined;
  #beganAtMs = 0;

  /** `session` undefined: a standalone server, which has no transactions. */
  constructor(checkpoints: CheckpointCollection, session: ClientSession | undefined) {
    this.#checkpoints = checkpoints;
    this.#session = session;
  }

  get session(): ClientSession | undefined {
    return this.#session;
  }

  async begin(): Promise<void> {
    this.#session?.startTransaction();
    this.#beganAtMs = performance.now();
    await this.#checkpoints.begin(this.#session);
  }

  /** Runs what cannot be part of a transaction. */
  async outside<T>(work: () => Promise<T>): Promise<T> {
    await this.#session?.commitTransaction();
    const result = await work();
    await this.begin();
    return result;
  }

  /** To be called while nothing is under way. */
  async renew(): Promise<void> {
    if (this.#session !== undefined && performance.now() - this.#beganAtMs > MAX_TRANSACTION_MS) await this.outside(async () => {});
  }

  async commit(checkpoint: Checkpoint): Promise<void> {
    await this.#checkpoints.write(checkpoint, this.#session);
    await this.#session?.commitTransaction();
  }
}

/** A session for transactions, or undefined on a server without them (neither replica set nor mongos). */
export const transactionSession = async (client: MongoClient): Promise<ClientSession | undefined> => {
  const hello = await client.db('admin').command({ hello: 1 });
  const has = (hello['setName'] !== undefined || hello['msg'] === 'isdbgrid') && hello['logicalSessionTimeoutMinutes'] != null;
  return has ? client.startSession({ defaultTransactionOptions: { writeConcern: { w: 'majority' } } }) : undefined;
};
