/** What stands in a cluster, as a consumer that reads what is committed sees it. */
import { randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';
import kafkajs, { type Admin, type Kafka } from 'kafkajs';
import { prepareKafkajs } from '../../connectors/kafka/client.ts';

export interface TopicRecord {
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
  readonly key: string | null;
  readonly value: string | null;
  readonly headers: Readonly<Record<string, string>>;
}

interface Broker {
  listOffsets(request: object): Promise<unknown>;
}

const READ_UNCOMMITTED = 0;

/** Where topics really end: kafkajs itself tells where what can be read ends, which is earlier for a moment behind each commit. */
const withRealEnds = async <T>(work: () => Promise<T>): Promise<T> => {
  const { prototype } = createRequire(import.meta.url)('kafkajs/src/broker/index.js') as { prototype: Broker };
  const { listOffsets } = prototype;
  prototype.listOffsets = function realEnds(this: Broker, request: object): Promise<unknown> {
    return listOffsets.call(this, { ...request, isolationLevel: READ_UNCOMMITTED });
  };
  try {
    return await work();
  } finally {
    prototype.listOffsets = listOffsets;
  }
};

export class KafkaProbe implements AsyncDisposable {
  readonly kafka: Kafka;
  readonly admin: Admin;

  private constructor(kafka: Kafka) {
    this.kafka = kafka;
    this.admin = kafka.admin();
  }

  /** `host:port`; of several brokers with commas between them. */
  static async open(brokers: string): Promise<KafkaProbe> {
    prepareKafkajs();
    const kafka = new kafkajs.Kafka({
      clientId: 'probe',
      brokers: brokers.split(','),
      logLevel: kafkajs.logLevel.NOTHING,
      retry: { initialRetryTime: 4 },
    });
    const probe = new KafkaProbe(kafka);
    await probe.admin.connect();
    return probe;
  }

  /** Without Kafka's own. */
  async topics(): Promise<string[]> {
    return (await this.admin.listTopics()).filter((topic) => !topic.startsWith('__')).sort();
  }

  /** All records of the topics (default: of all), in the order of topics, partitions and offsets. */
  async read(names?: readonly string[]): Promise<TopicRecord[]> {
    const topics = names ?? (await this.topics());
    const ends = new Map<string, bigint>();
    await withRealEnds(async () => {
      for (const topic of topics)
        for (const { partition, high, low } of await this.admin.fetchTopicOffsets(topic))
          if (BigInt(high) > BigInt(low)) ends.set(`${topic} ${partition}`, BigInt(high));
    });
    const records: TopicRecord[] = [];
    if (ends.size === 0) return records;
    const done = Promise.withResolvers<void>();
    done.promise.catch(() => {});
    const consumer = this.kafka.consumer({ groupId: `probe-${randomUUID()}`, maxWaitTimeInMs: 50 });
    consumer.on(consumer.events.CRASH, ({ payload }) => payload.restart || done.reject(payload.error));
    consumer.on(consumer.events.END_BATCH_PROCESS, ({ payload }) => {
      const place = `${payload.topic} ${payload.partition}`;
      const end = ends.get(place);
      if (end !== undefined && BigInt(payload.lastOffset) + 1n >= end) ends.delete(place);
      if (ends.size === 0) done.resolve();
    });
    try {
      await consumer.connect();
      await consumer.subscribe({
        topics: topics.filter((topic) => [...ends.keys()].some((place) => place.startsWith(`${topic} `))),
        fromBeginning: true,
      });
      await consumer.run({
        autoCommit: false,
        eachBatch: async ({ batch }) => {
          for (const { offset, key, value, headers = {} } of batch.messages)
            records.push({
              topic: batch.topic,
              partition: batch.partition,
              offset: BigInt(offset),
              key: key === null ? null : String(key),
              value: value === null ? null : String(value),
              headers: Object.fromEntries(Object.entries(headers).map(([name, header]) => [name, String(header)])),
            });
        },
      });
      await done.promise;
    } finally {
      await consumer.disconnect();
    }
    return records.sort((a, b) => a.topic.localeCompare(b.topic) || a.partition - b.partition || Number(a.offset - b.offset));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.admin.disconnect();
  }
}
