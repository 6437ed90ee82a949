/** What cannot be brought about with one broker: leaders that move in the middle of a request. */
import { createRequire } from 'node:module';
import kafkajs, { type ProducerBatch, type RecordMetadata } from 'kafkajs';
import { describe, expect, it } from 'vitest';
import { Outbox } from '../../connectors/kafka/outbox.ts';
import { mendRequestQueue } from '../../connectors/kafka/request-queue.ts';

const topic = { name: 't', partitions: 2, maxBytes: 1_000_000, compacted: false };
const record = (partition: number, bytes = 10) => ({ topic, partition, key: 'k', value: Buffer.alloc(bytes), headers: {}, change: null });

const answering = (answer: (places: readonly number[]) => number[]) => {
  const sent: ProducerBatch[] = [];
  const sendBatch = async (batch: ProducerBatch): Promise<RecordMetadata[]> => {
    sent.push(batch);
    const places = [...new Set(batch.topicMessages!.flatMap(({ messages }) => messages.map(({ partition }) => partition!)))];
    return answer(places).map((partition) => ({ topicName: 't', partition, errorCode: 0 }));
  };
  return { sent, outbox: new Outbox({ sendBatch }, { compression: kafkajs.CompressionTypes.None, label: 'kafka' }) };
};

describe('outbox', () => {
  it.each([
    ['is not acknowledged', (places: readonly number[]) => places.slice(1)],
    ['is acknowledged twice', (places: readonly number[]) => [...places, places[0]!]],
    ['is not acknowledged, another one twice', (places: readonly number[]) => places.map(() => places[0]!)],
  ])('takes the transaction back where a partition %s', async (_, answer) => {
    const { outbox } = answering(answer);
    await outbox.add(record(0));
    await outbox.add(record(1));
    await expect(outbox.settle()).rejects.toEqual(expect.objectContaining({ code: 'SINK_BUSY', retryable: true }));
  });

  it('keeps requests below the limits, and the order of each partition', async () => {
    const { sent, outbox } = answering((places) => [...places]);
    for (let index = 0; index < 500; index += 1) await outbox.add({ ...record(index % 2, 20_000), key: String(index) });
    await outbox.settle();
    const keys = sent.flatMap(({ topicMessages }) =>
      topicMessages!.flatMap(({ messages }) => messages.map(({ key, partition }) => [partition, Number(key)])),
    );
    for (const partition of [0, 1])
      expect(keys.filter(([place]) => place === partition).map(([, key]) => key)).toEqual(
        Array.from({ length: 250 }, (_, index) => index * 2 + partition),
      );
    for (const { topicMessages } of sent)
      for (const partition of [0, 1])
        expect(topicMessages!.flatMap(({ messages }) => messages).filter((each) => each.partition === partition).length * 20_000).toBeLessThanOrEqual(
          900_000,
        );
    expect(sent.length).toBeGreaterThan(5);
  });

  it('tells the error of the topic that is at fault', async () => {
    const fault = (type: string): Error => Object.assign(new Error(type), { type });
    const outbox = new Outbox(
      {
        sendBatch: async ({ topicMessages }) => {
          throw fault(topicMessages!.length > 1 ? 'OPERATION_NOT_ATTEMPTED' : 'TOPIC_AUTHORIZATION_FAILED');
        },
      },
      { compression: kafkajs.CompressionTypes.None, label: 'kafka' },
    );
    await outbox.add(record(0));
    await outbox.add({ ...record(0), topic: { ...topic, name: 'u' } });
    await expect(outbox.settle()).rejects.toMatchObject({ type: 'TOPIC_AUTHORIZATION_FAILED' });
  });
});

describe("kafkajs' queue of requests", () => {
  it('sets no timer while nothing waits', () => {
    mendRequestQueue();
    const RequestQueue = createRequire(import.meta.url)('kafkajs/src/network/requestQueue/index.js');
    const queue = new RequestQueue({
      maxInFlightRequests: 1,
      requestTimeout: 1,
      enforceRequestTimeout: false,
      clientId: '',
      broker: '',
      logger: { debug: () => {} },
    });
    queue.checkPendingRequests();
    expect(queue.throttleCheckTimeoutId).toBe(null);
    queue.maybeThrottle(10_000);
    queue.checkPendingRequests();
    expect(queue.throttleCheckTimeoutId).not.toBe(null);
    queue.destroy();
  });
});
