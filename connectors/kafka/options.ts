import { z } from 'zod';
import { DURATION_PATTERN, SIZE_PATTERN } from '../../src/support/units.ts';

const BROKER = /^[^\s,:/]+:\d{1,5}$|^\[[0-9a-fA-F:]+\]:\d{1,5}$/;
const isBrokers = (text: string): boolean => text.split(',').every((broker) => BROKER.test(broker.trim()));
/** Half of what a topic's name may have is left to the tables. */
const topicName = (): z.ZodString =>
  z.string().regex(/^(?!\.{1,2}$)[A-Za-z0-9._-]{1,120}$/, { error: 'must be up to 120 letters, digits, `.`, `_` and `-`' });
const path = (description: string): z.ZodOptional<z.ZodString> => z.string().min(1).optional().describe(description);

const tls = z.strictObject({
  ca: path('PEM file with the authority that signed the certificates of the brokers. Default: those that Node knows.'),
  cert: path('PEM file with the certificate that waggle shows.'),
  key: path('PEM file with the key of this certificate.'),
});

const sasl = z.strictObject({
  mechanism: z.enum(['plain', 'scram-sha-256', 'scram-sha-512']),
  username: z.string().min(1),
  password: z.string().describe('Keep it out of the file: ${KAFKA_PASSWORD}.'),
});

const topics = z.strictObject({
  create: z.boolean().default(true).describe('Topics that are missing are created; false: a missing one stops the sink.'),
  partitions: z
    .int()
    .min(1)
    .max(10_000)
    .optional()
    .describe(
      'Partitions of the topics with rows. A topic that has another number stops the sink. Left out: 1 in new topics, those of others as they are.',
    ),
  replication: z.int().min(1).max(100).optional().describe("Copies of each partition. Left out: the cluster's default."),
  compact: z
    .boolean()
    .default(false)
    .describe('New topics with rows keep the last record of each key for ever instead of all records for a time (`cleanup.policy: compact`).'),
  config: z
    .record(z.string().min(1), z.union([z.string(), z.number(), z.boolean()]))
    .default({})
    .describe('Settings of new topics with rows, by their names in Kafka: `retention.ms`, `max.message.bytes` and so on.'),
});

/** Options of `type: kafka`. */
export const options = z
  .strictObject({
    brokers: z
      .union([
        z.array(z.string().refine(isBrokers, { error: 'must look like host:9092' })).min(1),
        z.string().refine(isBrokers, { error: 'must look like host:9092' }),
      ])
      .describe('Brokers to begin with, as `host:port`: a list, or a text with commas between them.'),
    prefix: topicName()
      .optional()
      .describe(
        "Topics are called `<prefix>.<table>`, waggle's own `<prefix>.transaction`, `<prefix>.schema` and `<prefix>.waggle-checkpoint`. Default: the hive's name.",
      ),
    topic: topicName().optional().describe('One topic for the rows of all tables, instead of one for each.'),
    partition: z
      .enum(['key', 'transaction'])
      .default('key')
      .describe('What stays together in a partition, in order: all changes of a row, or all changes of a transaction (which needs `topic`).'),
    compression: z
      .enum(['none', 'gzip', 'zstd'])
      .default('none')
      .describe('How records are compressed. zstd is the fastest; consumers must know it.'),
    schemas: z
      .boolean()
      .default(false)
      .describe("Each record carries Kafka Connect's `schema` beside its `payload` (about 3 kB more), for sinks of Kafka Connect that need one."),
    tombstones: z
      .boolean()
      .default(true)
      .describe('After the record of a deleted row comes one with its key and no value, by which compaction forgets the row.'),
    heartbeat: z
      .string()
      .regex(DURATION_PATTERN, { error: 'must be a duration like 50ms, 10s or 1h' })
      .optional()
      .describe('While nothing else is published, a record in `<prefix>.heartbeat` each time this has passed. Left out: none.'),
    max_message: z
      .string()
      .regex(SIZE_PATTERN, { error: 'must be a size like 100MB or 64KiB' })
      .optional()
      .describe("Size of the largest record; a larger row is refused. Default: what the topic's `max.message.bytes` says."),
    topics: topics.prefault({}).describe('What topics are like that waggle creates.'),
    tls: z.union([tls, z.boolean()]).default(false).describe('Encrypt the connections: true, or files.'),
    sasl: sasl.optional().describe('Name and password.'),
    client_id: z.string().min(1).max(200).default('waggle').describe('How waggle calls itself in logs and quotas of the brokers.'),
  })
  .refine(({ partition, topic }) => partition === 'key' || topic !== undefined, {
    path: ['partition'],
    error: '`transaction` needs one `topic` for all tables',
  })
  .refine(({ topics: { compact }, topic }) => !compact || topic === undefined, {
    path: ['topics', 'compact'],
    error: 'is for topics of one table: rows of two tables in one `topic` can have the same key',
  });

export type KafkaOptions = z.infer<typeof options>;

/** With the paths of its files made absolute. */
export const withPaths = (parsed: KafkaOptions, absolute: (path: string) => string): KafkaOptions => {
  if (typeof parsed.tls === 'boolean') return parsed;
  const files = Object.entries(parsed.tls).flatMap(([name, file]) => (file === undefined ? [] : [[name, absolute(file)]]));
  return { ...parsed, tls: Object.fromEntries(files) };
};

/** The list of brokers, whichever way it was written. */
export const brokerList = ({ brokers }: Pick<KafkaOptions, 'brokers'>): string[] =>
  (typeof brokers === 'string' ? [brokers] : brokers).flatMap((text) => text.split(',').map((broker) => broker.trim()));
