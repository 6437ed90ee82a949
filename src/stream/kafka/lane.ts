/**
 * One partition of a topic on its way into a target: a sink of its own, named `<sink>#<topic>#<partition>`, whose checkpoint in the target is the offset of the next
 * record. So each record is applied once where the target keeps its checkpoint in the transaction of the data; whoever is given the partition next opens the same
 * name, and fences this one.
 *
 * A batch ends where a transaction of the hive ends in the partition. What was fetched behind that is left to be fetched again; a transaction that is larger
 * than what is fetched at a time is one batch all the same, whose parts come with what is fetched next.
 *
 * `txid` of the checkpoint holds the versions of the forms that the target's tables have by now: where a record of a later form comes, the schema changes between
 * the two are applied before it. In a topic of several partitions they are not, because rows of before are still to come in another partition: a warning says so.
 */
import { mkdirSync } from 'node:fs';
import type { KafkaMessage } from 'kafkajs';
import type { Checkpoint, RowChange } from '../../change/change.ts';
import { parseChange } from '../../change/parse-change.ts';
import type { Value } from '../../change/table.ts';
import { coalesce } from '../../pipeline/coalesce.ts';
import { findRefused, isRefusal } from '../../pipeline/isolation.ts';
import {
  type Batch,
  RowRefusedError,
  type Sink,
  type SinkChange,
  type SinkContext,
  type SinkRowChange,
  type SinkTable,
  type SinkTruncateChange,
} from '../../pipeline/sink.ts';
import { WaggleError } from '../../support/errors.ts';
import type { DeadLetterTopic } from './dead-letter-topic.ts';
import { PartFeed } from './part-feed.ts';
import { schemaChangeOf, sinkChangeOf } from './sink-changes.ts';
import type { FormStep, TableForms } from './table-forms.ts';
import { wholeLength } from './whole-length.ts';

/** The partition in which the publisher writes the changes of this row; null: its key alone does not tell. */
export type PartitionOf = (change: SinkRowChange, partitions: number) => number | null;

/** Keys that are read at a time where a table is emptied. */
const PAGE_KEYS = 5000;

/** What Kafka gave at a time. */
export interface Fetched {
  readonly messages: readonly KafkaMessage[];
  /** Of what was fetched, records that nobody sees among it. */
  readonly lastOffset: bigint;
  /** There was no more when it was fetched. */
  readonly atEnd: boolean;
}

/** Offsets of the first record that a partition holds, and of the one behind the last. */
export interface Held {
  readonly low: bigint;
  readonly high: bigint;
}

/** A transaction of the hive that is being applied while it is still being fetched. */
interface OpenBatch {
  readonly feed: PartFeed;
  /** Written when its end is known: the sink reads it behind the last part. */
  readonly checkpoint: { -readonly [Name in keyof Checkpoint]: Checkpoint[Name] };
  readonly applied: Promise<void>;
}

export interface LaneOptions {
  readonly sink: Sink;
  readonly context: SinkContext;
  readonly topic: string;
  readonly partition: number;
  /** Of the topic. */
  readonly partitions: number;
  readonly partitionOf: PartitionOf;
  /** Names the topic in checkpoints: another cluster's offsets are others. */
  readonly logId: string;
  readonly forms: TableForms;
  /** Where records go that the target refuses; null: the first of them is thrown. */
  readonly letters: DeadLetterTopic | null;
}

export class Lane implements AsyncDisposable {
  readonly #options: LaneOptions;
  #next = 0n;
  /** Of the first record that was not taken yet: behind `#next` while a batch is open. */
  #position = 0n;
  #open: OpenBatch | null = null;
  /** Of the forms that the target has, with all that was taken. */
  #versions = new Set<string>();
  /** Of the batch that is being applied. */
  #letters: DeadLetterTopic | null = null;
  #messages = new Map<SinkChange, KafkaMessage>();

  private constructor(options: LaneOptions) {
    this.#options = options;
  }

