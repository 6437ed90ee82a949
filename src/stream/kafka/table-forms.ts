/** The forms of tables by which records were written (header `schema`), as the topic `<prefix>.schema` tells them. Follows it for as long as it is open. */
import { randomUUID } from 'node:crypto';
import type { Consumer, Kafka, KafkaMessage } from 'kafkajs';
import { z } from 'zod';
import { parseExactly } from '../../change/parse-change.ts';
import type { SinkTable } from '../../pipeline/sink.ts';
import { WaggleError } from '../../support/errors.ts';

const column = z.object({
  name: z.string(),
  type: z.string(),
  affinity: z.enum(['INTEGER', 'TEXT', 'BLOB', 'REAL', 'NUMERIC']),
  notNull: z.boolean(),
  alwaysInteger: z.boolean(),
  kind: z.enum(['timestamp', 'boolean', 'json']).exactOptional(),
  volatile: z.literal(true).exactOptional(),
  rowid: z.literal(true).exactOptional(),
  default: z.union([z.null(), z.number(), z.bigint(), z.string()]),
});

const form = z.object({
  name: z.string(),
  source: z.string(),
  columns: z.array(column),
  key: z.array(z.int()).min(1),
  history: z.literal(true).exactOptional(),
  deletedAt: z.int().exactOptional(),
});

/** The record that describes a form stands before the rows of that form, in another topic: it is there, or about to be read. */
const PATIENCE_MS = 30_000;

export class TableForms implements AsyncDisposable {
  readonly #consumer: Consumer;
  readonly #topic: string;
  readonly #forms = new Map<string, SinkTable>();
  /** Hives that tell of a table, by its name. */
  readonly #hives = new Map<string, Set<string>>();
  readonly #waiting = new Map<string, PromiseWithResolvers<SinkTable>>();
  /** Called for each form that is read. */
  readonly #onForm: (table: SinkTable) => void;

  /** `group`: the name of its consumer group begins so. */
  constructor(kafka: Kafka, options: { readonly topic: string; readonly group: string; readonly onForm: (table: SinkTable) => void }) {
    this.#topic = options.topic;
    this.#onForm = options.onForm;
    this.#consumer = kafka.consumer({ groupId: `${options.group}.${randomUUID()}`, maxWaitTimeInMs: 500, allowAutoTopicCreation: false });
  }

  async open(): Promise<void> {
    await this.#consumer.connect();
    await this.#consumer.subscribe({ topics: [this.#topic], fromBeginning: true });
    await this.#consumer.run({ autoCommit: false, eachMessage: async ({ message }) => this.#take(message) });
  }

  /** Rejects with SINK_BUSY where nothing tells of it for half a minute. */
  async form(version: string): Promise<SinkTable> {
    const known = this.#forms.get(version);
    if (known !== undefined) return known;
    let waiting = this.#waiting.get(version);
    if (waiting === undefined) this.#waiting.set(version, (waiting = Promise.withResolvers()));
    const { promise } = waiting;
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => late.reject(new WaggleError('SINK_BUSY', `the topic ${this.#topic} does not tell of the form ${version} of a table`)),
      PATIENCE_MS,
    );
    try {
      return await Promise.race([promise, late.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Whether several hives have a table of this name in the topics, as far as it was read. */
  isShared(name: string): boolean {
    return (this.#hives.get(name)?.size ?? 0) > 1;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#consumer.disconnect();
  }

  #take({ headers = {}, key }: KafkaMessage): void {
    const version = headers['schema'] === undefined ? null : String(headers['schema']);
    const table = headers['table'] === undefined ? null : parseForm(String(headers['table']));
    if (version === null || table === null) return;
    const hives = this.#hives.get(table.name) ?? new Set();
    this.#hives.set(table.name, hives.add(hiveOf(key)));
    if (this.#forms.has(version)) return;
    this.#forms.set(version, table);
    this.#waiting.get(version)?.resolve(table);
    this.#waiting.delete(version);
    this.#onForm(table);
  }
}

const hiveOf = (key: Buffer | null): string => {
  try {
    return String((JSON.parse(String(key)) as { hive?: unknown } | null)?.hive);
  } catch {
    return '';
  }
};

/** The SinkTable that `tableText` of the publisher wrote; null: something else. */
export const parseForm = (text: string): SinkTable | null => {
  try {
    const { columns, ...table } = form.parse(parseExactly(text));
    return { ...table, columns: columns.map(({ default: defaultValue, ...each }) => ({ ...each, defaultValue })) };
  } catch {
    return null;
  }
};
