/** Reads small topics from their beginning to their end as of now, what was committed of them. */
import { randomUUID } from 'node:crypto';
import type { Admin, Kafka, KafkaMessage } from 'kafkajs';
import { WaggleError } from '../../src/support/errors.ts';

export interface Reading {
  readonly kafka: Kafka;
  readonly admin: Admin;
  /** Of one partition. Read to its end as kafkajs tells it: before the first transaction that is open. */
  readonly topic: string;
  /** Of one partition. Read until `isLast` says so of a record. */
  readonly marked: { readonly topic: string; readonly isLast: (message: KafkaMessage) => boolean };
  /** The group's name begins so. */
  readonly group: string;
  readonly label: string;
}

/** Somebody's open transaction ends after five minutes at most, and nothing behind it can be read before. */
const PATIENCE_MS = 30_000;
const FETCH_WAIT_MS = 100;

/** Rejects with SINK_BUSY where the end is not reached in time. */
export const readToEnd = async (reading: Reading, take: (topic: string, message: KafkaMessage) => void): Promise<void> => {
  const { kafka, admin, topic, marked, group, label } = reading;
  const [partition] = await admin.fetchTopicOffsets(topic);
  const end = partition !== undefined && BigInt(partition.high) > BigInt(partition.low) ? BigInt(partition.high) : null;
  const left = new Set(end === null ? [marked.topic] : [marked.topic, topic]);
  const done = Promise.withResolvers<void>();
  // It may come before it is awaited.
  done.promise.catch(() => {});
  const reached = (name: string): void => {
    left.delete(name);
    if (left.size === 0) done.resolve();
  };
  // A group of its own: the broker waits for the members that a killed reader leaves behind.
  const consumer = kafka.consumer({ groupId: `${group}.${randomUUID()}`, maxWaitTimeInMs: FETCH_WAIT_MS, allowAutoTopicCreation: false });
  /** A coordinator that is still starting, for example: the consumer begins again by itself. */
  let crash: Error | null = null;
  const timer = setTimeout(() => {
    const waiting = `${label}: ${[...left].join(', ')} cannot be read to the end while somebody's transaction is open`;
    done.reject(crash ?? new WaggleError('SINK_BUSY', waiting));
  }, PATIENCE_MS);
  try {
    consumer.on(consumer.events.CRASH, ({ payload }) => {
      crash = payload.error;
      if (!payload.restart) done.reject(crash);
    });
    // Told also of batches that hold nothing but what a transaction ended with.
    consumer.on(consumer.events.END_BATCH_PROCESS, ({ payload }) => {
      if (payload.topic === topic && end !== null && BigInt(payload.lastOffset) + 1n >= end) reached(topic);
    });
    await consumer.connect();
    await consumer.subscribe({ topics: [...left], fromBeginning: true });
    await consumer.run({
      autoCommit: false,
      eachBatch: async ({ batch }) => {
        for (const message of batch.messages) {
          take(batch.topic, message);
          if (batch.topic === marked.topic && marked.isLast(message)) reached(marked.topic);
        }
      },
    });
    await done.promise;
  } finally {
    clearTimeout(timer);
    await consumer.disconnect().catch(() => {});
  }
};
