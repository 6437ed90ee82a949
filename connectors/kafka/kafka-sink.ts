/**
 * Changes as records of Kafka: each batch with its checkpoint in one Kafka transaction.
 *
 * Guarantees: after a kill of waggle or of brokers at any instant, a consumer that reads what is committed (`read_committed`) finds every change once, in
 * order by key, and no part of a batch. The checkpoint stands in Kafka beside the records, in the same transaction. The transactional id holds the publisher's
 * own id: a daemon on a copy of the state directory takes over, and the older one stops with SINK_FENCED.
 *
 * Order of `open`: connect, write a token in a transaction, read the checkpoints up to this token. The first transaction of a producer fences, and only behind that the last transaction of the one
 * before has surely ended: a commit resolves before what it wrote can be read. After any error of a commit nobody knows how it ended: the next `open` finds out.
 */
import { randomUUID } from 'node:crypto';
import kafkajs, { type Admin, type CompressionTypes, type Kafka, type Producer, type Transaction } from 'kafkajs';
import type { Checkpoint } from '../../src/change/change.ts';
import { EnvelopeEncoder } from '../../src/change/envelope.ts';
import type { Batch, Sink, SinkContext } from '../../src/pipeline/sink.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { parseDuration } from '../../src/support/units.ts';
import { VERSION } from '../../src/support/version.ts';
import { checkpointKey, checkpointValue, openedKey, openedValue, parseCheckpoint } from './checkpoint-record.ts';
import { COMPRESSION, makeClient } from './client.ts';
import { connectFormat } from './connect-format.ts';
import { toSinkError, withLogged } from './errors.ts';
import { plainFormat } from './formats.ts';
import { brokerList, type KafkaOptions } from './options.ts';
import { Outbox, type Outgoing } from './outbox.ts';
import { Publication, type PublicationParts } from './publication.ts';
import { PublisherFile } from './publisher-file.ts';
import { readToEnd, type Reading } from './reader.ts';
import { TableVersions } from './table-versions.ts';
import { prefixOf, TopicNames } from './topic-names.ts';
import { type Topic, Topics } from './topics.ts';

/** A large transaction of the hive must be through by then; the open one of a daemon that was killed and does not come back holds consumers up for so long. */
const TRANSACTION_TIMEOUT_MS = 300_000;
/** Some seconds in all. The first try again comes soon: right behind a commit the coordinator is not ready for the next transaction for some milliseconds. */
const SEND_RETRY = { initialRetryTime: 4, maxRetryTime: 500, retries: 12 };
/** How long the brokers are waited for with what is only good manners. */
const FAREWELL_MS = 2000;

interface Live {
  readonly context: SinkContext;
  readonly admin: Admin;
  readonly producer: Producer;
  readonly file: PublisherFile;
  readonly severalBrokers: boolean;
  readonly checkpoints: Topic;
  readonly heartbeats: Topic | null;
  readonly publication: PublicationParts;
  checkpoint: Checkpoint | null;
  /** A heartbeat under way. Never rejects. */
  beating: Promise<void>;
  heart: NodeJS.Timeout | null;
  /** What a heartbeat failed with: the next batch tells. */
  broken: WaggleError | null;
}

export class KafkaSink implements Sink {
  readonly wants = 'changes';
  readonly #options: KafkaOptions;
  readonly #label: string;
  readonly #compression: CompressionTypes;
  #live: Live | null = null;

  constructor(options: KafkaOptions) {
    this.#options = options;
    this.#label = `kafka ${brokerList(options).join(',')}`;
    this.#compression = COMPRESSION[options.compression];
  }

