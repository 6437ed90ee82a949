/**
 * A member of a consumer group that feeds a target: Kafka gives it partitions, and takes them away again when members come and go. The offsets that count stand in
 * the target; those of the group are for whoever looks at its lag.
 *
 * Guarantees: each record is applied once, in order by partition, also over rebalances and kills, where the target keeps its checkpoint in the transaction of the
 * data. The first thing that is done with a partition is to open its lane and go to the offset that the target tells.
 */
import type { Admin, Consumer, EachBatchPayload, Kafka } from 'kafkajs';
import type { Logger } from 'pino';
import type { Sink, SinkContext } from '../../pipeline/sink.ts';
import { backoffDelayMs } from '../../support/backoff.ts';
import { type Clock, systemClock } from '../../support/clock.ts';
import { WaggleError } from '../../support/errors.ts';
import { DeadLetterTopic } from './dead-letter-topic.ts';
import { type Held, Lane, type PartitionOf } from './lane.ts';
import { TableForms } from './table-forms.ts';
import { deadLetterTopicOf, groupOf, type Publisher, topicsOf } from './topics-of.ts';

export interface MemberOptions extends Publisher {
  readonly kafka: Kafka;
  /** What stays together in a partition. */
  readonly partition: 'key' | 'transaction';
  readonly partitionOf: PartitionOf;
  /** Whether what the target refuses becomes a dead letter; else it ends the member. */
  readonly keepRefused: boolean;
  /** The sink's name. */
  readonly name: string;
  readonly createSink: () => Sink;
  readonly context: Pick<SinkContext, 'hive' | 'logger' | 'signal' | 'stateDir'>;
  /** kafkajs' errors as those of the closed list. */
  readonly toError: (error: unknown) => WaggleError;
  readonly clock?: Clock;
}

const SESSION_TIMEOUT_MS = 10_000;
const HEARTBEAT_MS = 1000;
const DOUBTS = 3;
/** How often topics are looked at for new ones, and for more partitions. */
const LOOK_EVERY_MS = 30_000;
const BELIEVED_AFTER_MS = 5000;
const ASK_AGAIN_MS = 200;
/** Kafka takes 4096 bytes (`offset.metadata.max.bytes`). */
const TOLD_LENGTH = 1000;
/** The more comes at once of one partition, the fewer commits of the target. */
const FETCH = { maxWaitTimeInMs: 500, maxBytesPerPartition: 4 * 1024 * 1024, maxBytes: 4 * 1024 * 1024 };

/** How long partitions are consumed. */
interface Until {
  readonly signal: AbortSignal;
  /** Rejects with what makes it impossible to go on. */
  readonly failed: Promise<never>;
  /** Whether the topics are others now. */
  readonly stale: () => Promise<boolean>;
}

export class KafkaMember {
  readonly #options: MemberOptions;
  readonly #clock: Clock;
  readonly #logger: Logger;
  /** Of the partitions that are ours, by topic and partition. */
  readonly #lanes = new Map<string, Lane>();
  #topics = new Map<string, number>();
  #clusterId = '';
  #admin: Admin | null = null;
  #letters: DeadLetterTopic | null = null;
  /**
   * The lane whose batch stays open until more of it was fetched; null: none. The others wait for it, because it may hold what they need in the target, and
   * they are what it would wait for.
   */
  #alone: string | null = null;
  /** Each lets a partition go on that waits for that lane. */
  readonly #waiting = new Set<() => void>();
  /** The group has given out its partitions so many times. */
  #generation = 0;
  #failures = 0;
  /** Errors in a row that do not pass by themselves, by topic and partition. */
  readonly #doubts = new Map<string, number>();

  constructor(options: MemberOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#logger = options.context.logger;
  }

