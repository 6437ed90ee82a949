/** Produce requests, held against those of kafkajs, byte for byte. */
import { createRequire } from 'node:module';
import * as fc from 'fast-check';
import kafkajs from 'kafkajs';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { prepareKafkajs } from '../../connectors/kafka/client.ts';
import { crc32c } from '../../connectors/kafka/crc32c.ts';
import { encodeProduce, type ProduceArguments } from '../../connectors/kafka/produce-request.ts';

const require = createRequire(import.meta.url);
const requestOfKafkajs = require('kafkajs/src/protocol/requests/produce/v7/request.js') as (args: ProduceArguments) => {
  encode(): Promise<{ readonly buffer: Buffer }>;
};
const crcOfKafkajs = require('kafkajs/src/protocol/recordBatch/crc32C/index.js') as (bytes: Buffer) => number;

const bytes = (most: number): fc.Arbitrary<Buffer> => fc.uint8Array({ maxLength: most }).map((each) => Buffer.from(each));
const text = fc.string({ unit: 'grapheme' });
const message = fc.record(
  {
    key: fc.oneof(fc.constant(null), text, bytes(200)),
    value: fc.oneof(fc.constant(null), bytes(70), bytes(9000)),
    headers: fc.dictionary(fc.string({ unit: 'grapheme', minLength: 1 }), fc.oneof(text, bytes(100))),
  },
  { requiredKeys: ['key', 'value'] },
);
const partition = fc.record({
  partition: fc.nat(100),
  firstSequence: fc.nat(2 ** 31 - 1),
  messages: fc.array(message, { minLength: 1, maxLength: 150 }),
});
const produce: fc.Arbitrary<ProduceArguments> = fc.record({
  acks: fc.constantFrom(-1, 1),
  timeout: fc.nat(60_000),
  compression: fc.constantFrom(0, 0, kafkajs.CompressionTypes.GZIP, kafkajs.CompressionTypes.ZSTD),
  transactionalId: fc.oneof(fc.string({ minLength: 1 }), fc.constant(null), fc.constant(undefined)),
  producerId: fc.oneof(fc.constant(-1), fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }).map(String)),
  producerEpoch: fc.nat(32_767),
  topicData: fc.array(fc.record({ topic: text, partitions: fc.array(partition, { maxLength: 3 }) }), { maxLength: 3 }),
});

afterEach(() => void vi.useRealTimers());

describe('a Produce request', () => {
  it('is what kafkajs would have sent', async () => {
    prepareKafkajs();
    vi.useFakeTimers({ toFake: ['Date'], now: 1_700_000_000_123 });
    await fc.assert(
      fc.asyncProperty(produce, async (args) => {
        expect((await encodeProduce(args)).equals((await requestOfKafkajs(args).encode()).buffer)).toBe(true);
      }),
      { numRuns: 150 },
    );
  });

  it('has the checksum that kafkajs computes', () => {
    fc.assert(
      fc.property(bytes(300), fc.nat(20), (all, begin) => {
        expect(crc32c(all, Math.min(begin, all.length), all.length)).toBe(crcOfKafkajs(all.subarray(begin)));
      }),
    );
    expect(crc32c(Buffer.from('123456789'), 0, 9)).toBe(0xe3069283);
  });
});