  async open(context: SinkContext): Promise<Checkpoint | null> {
    await this.close();
    let logged: string | null = null;
    const kafka = makeClient(this.#options, { logger: context.logger, onLogged: (type) => (logged = type) });
    const file = await PublisherFile.open(context.stateDir);
    const prefix = this.#options.prefix ?? prefixOf(context.hive);
    const producer = this.#makeProducer(kafka, `${prefix}.waggle-publisher.${context.hive}.${context.name}.${file.id}`);
    const admin = kafka.admin();
    const giveUp = (): void => void disconnect(producer, admin);
    context.signal.addEventListener('abort', giveUp, { once: true });
    try {
      kafka.logger().setLogLevel(kafkajs.logLevel.DEBUG);
      await Promise.all([producer.connect(), admin.connect()]);
      const live = await this.#prepare({ context, admin, producer, file }, { kafka, prefix });
      this.#live = live;
      this.#armHeart(live);
      return live.checkpoint;
    } catch (error) {
      await disconnect(producer, admin);
      throw toSinkError(withLogged(error, logged), this.#label);
    } finally {
      kafka.logger().setLogLevel(kafkajs.logLevel.INFO);
      context.signal.removeEventListener('abort', giveUp);
    }
  }

  async apply(batch: Batch): Promise<void> {
    const live = this.#live;
    if (live === null) throw new WaggleError('SINK_UNREACHABLE', `${this.#label}: not open`);
    stopHeart(live);
    await live.beating;
    if (live.broken !== null) throw live.broken;
    await this.#transact(live, async (outbox) => {
      const publication = new Publication(live.publication);
      // First, so that its partition is made known to the coordinator together with the others: in a transaction the order over topics means nothing.
      await addAll(outbox, [this.#checkpointRecord(live, batch.checkpoint)]);
      for await (const part of batch.parts()) {
        for (const change of part) {
          if (change.op !== 's' && !publication.knows(change)) await publication.meet(change);
          await addAll(outbox, publication.records(change));
        }
      }
      await addAll(outbox, publication.finish());
    });
    live.checkpoint = batch.checkpoint;
    await live.file.acknowledge(batch.checkpoint);
    this.#armHeart(live);
  }

  async close(): Promise<void> {
    const live = this.#live;
    this.#live = null;
    if (live === null) return;
    stopHeart(live);
    await live.beating;
    await live.file.save();
    await disconnect(live.producer, live.admin);
  }

  #makeProducer(kafka: Kafka, transactionalId: string): Producer {
    return kafka.producer({
      transactionalId,
      transactionTimeout: TRANSACTION_TIMEOUT_MS,
      maxInFlightRequests: 1,
      retry: SEND_RETRY,
      allowAutoTopicCreation: false,
      // Every record names its partition.
      createPartitioner:
        () =>
        ({ message }) =>
          message.partition!,
    });
  }

  async #prepare(parts: Pick<Live, 'context' | 'admin' | 'producer' | 'file'>, { kafka, prefix }: { kafka: Kafka; prefix: string }): Promise<Live> {
    const { context, admin, file } = parts;
    const { topic, schemas, heartbeat, partition, tombstones } = this.#options;
    const { hive, name: sink, logger } = context;
    const names = new TopicNames(prefix, topic ?? null);
    const topics = new Topics({ admin, options: this.#options, logger, seen: file.topics });
    const checkpoints = await topics.own(names.checkpoint, 'last');
    if (checkpoints.created && file.checkpoint !== null) throw this.#lost(names.checkpoint, file.checkpoint);
    const transactions = await topics.own(names.transaction, 'default');
    const schemaTopic = await topics.own(names.schema, 'all');
    const heartbeats = heartbeat === undefined ? null : await topics.own(names.heartbeat, 'default');
    const encoder = new EnvelopeEncoder({ hive, version: VERSION });
    const versions = new TableVersions();
    const found: { own: Checkpoint | null; other: Checkpoint | null } = { own: null, other: null };
    const { brokers } = await admin.describeCluster();
    const severalBrokers = brokers.length > 1;
    const marked = await this.#mark({ ...parts, severalBrokers }, checkpoints.topic);
    await readToEnd({ kafka, admin, topic: names.schema, marked, group: names.checkpoint, label: this.#label }, (place, message) => {
      if (place === names.schema) {
        const { schema: version, table } = message.headers ?? {};
        if (version !== undefined && table !== undefined && isOfHive(message.key, hive)) versions.tell(String(table), String(version));
        return;
      }
      const record = parseCheckpoint(message);
      if (record === null || record.key.hive !== hive || record.key.sink !== sink) return;
      found[record.key.publisher === file.id ? 'own' : 'other'] = record.checkpoint;
    });
    if (found.own === null && file.checkpoint !== null) throw this.#lost(names.checkpoint, file.checkpoint);
    if (found.own !== null && file.checkpoint !== null && found.own.seq < file.checkpoint.seq && found.own.logId === file.checkpoint.logId)
      logger.warn(
        { acknowledged: file.checkpoint.seq, found: found.own.seq },
        'Kafka has lost records that it had acknowledged; publishing them again',
      );
    return {
      ...parts,
      severalBrokers,
      checkpoints: checkpoints.topic,
      heartbeats: heartbeats?.topic ?? null,
      publication: {
        hive,
        encoder,
        format: schemas ? connectFormat(encoder, { prefix, label: this.#label }) : plainFormat(encoder),
        names,
        topics,
        partition,
        tombstones,
        transactions: transactions.topic,
        schemas: schemaTopic.topic,
        versions,
      },
      // Of a publisher with another state directory: where the log is another one too, the runner empties the tables before it fills them.
      checkpoint: found.own ?? found.other,
      beating: Promise.resolve(),
      heart: null,
      broken: null,
    };
  }

  /** Writes a token of our own behind all checkpoints that there are. */
  async #mark(live: Pick<Live, 'producer' | 'context' | 'file' | 'severalBrokers'>, topic: Topic): Promise<Reading['marked']> {
    const { context, file } = live;
    const token = openedValue(randomUUID());
    const key = openedKey({ hive: context.hive, sink: context.name, publisher: file.id });
    await this.#transact(live, (outbox) => addAll(outbox, [{ topic, partition: 0, key, value: token, headers: {}, change: null }]));
    return { topic: topic.name, isLast: ({ value }) => value?.equals(token) ?? false };
  }

  /** One Kafka transaction. Whatever fails, nothing of it is to be seen; and nobody knows whether it was the commit's answer that was lost. */
  async #transact({ producer, severalBrokers }: Pick<Live, 'producer' | 'severalBrokers'>, fill: (outbox: Outbox) => Promise<void>): Promise<void> {
    const beganMs = Date.now();
    let undo: (() => Promise<void>) | null = null;
    try {
      const transaction = await producer.transaction();
      const outbox = new Outbox(transaction, { compression: this.#compression, label: this.#label, severalBrokers });
      undo = () => takeBack(transaction, outbox);
      await fill(outbox);
      await outbox.settle();
      await transaction.commit();
    } catch (error) {
      if (undo !== null) await inTime(undo());
      const failure = toSinkError(error, this.#label);
      if (failure.code === 'SINK_FENCED' && Date.now() - beganMs >= TRANSACTION_TIMEOUT_MS)
        throw new WaggleError(
          'SINK_BUSY',
          `${this.#label}: the batch took longer than a transaction may (${TRANSACTION_TIMEOUT_MS / 60_000} minutes)`,
          {
            cause: error,
          },
        );
      throw failure;
    }
  }

  #checkpointRecord({ context, file, checkpoints }: Live, checkpoint: Checkpoint): Outgoing {
    const key = checkpointKey({ hive: context.hive, sink: context.name, publisher: file.id });
    return { topic: checkpoints, partition: 0, key, value: checkpointValue(checkpoint), headers: {}, change: null };
  }

  #armHeart(live: Live): void {
    const { heartbeat } = this.#options;
    if (heartbeat === undefined || live.heartbeats === null) return;
    const topic = live.heartbeats;
    live.heart = setTimeout(() => {
      live.beating = this.#beat(live, topic);
    }, parseDuration(heartbeat));
  }

  async #beat(live: Live, topic: Topic): Promise<void> {
    const { hive } = live.context;
    const { seq = null, txid = null } = live.checkpoint ?? {};
    const value = Buffer.from(JSON.stringify({ hive, seq, txid, ts_ms: Date.now() }));
    const record = { topic, partition: 0, key: JSON.stringify({ hive }), value, headers: {}, change: null };
    try {
      await this.#transact(live, (outbox) => addAll(outbox, [record]));
      if (this.#live === live) this.#armHeart(live);
    } catch (error) {
      live.broken = toSinkError(error, this.#label);
    }
  }

  #lost(topic: string, { seq }: Checkpoint): WaggleError {
    return new WaggleError('SINK_CHECKPOINT_LOST', `${this.#label}, topic ${topic}: the checkpoint is gone; Kafka had acknowledged seq ${seq}`, {
      hint: "Find out who deleted it: other topics may lack records, too. To publish all rows again, delete `publisher.json` in the sink's state directory and start waggle again.",
    });
  }
}

const addAll = async (outbox: Outbox, records: Iterable<Outgoing>): Promise<void> => {
  for (const record of records) {
    const wait = outbox.add(record);
    if (wait !== null) await wait;
  }
};

const stopHeart = (live: Live): void => {
  if (live.heart !== null) clearTimeout(live.heart);
  live.heart = null;
};

/**
 * So that consumers need not wait until it times out. The next `open` ends it in any case, and better: with an epoch of its own, by which partitions refuse what
 * comes late. Behind an end under the same epoch a late record would be a part of the next transaction.
 */
const takeBack = async (transaction: Transaction, outbox: Outbox): Promise<void> => {
  if ((await outbox.quiet()) && transaction.isActive()) await transaction.abort();
};

const disconnect = async (producer: Producer, admin: Admin): Promise<void> => {
  await inTime(Promise.all([producer.disconnect(), admin.disconnect()]));
};

/** Never rejects, and never waits for long. */
const inTime = async (work: Promise<unknown>): Promise<void> => {
  const over = Promise.withResolvers<void>();
  const timer = setTimeout(over.resolve, FAREWELL_MS);
  await Promise.race([work.catch(() => {}), over.promise]);
  clearTimeout(timer);
};

const isOfHive = (key: Buffer | null, hive: string): boolean => {
  try {
    return (JSON.parse(String(key)) as { hive?: unknown } | null)?.hive === hive;
  } catch {
    return false;
  }
};
