/**
 * The body of a Produce request, versions 3 to 7 (https://kafka.apache.org/protocol#The_Messages_Produce, record batches:
 * https://kafka.apache.org/documentation/#recordbatch), each batch of records written once into one buffer. kafkajs makes six buffers a record, which
 * was more than half of the time of publishing it.
 *
 *     request   transactional id (nullable string) | acks i16 | timeout i32 | topics
 *     topic     name | partitions: partition i32, bytes i32, batch
 *     batch     first offset i64 | length i32 | leader epoch i32 | magic i8 = 2 | CRC-32C u32 of all behind it
 *               attributes i16 | last offset delta i32 | first, last timestamp i64 | producer id i64 | epoch i16 | sequence i32 | count i32 | records
 *     record    length | attributes i8 | timestamp delta | offset delta | key | value | headers    lengths and deltas: zigzag varints
 */
import { createRequire } from 'node:module';
import type { Message } from 'kafkajs';
import { crc32c } from './crc32c.ts';

/** As kafkajs hands it to a broker. */
export interface ProduceArguments {
  readonly acks: number;
  readonly timeout: number;
  readonly compression: number;
  readonly transactionalId?: string | null | undefined;
  /** A number, or its digits. */
  readonly producerId: number | string;
  readonly producerEpoch: number;
  readonly topicData: readonly {
    readonly topic: string;
    readonly partitions: readonly { readonly partition: number; readonly firstSequence: number; readonly messages: readonly Message[] }[];
  }[];
}

interface Codec {
  compress(input: { readonly buffer: Buffer }): Promise<Buffer>;
}

const { lookupCodec } = createRequire(import.meta.url)('kafkajs/src/protocol/message/compression/index.js') as { lookupCodec(type: number): Codec };

const BATCH_HEADER = 61;
/** The CRC is of all behind itself. */
const CRC_AT = 17;
const LENGTH_BEGINS = 12;
const MAGIC = 2;
const TRANSACTIONAL = 16;

export const encodeProduce = async (args: ProduceArguments): Promise<Buffer> => {
  const { acks, timeout, transactionalId = null, topicData } = args;
  const chunks: Buffer[] = [nullableString(transactionalId), int16(acks), int32(timeout), int32(topicData.length)];
  for (const { topic, partitions } of topicData) {
    chunks.push(nullableString(topic), int32(partitions.length));
    for (const { partition, firstSequence, messages } of partitions) {
      const batch = await encodeBatch(messages, { ...args, firstSequence });
      chunks.push(int32(partition), int32(batch.length), batch);
    }
  }
  return Buffer.concat(chunks);
};

const encodeBatch = async (
  messages: readonly Message[],
  { compression, transactionalId, producerId, producerEpoch, firstSequence }: ProduceArguments & { readonly firstSequence: number },
): Promise<Buffer> => {
  const now = BigInt(Date.now());
  let batch: Buffer;
  if (compression === 0) {
    batch = encodeRecords(messages, BATCH_HEADER);
  } else {
    const packed = await lookupCodec(compression).compress({ buffer: encodeRecords(messages, 0) });
    batch = Buffer.allocUnsafe(BATCH_HEADER + packed.length);
    packed.copy(batch, BATCH_HEADER);
  }
  batch.writeBigInt64BE(0n, 0);
  batch.writeInt32BE(batch.length - LENGTH_BEGINS, 8);
  batch.writeInt32BE(0, 12);
  batch.writeInt8(MAGIC, 16);
  batch.writeInt16BE(compression | (typeof transactionalId === 'string' ? TRANSACTIONAL : 0), 21);
  batch.writeInt32BE(messages.length - 1, 23);
  batch.writeBigInt64BE(now, 27);
  batch.writeBigInt64BE(now, 35);
  batch.writeBigInt64BE(BigInt(producerId), 43);
  batch.writeInt16BE(producerEpoch, 51);
  batch.writeInt32BE(firstSequence, 53);
  batch.writeInt32BE(messages.length, 57);
  batch.writeUInt32BE(crc32c(batch, CRC_AT + 4, batch.length), CRC_AT);
  return batch;
};

/** All of them, behind `before` free bytes. They carry no timestamp of their own. */
const encodeRecords = (messages: readonly Message[], before: number): Buffer => {
  const sizes = messages.map(sizeOfBody);
  const bytes = Buffer.allocUnsafe(sizes.reduce((sum, size) => sum + varintSize(size) + size, before));
  let at = before;
  for (const [delta, { key, value, headers = {} }] of messages.entries()) {
    at = writeVarint(bytes, at, sizes[delta]!);
    bytes[at] = 0;
    bytes[at + 1] = 0;
    at = writeVarint(bytes, at + 2, delta);
    at = writeBytes(bytes, at, key ?? null);
    at = writeBytes(bytes, at, value);
    const names = Object.keys(headers);
    at = writeVarint(bytes, at, names.length);
    for (const name of names) {
      at = writeBytes(bytes, at, name);
      at = writeBytes(bytes, at, headerOf(headers, name));
    }
  }
  return bytes;
};

const sizeOfBody = ({ key, value, headers = {} }: Message, delta: number): number => {
  const names = Object.keys(headers);
  let size = 2 + varintSize(delta) + sizeOfBytes(key ?? null) + sizeOfBytes(value) + varintSize(names.length);
  for (const name of names) size += sizeOfBytes(name) + sizeOfBytes(headerOf(headers, name));
  return size;
};

/** Waggle's headers have one value each. */
const headerOf = (headers: NonNullable<Message['headers']>, name: string): Buffer | string => headers[name] as Buffer | string;

const lengthOf = (value: Buffer | string): number => (typeof value === 'string' ? Buffer.byteLength(value) : value.length);

const sizeOfBytes = (value: Buffer | string | null): number => {
  if (value === null) return 1;
  const length = lengthOf(value);
  return varintSize(length) + length;
};

const writeBytes = (bytes: Buffer, at: number, value: Buffer | string | null): number => {
  if (value === null) return writeVarint(bytes, at, -1);
  if (typeof value !== 'string') {
    const begin = writeVarint(bytes, at, value.length);
    bytes.set(value, begin);
    return begin + value.length;
  }
  const length = Buffer.byteLength(value);
  const begin = writeVarint(bytes, at, length);
  // Headers are short, and a call out of JavaScript takes longer than this.
  if (length === value.length) for (let index = 0; index < length; index += 1) bytes[begin + index] = value.charCodeAt(index);
  else bytes.write(value, begin);
  return begin + length;
};

const zigzag = (value: number): number => (value << 1) ^ (value >> 31);

const varintSize = (value: number): number => {
  let left = zigzag(value) >>> 7;
  let size = 1;
  for (; left !== 0; left >>>= 7) size += 1;
  return size;
};

const writeVarint = (bytes: Buffer, at: number, value: number): number => {
  let left = zigzag(value) >>> 0;
  let place = at;
  for (; left > 0x7f; left >>>= 7) {
    bytes[place] = (left & 0x7f) | 0x80;
    place += 1;
  }
  bytes[place] = left;
  return place + 1;
};

const int16 = (value: number): Buffer => {
  const bytes = Buffer.allocUnsafe(2);
  bytes.writeInt16BE(value);
  return bytes;
};

const int32 = (value: number): Buffer => {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeInt32BE(value);
  return bytes;
};

const nullableString = (value: string | null): Buffer =>
  value === null ? int16(-1) : Buffer.concat([int16(Buffer.byteLength(value)), Buffer.from(value)]);
