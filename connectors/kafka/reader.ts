/** Reads small topics from their beginning to their end as of now, what was committed of them. */
import { randomUUID } from 'node:crypto';
import type { Admin, Kafka, KafkaMessage } from 'kafkajs';
import { WaggleError } from '../../src/support/errors.ts';

export interface Reading {
  readonly kafka: Kafka;
  readonly admin: Admin;
  /** Topics of one partition. */
  readonly topics: readonly string[];
  /** The group's name begins so. */
  readonly group: string;
  readonly label: string;
}

/** Somebody's open transaction ends after five minutes at most, and nothing behind it can be read before. */
const PATIENCE_MS = 30_000;
const FETCH_WAIT_MS = 100;

/** Rejects with SINK_BUSY where the end is not reached in time. */
export const readToEnd = async (reading: Reading, take: (topic: string, message: KafkaMessage) => void): Promise<void> => {
  const { kafka, admin, topics, group, label } = reading;
  /** Offset behind the last record, of those that have any. */
  const ends = new Map<string, bigint>();
  for (const topic of topics) {
    const [partition] = await admin.fetchTopicOffsets(topic);
    if (partition !== undefined && BigInt(partition.high) > BigInt(partition.low)) ends.set(topic, BigInt(partition.high));
  }
  if (ends.size === 0) return;
  const done = Promise.withResolvers<void>();
  // It may come before it is awaited.
  done.promise.catch(() => {});
  // A group of its own: the broker waits for the members that a killed reader leaves behind.
  const consumer = kafka.consumer({ groupId: `${group}.${randomUUID()}`, maxWaitTimeInMs: FETCH_WAIT_MS, allowAutoTopicCreation: false });
  const timer = setTimeout(
    () =>
      done.reject(
        new WaggleError('SINK_BUSY', `${label}: ${[...ends.keys()].join(', ')} cannot be read to the end while somebody's transaction is open`),
      ),
    PATIENCE_MS,
  );
  try {
    consumer.on(consumer.events.CRASH, ({ payload }) => done.reject(payload.error));
    // Told also of batches that hold nothing but what a transaction ended with.
    consumer.on(consumer.events.END_BATCH_PROCESS, ({ payload }) => {
      const end = ends.get(payload.topic);
      if (end === undefined || BigInt(payload.lastOffset) + 1n < end) return;
      ends.delete(payload.topic);
      if (ends.size === 0) done.resolve();
    });
    await consumer.connect();
    await consumer.subscribe({ topics: [...ends.keys()], fromBeginning: true });
    await consumer.run({
      autoCommit: false,
      eachBatch: async ({ batch }) => {
        for (const message of batch.messages) take(batch.topic, message);
      },
    });
    await done.promise;
  } finally {
    clearTimeout(timer);
    await consumer.disconnect().catch(() => {});
  }
};
