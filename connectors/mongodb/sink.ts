/**
 * The connector `mongodb`, through the driver `mongodb`. States are applied as bulk writes. On a replica set or through mongos a
 * batch and its checkpoint are one transaction: exactly once. On a standalone server, which has no transactions, each write takes
 * effect only on an older state of its row (see `guard.ts`) and the checkpoint follows: at least once, the same end state.
 * Of a bulk the server tells which document it refuses, so that nothing need be rehearsed.
 */
import { randomUUID } from 'node:crypto';
import { type ClientSession, MongoClient, type MongoClientOptions } from 'mongodb';
import type { Checkpoint } from '../../src/change/change.ts';
import type { Batch, Sink, SinkAudit, SinkChange, SinkContext, SinkTable } from '../../src/pipeline/sink.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { CheckpointCollection, withSession } from './checkpoint-collection.ts';
import { CollectionAudit } from './collection-audit.ts';
import { type Bulk, CollectionWriter } from './collection-writer.ts';
import { toSinkError } from './errors.ts';
import { removedBy } from './guard.ts';
import { databaseOf, labelOf, type MongodbOptions } from './options.ts';
import { type Target, TargetCollection } from './target-collection.ts';
import { transactionSession, UnitOfWork } from './unit-of-work.ts';

export const createSink = (options: MongodbOptions): Sink => new MongodbSink(options);

const TIMEOUT_MS = 10_000;
/** More than these are not deleted inside a transaction: it would last too long. */
const MAX_DELETED = 100_000;

/** What an open connection has. */
interface Live {
  readonly client: MongoClient;
  readonly session: ClientSession | undefined;
  readonly target: Target;
  readonly writers: Map<string, CollectionWriter>;
  /** Id and term of the log that the last batch was of. */
  log: string;
  /** Waggle's own collections may be created although they were created before: nothing of this sink is there yet. */
  filling: boolean;
}

class MongodbSink implements Sink {
  readonly wants = 'states';
  readonly integers = 'bigint';
  // A transaction of MongoDB should not be large: its server keeps all of it in memory.
  readonly batchRows = 5000;
  readonly #options: MongodbOptions;
  readonly #label: string;
  readonly #token = randomUUID();
  #held = false;
  #live: Live | null = null;
  /** What the server works on while the next bulk is being made. */
  #underWay: { readonly bulk: Bulk; readonly done: Promise<void> } | null = null;

  constructor(options: MongodbOptions) {
    this.#options = options;
    this.#label = labelOf(options);
  }