  /** Until the signal is aborted. Rejects with what does not pass by itself. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#session(signal);
      } catch (error) {
        if (!signal.aborted) await this.#pauseBehind(this.#options.toError(error));
      }
    }
  }

  /** From connecting to the first error of Kafka. */
  async #session(signal: AbortSignal): Promise<void> {
    const { kafka, prefix, name } = this.#options;
    const admin = kafka.admin();
    let changed = new AbortController();
    const formsFailed = Promise.withResolvers<never>();
    // It may fail when nobody waits for it any more.
    formsFailed.promise.catch(() => {});
    const group = groupOf(this.#options, name);
    const forms = new TableForms(kafka, {
      topic: `${prefix}.schema`,
      group: `${group}.schema`,
      onForm: () => changed.abort(),
      onFailed: formsFailed.reject,
    });
    const letters = this.#options.keepRefused ? new DeadLetterTopic(kafka, { topic: deadLetterTopicOf(this.#options), sink: name, admin }) : null;
    this.#letters = letters;
    try {
      await admin.connect();
      this.#admin = admin;
      this.#clusterId = (await admin.describeCluster()).clusterId;
      await forms.open();
      while (!signal.aborted) {
        changed = new AbortController();
        let lookedAtMs = this.#clock.now();
        this.#topics = await this.#findTopics(admin);
        await this.#consume(
          kafka.consumer({ groupId: group, sessionTimeout: SESSION_TIMEOUT_MS, heartbeatInterval: HEARTBEAT_MS, ...FETCH }),
          forms,
          {
            signal,
            failed: formsFailed.promise,
            // A new table may be in a new topic; and what a `t` speaks of depends on how many partitions there are.
            stale: async () => {
              const now = this.#clock.now();
              if (!changed.signal.aborted && now - lookedAtMs < LOOK_EVERY_MS) return false;
              lookedAtMs = now;
              changed = new AbortController();
              const found = await this.#findTopics(admin);
              return [...found].some(([topic, partitions]) => this.#topics.get(topic) !== partitions);
            },
          },
        );
      }
    } finally {
      await Promise.allSettled([forms[Symbol.asyncDispose](), letters?.[Symbol.asyncDispose](), admin.disconnect()]);
    }
  }