  static async open(options: LaneOptions): Promise<Lane> {
    const lane = new Lane(options);
    const { sink, context, logId, topic } = options;
    mkdirSync(context.stateDir, { recursive: true, mode: 0o700 });
    const checkpoint = await known(sink.open(context));
    if (checkpoint !== null && checkpoint.logId !== logId) {
      await sink.close();
      throw new WaggleError('SINK_CHECKPOINT_UNKNOWN', `${context.name}: the target was fed from another cluster or topic than ${topic}`, {
        hint: 'Choose another name for the sink, or remove its checkpoints from the target.',
      });
    }
    lane.#next = BigInt(checkpoint?.seq ?? 0);
    lane.#position = lane.#next;
    lane.#versions = new Set(checkpoint?.txid.split(' ').filter((version) => version !== ''));
    return lane;
  }

  /** Offset of the first record that the target does not have. */
  get next(): bigint {
    return this.#next;
  }

  /** Offset of the record that is to be fetched next. */
  get position(): bigint {
    return this.#position;
  }

  /** A transaction is being applied whose end was not fetched yet. */
  get isOpen(): boolean {
    return this.#open !== null;
  }

  /** Where the partition no longer holds what follows the checkpoint: goes to what it holds, and says that rows are missing. */
  beginWithin({ low, high }: Held): void {
    const { topic, partition, context } = this.#options;
    if (this.#next >= low && this.#next <= high) return;
    context.logger.warn(
      {
        code: 'SINK_CHECKPOINT_LOST',
        topic,
        partition,
        next: String(this.#next),
        held: `${low} to ${high}`,
        hint: 'Run `waggle resync` of the publisher for this table: all its rows are told again. A topic that members read needs `topics: { compact: true }`, or a retention that is longer than a member is ever away.',
      },
      this.#next > high
        ? 'the topic ends before what the target has: it was deleted and made again; it is applied from its beginning, and what was in neither is missing'
        : 'the topic does not hold what follows the checkpoint any more: what was changed there is missing in the target',
    );
    this.#next = this.#position = low;
  }

  /**
   * Those that the target does not have yet, up to the end of the last whole transaction; all of them, in a batch that stays open, where there is no such end.
   * `sift`: what the target refuses becomes a dead letter, and the others are applied; else it is thrown, because it may pass once another partition is further
   * on (a value that another row is about to give up). A transaction that is too large to be fetched at a time is then applied in pieces.
   */
  async apply({ messages, lastOffset, atEnd }: Fetched, { sift }: { readonly sift: boolean }): Promise<void> {
    this.#letters = sift ? this.#options.letters : null;
    this.#messages = new Map();
    const fresh = messages.filter(({ offset }) => BigInt(offset) >= this.#position);
    const whole = sift && this.#open === null ? wholeLength(fresh, atEnd) || fresh.length : wholeLength(fresh, atEnd);
    const ends = whole > 0 || atEnd;
    const taken = whole > 0 ? fresh.slice(0, whole) : fresh;
    const rest = fresh[taken.length];
    const changes = await this.#take(taken);
    this.#position = rest === undefined ? max(lastOffset + 1n, this.#position) : BigInt(rest.offset);
    // Of an open batch, what nobody sees (records that were taken back) says nothing about its end.
    if (ends || (taken.length === 0 && this.#open === null)) await this.#finish(changes, this.#position);
    else await this.#extend(changes);
  }

  /** As changes: those of which a batch can be made. What must stand in batches of its own is applied here, with all before it. */
  async #take(messages: readonly KafkaMessage[]): Promise<SinkChange[]> {
    const { sink, partitions } = this.#options;
    let changes: SinkChange[] = [];
    for (const message of messages) {
      const offset = BigInt(message.offset);
      const read = await this.#readOf(message);
      if (read === null) continue;
      const { change, version } = read;
      if (this.#letters !== null) this.#messages.set(change, message);
      const steps = this.#stepsTo(change.table, version);
      // Where DDL commits, rows of before must not come behind it when the batch comes again.
      if (steps.length > 0 && sink.rehearse === undefined) {
        await this.#finish(changes, offset);
        changes = [];
      }
      this.#follow(change.table, version);
      changes.push(...steps.map(({ previous, table }) => schemaChangeOf(previous, table)));
      if (change.op === 't' && partitions > 1) {
        await this.#finish(changes, offset);
        changes = [];
        await this.#empty(change, offset);
      } else changes.push(change);
    }
    return changes;
  }

  /** Schema changes that the target has to follow before a row of this form. */
  #stepsTo(table: SinkTable, version: string): readonly FormStep[] {
    if (this.#versions.has(version)) return [];
    const { forms, partitions, topic, context } = this.#options;
    const { steps = [] } = forms.stepsTo(version, this.#versions) ?? {};
    if (partitions === 1 && !forms.isShared(table.name)) return steps;
    const columns = steps.flatMap(({ lost }) => lost);
    if (columns.length > 0)
      context.logger.warn(
        {
          code: 'SINK_TABLE_MISFIT',
          topic,
          table: table.name,
          columns,
          hint: 'Run `waggle resync` of the publisher for this table: all its rows are told again.',
        },
        partitions > 1
          ? 'columns were renamed or came back, which is not followed over several partitions: in rows that do not change they hold nothing, or what they held before'
          : 'columns were renamed or came back in one of several hives: in rows that do not change they hold nothing, or what they held before',
      );
    return [];
  }

  #follow({ name }: SinkTable, version: string): void {
    if (this.#versions.has(version)) return;
    const { forms } = this.#options;
    const found = forms.stepsTo(version, this.#versions);
    if (found !== null) this.#versions.delete(found.from);
    // A new table of an old name: what the other one was like is of no use any more.
    else if (forms.isCreated(version)) for (const each of this.#versions) if (forms.nameOf(each) === name) this.#versions.delete(each);
    this.#versions.add(version);
  }

  /** Adds to the batch that stays open, or begins it. */
  async #extend(changes: SinkChange[]): Promise<void> {
    const { sink, logId } = this.#options;
    if (this.#open === null) {
      const feed = new PartFeed();
      const checkpoint = { logId, term: '', seq: 0, txid: '', fill: null };
      const applied = known(sink.apply({ parts: () => feed.parts(), checkpoint }));
      applied.catch(() => {});
      this.#open = { feed, checkpoint, applied };
    }
    // It never ends by itself, but it may fail.
    await Promise.race([this.#open.feed.put(this.#partOf(changes)), this.#open.applied]);
  }

  /** The batch with these at its end, and the checkpoint behind it. */
  async #finish(changes: SinkChange[], next: bigint): Promise<void> {
    if (this.#open === null) return next > this.#next ? this.#write(changes, next) : undefined;
    await this.#extend(changes);
    Object.assign(this.#open.checkpoint, this.#checkpointAt(next));
    this.#open.feed.end();
    await this.#open.applied;
    this.#open = null;
    this.#next = next;
    return undefined;
  }

  #checkpointAt(next: bigint): Checkpoint {
    return { logId: this.#options.logId, term: '', seq: Number(next), txid: [...this.#versions].join(' '), fill: null };
  }

  #partOf(changes: SinkChange[]): SinkChange[] {
    return this.#options.sink.wants === 'states' ? coalesce(changes) : changes;
  }

  async #write(changes: SinkChange[], next: bigint): Promise<void> {
    const { sink } = this.#options;
    const checkpoint = this.#checkpointAt(next);
    let part = this.#partOf(changes);
    let passing = 0;
    for (;;) {
      const refusal = await this.#try(() => sink.apply(batchOf(part, checkpoint)));
      if (refusal === null) break;
      const refused =
        refusal instanceof RowRefusedError ? { change: refusal.change, error: refusal, passing } : await this.#find(part, checkpoint, passing);
      const message = refused === null ? undefined : this.#messages.get(refused.change);
      if (refused === null || message === undefined) throw refusal;
      await this.#keep(message, refused.error);
      passing = refused.passing;
      part = part.filter((change) => change !== refused.change);
    }
    this.#next = next;
  }

  /** A refusal that is to be sifted out is given back, with the sink open again; everything else is thrown. */
  async #try(work: () => Promise<void>): Promise<WaggleError | null> {
    const { sink, context } = this.#options;
    try {
      await known(work());
      return null;
    } catch (error) {
      if (this.#letters === null || !isRefusal(error) || !(error instanceof RowRefusedError || sink.rehearse !== undefined)) throw error;
      await sink.close();
      await known(sink.open(context));
      return error;
    }
  }

  #find(part: SinkChange[], checkpoint: Checkpoint, passing: number): ReturnType<typeof findRefused> {
    const { sink } = this.#options;
    return findRefused({
      parts: () => [part],
      passing,
      rehearse: ([some = []]) => this.#try(() => sink.rehearse!(batchOf(some, checkpoint))),
    });
  }

  async #keep(message: KafkaMessage, error: WaggleError): Promise<void> {
    const { topic, partition, context } = this.#options;
    await this.#letters!.keep({ topic, partition, message, error });
    context.logger.warn(
      { code: error.code, topic, partition, offset: message.offset, reason: error.message },
      'a record was refused and is kept as a dead letter',
    );
  }

  /**
   * A `t` in one of several partitions speaks of the keys that belong there, and the target knows which of them it has. Not in one transaction where they are
   * many: the checkpoint stays in front of the `t` until all are gone.
   */
  async #empty(change: SinkTruncateChange, offset: bigint): Promise<void> {
    const { sink, partition, partitions, partitionOf } = this.#options;
    if (change.mark !== undefined || sink.audit === undefined) throw this.#cannotEmpty(change.table);
    const { seq, transaction, collectionOrder, table } = change.source as RowChange;
    const source: RowChange = { op: 'd', seq, transaction, collectionOrder, table, before: null, after: null };
    for (let after: readonly Value[] | null = null; ;) {
      const keys: readonly (readonly Value[])[] = await known(sink.audit.keys(change.table, after, PAGE_KEYS));
      const gone = keys
        .map((key): SinkRowChange => ({ op: 'd', table: change.table, key, before: null, after: null, source }))
        .filter((removal) => {
          const place = partitionOf(removal, partitions);
          if (place === null) throw this.#cannotEmpty(change.table);
          return place === partition;
        });
      const last = keys.length < PAGE_KEYS;
      await this.#write(gone, last ? offset + 1n : offset);
      if (last) return;
      after = keys.at(-1)!;
    }
  }

  #cannotEmpty({ name }: SinkTable): WaggleError {
    const { topic, partitions } = this.#options;
    return new WaggleError(
      'SINK_TABLE_MISFIT',
      `topic ${topic}: the table ${name} was emptied, and which of its rows belong to one of ${partitions} partitions cannot be told`,
      {
        hint: 'Publish into topics of one partition.',
      },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#open?.feed.breakOff();
    await this.#options.sink.close().catch(() => {});
  }

  /** Null: nothing to apply. */
  async #readOf(message: KafkaMessage): Promise<Read | null> {
    try {
      return await this.#changeOf(message);
    } catch (error) {
      if (this.#letters === null || !(error instanceof WaggleError) || error.code !== 'EVENT_INVALID') throw error;
      await this.#keep(message, error);
      return null;
    }
  }

  async #changeOf(message: KafkaMessage): Promise<Read | null> {
    const { sink, forms, context } = this.#options;
    const event = parseChange(message);
    const header = message.headers?.['schema'];
    if (event === null || event.op === 's' || header === undefined) return null;
    const version = String(header);
    const table = await forms.form(version);
    if (event.op === 't' && forms.isShared(table.name)) {
      context.logger.warn(
        {
          code: 'SINK_TABLE_MISFIT',
          table: table.name,
          hive: event.source.name,
          hint: 'Delete them in the target by hand; rows that the hive has are told again by `waggle resync` of the publisher.',
        },
        "a table was emptied in one of several hives, whose rows cannot be told from the others': they stay",
      );
      return null;
    }
    const change = sinkChangeOf(event, table, { integers: sink.integers ?? 'number', states: sink.wants === 'states' });
    return change === null || change.op === 's' ? null : { change, version };
  }
}

interface Read {
  readonly change: SinkRowChange | SinkTruncateChange;
  /** Of its table's form. */
  readonly version: string;
}

const max = (a: bigint, b: bigint): bigint => (a > b ? a : b);

const batchOf = (part: SinkChange[], checkpoint: Checkpoint): Batch => ({
  parts: async function* () {
    if (part.length > 0) yield part;
  },
  checkpoint,
});

/** What the connector did not classify may pass. */
const known = async <T>(work: Promise<T>): Promise<T> => {
  try {
    return await work;
  } catch (error) {
    throw error instanceof WaggleError
      ? error
      : new WaggleError('SINK_FAILED', error instanceof Error ? error.message : String(error), { cause: error });
  }
};
