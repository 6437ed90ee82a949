/**
 * One partition of a topic on its way into a target: a sink of its own, named `<sink>#<topic>#<partition>`, whose checkpoint in the target is the offset of the next
 * record. So each record is applied once where the target keeps its checkpoint in the transaction of the data; whoever is given the partition next opens the same
 * name, and fences this one.
 */
import { mkdirSync } from 'node:fs';
import type { KafkaMessage } from 'kafkajs';
import { parseChange } from '../../change/parse-change.ts';
import { coalesce } from '../../pipeline/coalesce.ts';
import type { Sink, SinkChange, SinkContext } from '../../pipeline/sink.ts';
import { WaggleError } from '../../support/errors.ts';
import { sinkChangeOf } from './sink-changes.ts';
import type { TableForms } from './table-forms.ts';

export interface LaneOptions {
  readonly sink: Sink;
  readonly context: SinkContext;
  readonly topic: string;
  /** Of the topic. */
  readonly partitions: number;
  /** Names the topic in checkpoints: another cluster's offsets are others. */
  readonly logId: string;
  readonly forms: TableForms;
}

export class Lane implements AsyncDisposable {
  readonly #options: LaneOptions;
  #next = 0n;

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

  /** Those that the target does not have yet, in one batch. */
  async apply(messages: readonly KafkaMessage[], lastOffset: bigint): Promise<void> {
    const { sink, logId } = this.#options;
    const changes: SinkChange[] = [];
    for (const message of messages) {
      if (BigInt(message.offset) < this.#next) continue;
      const change = await this.#changeOf(message);
      if (change !== null) changes.push(change);
    }
    const next = lastOffset + 1n;
    if (next <= this.#next) return;
    const part = sink.wants === 'states' ? coalesce(changes) : changes;
    const parts = (async function* () {
      if (part.length > 0) yield part;
    })();
    await known(sink.apply({ parts, checkpoint: { logId, term: '', seq: Number(next), txid: '', fill: null } }));
    this.#next = next;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#options.sink.close().catch(() => {});
  }

  async #changeOf(message: KafkaMessage): Promise<SinkChange | null> {
    const { sink, forms, topic, partitions } = this.#options;
    const event = parseChange(message);
    const version = message.headers?.['schema'];
    if (event === null || event.op === 's' || version === undefined) return null;
    if (event.op === 't' && partitions > 1)
      throw new WaggleError(
        'SINK_TABLE_MISFIT',
        `topic ${topic}: the table ${event.source.table} was emptied, which no member can do alone for ${partitions} partitions`,
        {
          hint: 'Publish into topics of one partition, or tell deleted rows one by one (`capture: { delete_all: rows }`).',
        },
      );
    return sinkChangeOf(event, await forms.form(String(version)), { integers: sink.integers ?? 'number', states: sink.wants === 'states' });
  }
}

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
