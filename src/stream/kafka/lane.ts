/**
 * One partition of a topic on its way into a target: a sink of its own, named `<sink>#<topic>#<partition>`, whose checkpoint in the target is the offset of the next
 * record. So each record is applied once where the target keeps its checkpoint in the transaction of the data; whoever is given the partition next opens the same
 * name, and fences this one.
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
import { sinkChangeOf } from './sink-changes.ts';
import type { TableForms } from './table-forms.ts';

/** The partition in which the publisher writes the changes of this row; null: its key alone does not tell. */
export type PartitionOf = (change: SinkRowChange, partitions: number) => number | null;

/** Keys that are read at a time where a table is emptied. */
const PAGE_KEYS = 5000;

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
    return lane;
  }

  /** Offset of the first record that the target does not have. */
  get next(): bigint {
    return this.#next;
  }

  /**
   * Those that the target does not have yet, in one batch unless a table was emptied between them. `sift`: what the target refuses becomes a dead letter, and
   * the others are applied; else it is thrown, because it may pass once another partition is further on (a value that another row is about to give up).
   */
  async apply(messages: readonly KafkaMessage[], { lastOffset, sift }: { readonly lastOffset: bigint; readonly sift: boolean }): Promise<void> {
    this.#letters = sift ? this.#options.letters : null;
    this.#messages = new Map();
    let changes: SinkChange[] = [];
    for (const message of messages) {
      const offset = BigInt(message.offset);
      if (offset < this.#next) continue;
      const change = await this.#readOf(message);
      if (change !== null) this.#messages.set(change, message);
      if (change?.op === 't' && this.#options.partitions > 1) {
        await this.#write(changes, offset);
        changes = [];
        await this.#empty(change, offset);
      } else if (change !== null) changes.push(change);
    }
    if (lastOffset + 1n > this.#next) await this.#write(changes, lastOffset + 1n);
  }

  async #write(changes: readonly SinkChange[], next: bigint): Promise<void> {
    const { sink, logId } = this.#options;
    const checkpoint: Checkpoint = { logId, term: '', seq: Number(next), txid: '', fill: null };
    let part = sink.wants === 'states' ? coalesce(changes) : [...changes];
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
    await this.#options.sink.close().catch(() => {});
  }

  /** Null: nothing to apply. */
  async #readOf(message: KafkaMessage): Promise<SinkChange | null> {
    try {
      return await this.#changeOf(message);
    } catch (error) {
      if (this.#letters === null || !(error instanceof WaggleError) || error.code !== 'EVENT_INVALID') throw error;
      await this.#keep(message, error);
      return null;
    }
  }

  async #changeOf(message: KafkaMessage): Promise<SinkChange | null> {
    const { sink, forms, context } = this.#options;
    const event = parseChange(message);
    const version = message.headers?.['schema'];
    if (event === null || event.op === 's' || version === undefined) return null;
    const table = await forms.form(String(version));
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
    return sinkChangeOf(event, table, { integers: sink.integers ?? 'number', states: sink.wants === 'states' });
  }
}

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
