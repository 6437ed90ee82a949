/**
 * Records on their way into one Kafka transaction: gathered into requests, and one request encoded while the one before is sent. Memory holds two
 * of them, whatever the transaction's size.
 *
 * Order: records of one partition arrive in the order in which they were added. What kafkajs 2.2.4 lets slip is found here: when a partition gets another leader
 * in the middle of a request, it may send its records twice or not at all and still say yes. Each partition must be acknowledged exactly once, or `settle` throws
 * and the transaction is to be taken back.
 *
 * A request to several brokers fails, or is tried again, with the first of them that fails, while those to the others are still under way: they are sent a second
 * time, or arrive behind the end of the transaction, where the broker takes them for a part of the next one. So in a cluster of several brokers each partition has
 * a request of its own, which has one broker; and what was sent is waited for (`quiet`) before a transaction is taken back.
 */
import kafkajs, { type CompressionTypes, type Message, type RecordMetadata, type TopicMessages, type Transaction } from 'kafkajs';
import { RowRefusedError, type SinkChange } from '../../src/pipeline/sink.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { brokerErrorTypes, isUnanswered } from './errors.ts';
import type { Topic } from './topics.ts';

export interface Outgoing {
  readonly topic: Topic;
  readonly partition: number;
  readonly key: Buffer | string | null;
  readonly value: Buffer | null;
  readonly headers: Readonly<Record<string, string>>;
  /** What it tells; null for records of waggle's own. */
  readonly change: SinkChange | null;
}

/** A request takes so much of one partition, and so much in all. The records of a partition in it are one batch, which the topic limits. */
const PARTITION_BYTES = 900_000;
const REQUEST_BYTES = 4_000_000;
/** Of a record: lengths and offsets, and of a batch its header (https://kafka.apache.org/documentation/#recordbatch). */
const RECORD_BYTES = 40;
const BATCH_BYTES = 61;
const ACKS_ALL = -1;

interface Load {
  readonly topics: Map<string, Message[]>;
  /** Bytes by topic and partition. */
  readonly sizes: Map<string, number>;
  bytes: number;
  /** The change in it where it is alone in it. */
  readonly alone: SinkChange | null;
}

const newLoad = (alone: SinkChange | null = null): Load => ({ topics: new Map(), sizes: new Map(), bytes: 0, alone });

export interface OutboxOptions {
  readonly compression: CompressionTypes;
  readonly label: string;
  /** The cluster has several brokers. */
  readonly severalBrokers: boolean;
}

export class Outbox {
  readonly #transaction: Pick<Transaction, 'sendBatch'>;
  readonly #compression: CompressionTypes;
  readonly #label: string;
  readonly #severalBrokers: boolean;
  #unanswered = false;
  #load = newLoad();
  #underWay: Promise<void> | null = null;

  constructor(transaction: Pick<Transaction, 'sendBatch'>, { compression, label, severalBrokers }: OutboxOptions) {
    this.#transaction = transaction;
    this.#compression = compression;
    this.#label = label;
    this.#severalBrokers = severalBrokers;
  }

