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
  return { sent, outbox: new Outbox({ sendBatch }, { compression: kafkajs.CompressionTypes.None, label: 'kafka', severalBrokers: false }) };
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
      { compression: kafkajs.CompressionTypes.None, label: 'kafka', severalBrokers: false },
    );
    await outbox.add(record(0));
    await outbox.add({ ...record(0), topic: { ...topic, name: 'u' } });
    await expect(outbox.settle()).rejects.toMatchObject({ type: 'TOPIC_AUTHORIZATION_FAILED' });
  });

  it('asks one broker a request where there are several, and is quiet when all have answered', async () => {
    const sent: number[] = [];
    const slow = Promise.withResolvers<RecordMetadata[]>();
    const outbox = new Outbox(
      {
        sendBatch: async ({ topicMessages }) => {
          const [{ partition = -1 } = {}, ...others] = topicMessages!.flatMap(({ messages }) => messages);
          expect(others).toEqual([]);
          sent.push(partition);
          if (partition === 0) throw new Error('refused');
          return slow.promise;
        },
      },
      { compression: kafkajs.CompressionTypes.None, label: 'kafka', severalBrokers: true },
    );
    await outbox.add(record(0));
    await outbox.add(record(1));
    const order: string[] = [];
    const settled = outbox.settle().catch(() => order.push('told'));
    await new Promise((resolve) => setImmediate(resolve));
    const quiet = outbox.quiet().then((answered) => order.push(`quiet ${answered}`));
    await new Promise((resolve) => setImmediate(resolve));
    expect([sent, order]).toEqual([[0, 1], []]);
    slow.resolve([{ topicName: 't', partition: 1, errorCode: 0 }]);
    await Promise.all([settled, quiet]);
    expect(order.sort()).toEqual(['quiet true', 'told']);
  });

  it('is not quiet where an answer did not come: what was sent may arrive yet', async () => {
    const lost = Object.assign(new Error('closed'), { name: 'KafkaJSConnectionClosedError' });
    const outbox = new Outbox(
      { sendBatch: () => Promise.reject(lost) },
      { compression: kafkajs.CompressionTypes.None, label: 'kafka', severalBrokers: true },
    );
    await outbox.add(record(0));
    await expect(outbox.settle()).rejects.toBe(lost);
    expect(await outbox.quiet()).toBe(false);
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