  async #consume(consumer: Consumer, forms: TableForms, until: Until): Promise<void> {
    const over = Promise.withResolvers<void>();
    over.promise.catch(() => {});
    const ending = new AbortController();
    const ended = AbortSignal.any([until.signal, ending.signal]);
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
      this.#generation += 1;
      this.#logger.info({ partitions: payload.memberAssignment }, 'these partitions are ours');
    });
    consumer.on(consumer.events.REBALANCING, () => void this.#closeLanes());
    consumer.on(consumer.events.CRASH, ({ payload }) => {
      if (!payload.restart) over.reject(payload.error);
      else this.#logger.warn({ reason: payload.error.message }, 'Kafka does not answer as it should; trying again');
    });
    try {
      if (this.#topics.size > 0) {
        await consumer.connect();
        await consumer.subscribe({ topics: [...this.#topics.keys()], fromBeginning: true });
        await consumer.run({
          autoCommit: false,
          eachBatchAutoResolve: false,
          eachBatch: async (payload) => {
            // kafkajs may hand out what it has fetched until it is disconnected: a lane opened then would never be closed.
            if (ending.signal.aborted) return;
            try {
              await this.#take(payload, consumer, forms);
            } catch (error) {
              // What kafkajs itself throws at a member that is none any more is its own to handle.
              if (!(error instanceof WaggleError)) throw error;
              ending.abort();
              over.reject(error);
            }
          },
        });
      }
      const watching = (async () => {
        while (!ended.aborted && !(await until.stale())) await this.#clock.sleep(500, ended);
      })();
      // It may fail when nobody waits for it any more.
      watching.catch(() => {});
      await Promise.race([watching, over.promise, until.failed]);
    } finally {
      ending.abort();
      // A lane that is being opened is closed again.
      this.#generation += 1;
      await consumer.disconnect().catch(() => {});
      await this.#closeLanes();
    }
  }

  async #take(
    { batch, resolveOffset, heartbeat, isStale, isRunning, pause }: EachBatchPayload,
    consumer: Consumer,
    forms: TableForms,
  ): Promise<void> {
    const { topic, partition } = batch;
    const place = `${topic}#${partition}`;
    if (this.#alone !== null && this.#alone !== place) return void this.#waiting.add(pause());
    const generation = this.#generation;
    const lane = this.#lanes.get(place);
    if (lane === undefined) {
      const opened = await this.#openLane(topic, partition, forms);
      if (generation !== this.#generation || isStale()) return await opened[Symbol.asyncDispose]();
      this.#lanes.set(place, opened);
      consumer.seek({ topic, partition, offset: String(opened.next) });
      return undefined;
    }
    if (isStale() || !isRunning()) return undefined;
    if (BigInt(batch.lastOffset()) < lane.position && batch.messages.length > 0) {
      // kafkajs went back to where the topic begins, because it does not reach so far any more. Opened again, the lane finds that out.
      this.#lanes.delete(place);
      await lane[Symbol.asyncDispose]();
      this.#letAlone(null);
      return undefined;
    }
    const beating = setInterval(() => void heartbeat().catch(() => {}), HEARTBEAT_MS);
    try {
      const lastOffset = BigInt(batch.lastOffset());
      const { next } = lane;
      const fetched = { messages: batch.messages, lastOffset, atEnd: lastOffset + 1n >= BigInt(batch.highWatermark) };
      await lane.apply(fetched, { sift: (this.#doubts.get(place) ?? 0) >= DOUBTS - 1 });
      resolveOffset(String(lane.position - 1n));
      this.#letAlone(lane.isOpen ? place : null);
      if (lane.next === next) return undefined;
      this.#failures = 0;
      this.#doubts.delete(place);
      await consumer.commitOffsets([{ topic, partition, offset: String(lane.next) }]);
    } catch (error) {
      if (!(error instanceof WaggleError)) throw error;
      this.#lanes.delete(place);
      await lane[Symbol.asyncDispose]();
      this.#letAlone(null);
      // Somebody else was given the partition; the group tells us, too. If it is still ours, the next batch opens it again.
      if (error.code === 'SINK_FENCED') return await heartbeat();
      // For whoever looks: the offset stays, and says why.
      const metadata = `${error.code} ${error.message}`.slice(0, TOLD_LENGTH);
      await consumer.commitOffsets([{ topic, partition, offset: String(lane.next), metadata }]).catch(() => {});
      await this.#pauseBehind(this.#doubt(place, error));
    } finally {
      clearInterval(beating);
    }
    return undefined;
  }

  async #openLane(topic: string, partition: number, forms: TableForms): Promise<Lane> {
    const { createSink, context, name, partitionOf } = this.#options;
    for (;;) {
      try {
        const lane = await Lane.open({
          sink: createSink(),
          context: { ...context, name: `${name}#${topic}#${partition}`, stateDir: `${context.stateDir}/${topic}#${partition}` },
          topic,
          partition,
          partitions: this.#topics.get(topic) ?? 1,
          partitionOf,
          logId: `${this.#clusterId} ${topic}`,
          forms,
          letters: this.#letters,
        });
        try {
          lane.beginWithin(await this.#held(topic, partition, lane.next));
          return lane;
        } catch (error) {
          await lane[Symbol.asyncDispose]();
          throw error;
        }
      } catch (error) {
        if (!(error instanceof WaggleError)) throw error;
        await this.#pauseBehind(error);
      }
    }
  }

  /** What the partition holds. Behind a change of its leader the end may for a moment be told too early. */
  async #held(topic: string, partition: number, next: bigint): Promise<Held> {
    const { signal } = this.#options.context;
    const untilMs = this.#clock.now() + BELIEVED_AFTER_MS;
    for (;;) {
      const offsets = await this.#admin!.fetchTopicOffsets(topic);
      const found = offsets.find((each) => each.partition === partition);
      const held = found === undefined ? null : { low: BigInt(found.low), high: BigInt(found.high) };
      if (held !== null && (next <= held.high || this.#clock.now() >= untilMs)) return held;
      if (signal.aborted || this.#clock.now() >= untilMs)
        throw new WaggleError('SINK_BUSY', `topic ${topic}: nobody tells where its partition ${partition} ends`);
      await this.#clock.sleep(ASK_AGAIN_MS, signal);
    }
  }

  /** Two members that make the same table at the same time trip each other up: such an error is believed at the third time. */
  #doubt(place: string, error: WaggleError): WaggleError {
    const doubts = (this.#doubts.get(place) ?? 0) + 1;
    this.#doubts.set(place, doubts);
    return error.retryable || doubts >= DOUBTS ? error : new WaggleError('SINK_BUSY', error.message, { cause: error, hint: error.hint });
  }

  /** Throws what does not pass. */
  async #pauseBehind(error: WaggleError): Promise<void> {
    const { signal } = this.#options.context;
    if (!error.retryable || signal.aborted) throw error;
    this.#failures += 1;
    const delayMs = Math.max(backoffDelayMs(this.#failures, this.#clock.random()), error.retryAfterMs);
    this.#logger.warn(
      { code: error.code, hint: error.hint, delayMs, failures: this.#failures, reason: error.message },
      'the sink failed; trying again',
    );
    await this.#clock.sleep(delayMs, signal);
  }

  async #closeLanes(): Promise<void> {
    const lanes = [...this.#lanes.values()];
    this.#lanes.clear();
    for (const lane of lanes) await lane[Symbol.asyncDispose]();
    this.#letAlone(null);
  }

  #letAlone(place: string | null): void {
    this.#alone = place;
    if (place !== null) return;
    for (const goOn of this.#waiting) goOn();
    this.#waiting.clear();
  }

  /** With how many partitions they have. Throws SINK_TABLE_MISFIT for such as cannot be applied in order. */
  async #findTopics(admin: Admin): Promise<Map<string, number>> {
    const found = await topicsOf(admin, this.#options);
    for (const [name, partitions] of found)
      if (this.#options.partition === 'transaction' && partitions > 1)
        throw new WaggleError('SINK_TABLE_MISFIT', `topic ${name}: the changes of a row stand in any of its ${partitions} partitions, in no order`, {
          hint: 'A sink fed from Kafka needs `partition: key`, or a topic of one partition.',
        });
    return found;
  }
}