  /** Null: added, go on. Else wait before the next one. Throws a RowRefusedError for a record that its topic cannot take. */
  add(record: Outgoing): Promise<void> | null {
    const { topic, partition } = record;
    const bytes = sizeOf(record);
    const most = topic.maxBytes - BATCH_BYTES;
    // Compressed it may fit; only the broker can tell, and only of a record that is alone.
    if (bytes > most) {
      if (this.#compression === kafkajs.CompressionTypes.None) throw this.#tooLarge(record.change, topic.name);
      return this.#addAlone(record, bytes);
    }
    const place = `${topic.name} ${partition}`;
    const size = this.#load.sizes.get(place) ?? 0;
    if (size + bytes > Math.min(PARTITION_BYTES, most) && size > 0) return this.#flushThenAdd(record, bytes);
    put(this.#load, record, bytes);
    return this.#load.bytes < REQUEST_BYTES ? null : this.#flush();
  }

  /** Resolves when every record is acknowledged. */
  async settle(): Promise<void> {
    await this.#flush();
    await this.#underWay;
    this.#underWay = null;
  }

  /** Resolves when nothing is under way any more: true, if all was answered; else nobody knows what arrives yet. */
  async quiet(): Promise<boolean> {
    await this.#underWay?.catch(() => {});
    return !this.#unanswered;
  }

  async #flushThenAdd(record: Outgoing, bytes: number): Promise<void> {
    await this.#flush();
    put(this.#load, record, bytes);
  }

  async #addAlone(record: Outgoing, bytes: number): Promise<void> {
    await this.#flush();
    this.#load = newLoad(record.change);
    put(this.#load, record, bytes);
    await this.#flush();
  }

  async #flush(): Promise<void> {
    const load = this.#load;
    if (load.topics.size === 0) return;
    this.#load = newLoad();
    await this.#underWay;
    this.#underWay = this.#send(load);
    // Whoever waits for it next gets the error; until then it must not count as unhandled.
    this.#underWay.catch(() => {});
  }

  async #send({ topics, sizes, alone }: Load): Promise<void> {
    const topicMessages = [...topics].map(([topic, messages]) => ({ topic, messages }));
    let answers: RecordMetadata[];
    try {
      answers = await this.#sendBatch(topicMessages);
    } catch (error) {
      const tooLarge = brokerErrorTypes(error).some((type) => type === 'MESSAGE_TOO_LARGE' || type === 'RECORD_LIST_TOO_LARGE');
      if (tooLarge && alone !== null) throw this.#tooLarge(alone, topicMessages[0]!.topic);
      if (tooLarge)
        throw new WaggleError('SINK_BUSY', `${this.#label}: the topic takes smaller records than it did when the sink was opened`, { cause: error });
      throw error;
    }
    const places = answers.map(({ topicName, partition }) => `${topicName} ${partition}`);
    const once = places.length === sizes.size && new Set(places).size === sizes.size && places.every((place) => sizes.has(place));
    if (!once) throw new WaggleError('SINK_BUSY', `${this.#label}: a partition got another leader, and its records were not acknowledged once`);
  }

  async #sendBatch(topicMessages: readonly TopicMessages[]): Promise<RecordMetadata[]> {
    const send = async (messages: readonly TopicMessages[]): Promise<RecordMetadata[]> => {
      try {
        return await this.#transaction.sendBatch({ acks: ACKS_ALL, compression: this.#compression, topicMessages: [...messages] });
      } catch (error) {
        this.#unanswered ||= isUnanswered(error);
        throw error;
      }
    };
    if (this.#severalBrokers) {
      const results = await Promise.allSettled(byPartition(topicMessages).map((each) => send([each])));
      return results.flatMap((result) => {
        if (result.status === 'rejected') throw result.reason;
        return result.value;
      });
    }
    try {
      return await send(topicMessages);
    } catch (error) {
      if (!brokerErrorTypes(error).includes('OPERATION_NOT_ATTEMPTED')) throw error;
      // One of the topics is gone or forbidden, and kafkajs tells the error of another one. The transaction is lost in any case.
      for (const each of topicMessages) await send([each]);
      throw error;
    }
  }

  #tooLarge(change: SinkChange | null, topic: string): WaggleError {
    const hint = "Raise the topic's `max.message.bytes`, or leave out the column (`columns: { exclude: … }`); then `waggle dead-letters retry`.";
    const message = `${this.#label}, topic ${topic}: a record is larger than the topic takes`;
    return change === null || change.op === 's' || change.op === 't'
      ? new WaggleError('SINK_TABLE_MISFIT', message, { hint: "Raise the topic's `max.message.bytes`." })
      : new RowRefusedError(change, message, { hint });
  }
}

const byPartition = (topicMessages: readonly TopicMessages[]): TopicMessages[] =>
  topicMessages.flatMap(({ topic, messages }) =>
    [...Map.groupBy(messages, ({ partition }) => partition).values()].map((ofPartition) => ({ topic, messages: ofPartition })),
  );

const put = (load: Load, { topic, partition, key, value, headers }: Outgoing, bytes: number): void => {
  let messages = load.topics.get(topic.name);
  if (messages === undefined) load.topics.set(topic.name, (messages = []));
  messages.push({ key, value, partition, headers });
  const place = `${topic.name} ${partition}`;
  load.sizes.set(place, (load.sizes.get(place) ?? 0) + bytes);
  load.bytes += bytes;
};

/** Never less than what stands in the batch. */
const sizeOf = ({ key, value, headers }: Outgoing): number => {
  let bytes = RECORD_BYTES + (key === null ? 0 : Buffer.byteLength(key)) + (value?.length ?? 0);
  for (const name in headers) bytes += name.length + headers[name]!.length * 3 + 4;
  return bytes;
};
