/**
 * The checkpoint in Kafka: a record of a compacted topic, written in the transaction of the batch that it stands for.
 *
 *     key    {"hive":"main","sink":"stream","publisher":"…"}
 *     value  {"format":1,"checkpoint":{"logId":…,"term":…,"seq":…,"txid":…,"fill":…}}
 *
 * Whoever opens the sink writes a record with a token of his own first, and reads until it comes back: `admin.fetchTopicOffsets` of kafkajs tells where what can
 * be read ends, and that is before somebody else's open transaction, not behind the last record.
 *
 *     key    {"hive":"main","sink":"stream","publisher":"…","opened":true}
 *     value  {"token":"…"}
 *
 * In a topic rather than in the offsets of a consumer group, which Kafka forgets after a quiet week (`offsets.retention.minutes`).
 */
import type { KafkaMessage } from 'kafkajs';
import { z } from 'zod';
import type { Checkpoint } from '../../src/change/change.ts';
import { checkpointSchema } from './publisher-file.ts';

export interface PublisherKey {
  readonly hive: string;
  readonly sink: string;
  readonly publisher: string;
}

const keySchema = z.strictObject({ hive: z.string(), sink: z.string(), publisher: z.string() });
const valueSchema = z.object({ format: z.literal(1), checkpoint: checkpointSchema });

export const checkpointKey = ({ hive, sink, publisher }: PublisherKey): string => JSON.stringify({ hive, sink, publisher });

export const checkpointValue = ({ logId, term, seq, txid, fill }: Checkpoint): Buffer =>
  Buffer.from(JSON.stringify({ format: 1, checkpoint: { logId, term, seq, txid, fill } }));

export const openedKey = ({ hive, sink, publisher }: PublisherKey): string => JSON.stringify({ hive, sink, publisher, opened: true });

export const openedValue = (token: string): Buffer => Buffer.from(JSON.stringify({ token }));

/** Null: not a checkpoint. */
export const parseCheckpoint = ({ key, value }: KafkaMessage): { readonly key: PublisherKey; readonly checkpoint: Checkpoint } | null => {
  const [known, content] = [keySchema.safeParse(parseJson(key)), valueSchema.safeParse(parseJson(value))];
  return known.success && content.success ? { key: known.data, checkpoint: content.data.checkpoint } : null;
};

const parseJson = (bytes: Buffer | null): unknown => {
  try {
    return JSON.parse(String(bytes));
  } catch {
    return null;
  }
};