  async open(context: SinkContext): Promise<Checkpoint | null> {
    await this.close();
    let client: MongoClient | null = null;
    try {
      client = new MongoClient(this.#options.url, {
        appName: `waggle ${context.name}`.slice(0, 120),
        useBigInt64: true,
        ...defaults(this.#options.url),
      });
      // What the server works on when the daemon gives up must not hold it up.
      const opened = client;
      context.signal.addEventListener('abort', () => void opened.close(true).catch(() => {}), { once: true });
      await client.connect();
      const db = client.db(databaseOf(this.#options) ?? '');
      const session = await transactionSession(client);
      const checkpoints = new CheckpointCollection({ db, sink: context.name, token: this.#token });
      const checkpoint = await checkpoints.take(this.#held, session?.id?.id ?? null);
      this.#held = true;
      const target: Target = { db, label: this.#label, work: new UnitOfWork(checkpoints, session), logger: context.logger };
      this.#live = { client, session, target, writers: new Map(), log: '', filling: checkpoint === null || checkpoint.fill !== null };
      return checkpoint;
    } catch (error) {
      await client?.close().catch(() => {});
      throw this.#failed(error);
    }
  }

  async apply(batch: Batch): Promise<void> {
    const live = this.#open();
    const { work } = live.target;
    const log = `${batch.checkpoint.logId} ${batch.checkpoint.term}`;
    if (live.log !== log) live.writers.clear();
    live.log = log;
    let place: string | undefined;
    try {
      live.filling ||= batch.checkpoint.fill !== null;
      await work.begin();
      for await (const part of batch.parts()) {
        for (const change of part) {
          place = (change.table ?? undefined)?.name;
          await this.#take(live, change);
        }
        for (const writer of live.writers.values()) await this.#flush(live, writer);
      }
      await this.#settle();
      place = undefined;
      await work.commit(batch.checkpoint);
      live.filling = batch.checkpoint.fill !== null;
    } catch (error) {
      const writer = this.#underWay?.bulk.writer;
      // It goes over another connection than what ends the transaction.
      await this.#underWay?.done.catch(() => {});
      this.#underWay = null;
      throw this.#failed(error, writer?.target.table.name ?? place);
    }
  }

  readonly audit: SinkAudit = {
    compare: (table, rows) => this.#read(table, (audit) => audit.compare(rows)),
    differences: (table, rows) => this.#read(table, (audit) => audit.differences(rows)),
    count: (table) => this.#read(table, (audit) => audit.count()),
    keys: (table, after, limit) => this.#read(table, (audit) => audit.keys(after, limit)),
  };

  async #read<T>(table: SinkTable, work: (audit: CollectionAudit) => Promise<T>): Promise<T> {
    const live = this.#open();
    try {
      return await work(new CollectionAudit(live.target, table));
    } catch (error) {
      throw this.#failed(error, table.name);
    }
  }

  #open(): Live {
    if (this.#live === null) throw new WaggleError('SINK_UNREACHABLE', `${this.#label}: not open`);
    return this.#live;
  }

  async close(): Promise<void> {
    const live = this.#live;
    this.#live = null;
    this.#underWay = null;
    // Aborts an open transaction; a server that no longer answers must not hold up the end.
    await live?.session?.endSession({ timeoutMS: 2000 }).catch(() => {});
    await live?.client.close().catch(() => {});
  }

  async #take(live: Live, change: SinkChange): Promise<void> {
    if (change.op === 's') {
      for (const writer of live.writers.values()) await this.#flush(live, writer);
      await this.#settle();
      live.writers.clear();
      if (change.table === null) return;
      const writer = await this.#openWriter(live, change.table);
      await writer.target.alter(live.target, change);
      return;
    }
    let writer = live.writers.get(change.table.name);
    if (writer?.target.table !== change.table) writer = await this.#openWriter(live, change.table);
    if (change.op === 't') {
      await this.#flush(live, writer);
      await this.#settle();
      const { collection } = writer.target;
      const { work } = live.target;
      if (change.mark !== undefined) {
        await writer.target.markAll(live.target, change.mark);
        return;
      }
      const filter = work.session === undefined ? removedBy(change) : {};
      if (work.session !== undefined && (await collection.estimatedDocumentCount()) > MAX_DELETED)
        await work.outside(() => collection.deleteMany(filter));
      else await collection.deleteMany(filter, withSession(work.session));
    } else if (writer.add(change)) await this.#flush(live, writer);
  }

  async #openWriter(live: Live, table: SinkTable): Promise<CollectionWriter> {
    const old = live.writers.get(table.name);
    if (old !== undefined) await this.#flush(live, old);
    await this.#settle();
    const writer = new CollectionWriter(await TargetCollection.open(live.target, table, { mayCreate: live.filling, log: live.log }), live.target);
    live.writers.set(table.name, writer);
    return writer;
  }

  async #flush(live: Live, writer: CollectionWriter): Promise<void> {
    for (const bulk of writer.take()) {
      await this.#settle();
      await live.target.work.renew();
      const done = writer.write(bulk);
      // Whoever awaits `done` next gets the error; until then it must not count as unhandled.
      done.catch(() => {});
      this.#underWay = { bulk, done };
    }
  }

  async #settle(): Promise<void> {
    const underWay = this.#underWay;
    if (underWay === null) return;
    await underWay.done;
    this.#underWay = null;
  }

  #failed(error: unknown, place?: string): WaggleError {
    const failure = toSinkError(error, this.#label, place);
    if (failure.code === 'SINK_FENCED') this.#held = false;
    return failure;
  }
}

/** Settings that the url does not have: options of the client would override it. */
const defaults = (url: string): MongoClientOptions => {
  const has = (name: string): boolean => new RegExp(`[?&]${name}=`, 'i').test(url);
  return {
    ...(has('serverSelectionTimeoutMS') ? {} : { serverSelectionTimeoutMS: TIMEOUT_MS }),
    ...(has('connectTimeoutMS') ? {} : { connectTimeoutMS: TIMEOUT_MS }),
    ...(has('w') || has('journal') ? {} : { writeConcern: { w: 'majority', journal: true } }),
  };
};
