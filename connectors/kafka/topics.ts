/** The topics that are written to: makes what is missing, and knows of each how many partitions it has and what it takes. */
import { setTimeout as sleep } from 'node:timers/promises';
import kafkajs, { type Admin, type ITopicConfig } from 'kafkajs';
import type { Logger } from 'pino';
import { WaggleError } from '../../src/support/errors.ts';
import { parseSize } from '../../src/support/units.ts';
import { brokerErrorTypes } from './errors.ts';
import type { KafkaOptions } from './options.ts';

export interface Topic {
  readonly name: string;
  readonly partitions: number;
  /** Bytes of the largest batch of records that it takes. */
  readonly maxBytes: number;
  /** Its records need keys. */
  readonly compacted: boolean;
}

/** Kafka's own default of `max.message.bytes`. */
const DEFAULT_MAX_BYTES = 1_048_588;
/** Brokers cut a connection whose request has 100 MiB (`socket.request.max.bytes`). */
const REQUEST_BYTES = 100_000_000;

/** How long after its making a topic may be unknown to some of the brokers. */
const SPREAD_MS = 5000;
const ASK_AGAIN_MS = 20;

const COMPACTED = { 'cleanup.policy': 'compact' };

/**
 * `default`: as the cluster has it. `all`: every record, for ever. `last`: of each key, and soon: a segment that is still written to is never compacted, and with
 * Kafka's own 1 GB a day's checkpoints took longer to read than a start may last.
 */
const RETENTION = {
  default: {},
  all: { 'retention.ms': '-1', 'retention.bytes': '-1' },
  last: { ...COMPACTED, 'segment.bytes': '4194304', 'segment.ms': '600000', 'min.cleanable.dirty.ratio': '0.1' },
} as const;

export class Topics {
  readonly #admin: Admin;
  readonly #options: Pick<KafkaOptions, 'topics' | 'max_message'>;
  readonly #logger: Logger;
  readonly #known = new Map<string, Topic>();
  /** Names of topics with rows that have been there. */
  readonly #seen: Set<string>;

  /** `seen` is added to. */
  constructor(parts: { admin: Admin; options: Pick<KafkaOptions, 'topics' | 'max_message'>; logger: Logger; seen: Set<string> }) {
    this.#admin = parts.admin;
    this.#options = parts.options;
    this.#logger = parts.logger;
    this.#seen = parts.seen;
  }

  /** Null: not asked for yet. */
  known(name: string): Topic | null {
    return this.#known.get(name) ?? null;
  }

  /** A topic with rows. Throws SINK_TABLE_MISFIT where it is missing and may not be made, or has another number of partitions. */
  async rows(name: string): Promise<Topic> {
    const { partitions, compact, config } = this.#options.topics;
    const entries = Object.entries(config).map(([setting, value]): [string, string] => [setting, String(value)]);
    const { topic, created } = await this.#ensure(name, { ...(compact ? COMPACTED : {}), ...Object.fromEntries(entries) }, partitions ?? 1);
    if (partitions !== undefined && topic.partitions !== partitions)
      throw new WaggleError('SINK_TABLE_MISFIT', `the topic ${name} has ${topic.partitions} partitions, not ${partitions} as configured`, {
        hint: `Set \`topics.partitions\` to ${topic.partitions}, or let the topic have ${partitions}.`,
      });
    if (created && this.#seen.has(name))
      this.#logger.warn(
        { code: 'SINK_TABLE_MISFIT', topic: name, hint: 'Run `waggle resync` for this sink and table: its rows are published again.' },
        'the topic was deleted, with all that had been published to it; it was created again and begins here',
      );
    this.#seen.add(name);
    return topic;
  }

  /** One of waggle's own, of one partition. */
  own(name: string, retention: keyof typeof RETENTION): Promise<{ readonly topic: Topic; readonly created: boolean }> {
    return this.#ensure(name, RETENTION[retention], 1);
  }

  async #ensure(name: string, config: Readonly<Record<string, string>>, partitions: number): Promise<{ topic: Topic; created: boolean }> {
    const known = this.#known.get(name);
    if (known !== undefined) return { topic: known, created: false };
    const found = await this.#find(name);
    const created = found === null;
    if (created) await this.#create(name, config, partitions);
    const topic = { name, partitions: found ?? (await heardOf(() => this.#partitions(name))), ...(await heardOf(() => this.#limits(name))) };
    this.#known.set(name, topic);
    return { topic, created };
  }

  /** How many partitions it has; null: there is no such topic. */
  async #find(name: string): Promise<number | null> {
    try {
      return await this.#partitions(name);
    } catch (error) {
      if (isUnheardOf(error)) return null;
      throw error;
    }
  }

  async #partitions(name: string): Promise<number> {
    const { topics } = await this.#admin.fetchTopicMetadata({ topics: [name] });
    return topics[0]!.partitions.length;
  }

  async #create(name: string, config: Readonly<Record<string, string>>, partitions: number): Promise<void> {
    const { create, replication } = this.#options.topics;
    if (!create)
      throw new WaggleError('SINK_TABLE_MISFIT', `the topic ${name} does not exist, and waggle is not to create topics`, {
        hint: 'Create it, or set `topics: { create: true }`.',
      });
    const topic: ITopicConfig = {
      topic: name,
      numPartitions: partitions,
      replicationFactor: replication ?? -1,
      configEntries: Object.entries(config).map(([setting, value]) => ({ name: setting, value })),
    };
    // Its own waiting for leaders gives up at the first broker that has not heard of the topic.
    if (await this.#admin.createTopics({ topics: [topic], waitForLeaders: false })) this.#logger.info({ topic: name, partitions }, 'topic created');
  }

  /** Whoever may not ask gets Kafka's defaults. */
  async #limits(name: string): Promise<Pick<Topic, 'maxBytes' | 'compacted'>> {
    const { max_message: most, topics } = this.#options;
    const settings = new Map<string, string>();
    try {
      const { resources } = await this.#admin.describeConfigs({
        includeSynonyms: false,
        resources: [{ type: kafkajs.ConfigResourceTypes.TOPIC, name, configNames: ['max.message.bytes', 'cleanup.policy'] }],
      });
      for (const { configName, configValue } of resources[0]?.configEntries ?? []) settings.set(configName, configValue);
    } catch (error) {
      if (!brokerErrorTypes(error).includes('TOPIC_AUTHORIZATION_FAILED')) throw error;
    }
    const maxBytes = most === undefined ? Number(settings.get('max.message.bytes') ?? DEFAULT_MAX_BYTES) : parseSize(most);
    const policy = settings.get('cleanup.policy');
    return { maxBytes: Math.min(maxBytes, REQUEST_BYTES), compacted: policy === undefined ? topics.compact : policy.includes('compact') };
  }
}

/** Asks again while the broker that was asked has not heard of the topic. */
const heardOf = async <T>(ask: () => Promise<T>): Promise<T> => {
  for (let waitedMs = 0; ; waitedMs += ASK_AGAIN_MS) {
    try {
      return await ask();
    } catch (error) {
      if (waitedMs >= SPREAD_MS || !isUnheardOf(error)) throw error;
      await sleep(ASK_AGAIN_MS);
    }
  }
};

const isUnheardOf = (error: unknown): boolean => brokerErrorTypes(error).includes('UNKNOWN_TOPIC_OR_PARTITION');
