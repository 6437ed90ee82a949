/**
 * Records that a target refuses, kept in the topic `<prefix>.waggle-dead-letters`, where every member and its operator finds them: key, value and headers as they
 * came, and beside them `waggle.sink`, `waggle.topic`, `waggle.partition`, `waggle.offset`, `waggle.code` and `waggle.reason`.
 *
 * A record stands there before the checkpoint moves past it: after a kill in between it stands there twice.
 */
import type { Admin, Kafka, KafkaMessage, Producer } from 'kafkajs';
import type { WaggleError } from '../../support/errors.ts';

const ACKS_ALL = -1;

export interface Refused {
  readonly topic: string;
  readonly partition: number;
  readonly message: KafkaMessage;
  readonly error: WaggleError;
}

export class DeadLetterTopic implements AsyncDisposable {
  readonly #producer: Producer;
  readonly #admin: Admin;
  readonly #topic: string;
  readonly #sink: string;
  #ready: Promise<void> | null = null;

  constructor(kafka: Kafka, { topic, sink, admin }: { readonly topic: string; readonly sink: string; readonly admin: Admin }) {
    this.#producer = kafka.producer({ allowAutoTopicCreation: false, createPartitioner: () => () => 0 });
    this.#admin = admin;
    this.#topic = topic;
    this.#sink = sink;
  }

  /** Resolves when Kafka has it. Rejects with errors of kafkajs. */
  async keep({ topic, partition, message, error }: Refused): Promise<void> {
    try {
      await (this.#ready ??= this.#open());
    } catch (failure) {
      this.#ready = null;
      throw failure;
    }
    const headers = {
      ...message.headers,
      'waggle.sink': this.#sink,
      'waggle.topic': topic,
      'waggle.partition': String(partition),
      'waggle.offset': message.offset,
      'waggle.code': error.code,
      'waggle.reason': error.message,
    };
    await this.#producer.send({ topic: this.#topic, acks: ACKS_ALL, messages: [{ key: message.key, value: message.value, headers }] });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ready !== null) await this.#producer.disconnect();
  }

  async #open(): Promise<void> {
    await this.#producer.connect();
    const forever = [
      { name: 'retention.ms', value: '-1' },
      { name: 'retention.bytes', value: '-1' },
    ];
    await this.#admin.createTopics({ topics: [{ topic: this.#topic, numPartitions: 1, replicationFactor: -1, configEntries: forever }] });
  }
}
