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

/** A schema change of a table, from one form to the next. */
export interface FormStep {
  readonly previous: SinkTable;
  readonly table: SinkTable;
  /** Columns whose rows are not told again although they hold something else now: renamed ones, and new ones under the name of an earlier one. */
  readonly lost: readonly string[];
}

interface Form {
  readonly table: SinkTable;
  /** Version of the form that a schema change made it of; null: told when its rows were met, or of a new table. */
  readonly previous: string | null;
  /** Of a new table. */
  readonly created: boolean;
}

export interface TableFormsOptions {
  readonly topic: string;
  /** The name of its consumer group begins so. */
  readonly group: string;
  readonly onForm: (table: SinkTable) => void;
  /** Nothing more is read, because of this error. */
  readonly onFailed: (error: Error) => void;
}

export class TableForms implements AsyncDisposable {
  readonly #consumer: Consumer;
  readonly #topic: string;
  readonly #forms = new Map<string, Form>();
  /** Hives that tell of a table, by its name. */
  readonly #hives = new Map<string, Set<string>>();
  readonly #waiting = new Map<string, PromiseWithResolvers<SinkTable>>();
  /** Called for each form that is read. */
  readonly #onForm: (table: SinkTable) => void;

  constructor(kafka: Kafka, { topic, group, onForm, onFailed }: TableFormsOptions) {
    this.#topic = topic;
    this.#onForm = onForm;
    this.#consumer = kafka.consumer({ groupId: `${group}.${randomUUID()}`, maxWaitTimeInMs: 500, allowAutoTopicCreation: false });
    this.#consumer.on(this.#consumer.events.CRASH, ({ payload }) => {
      if (!payload.restart) onFailed(payload.error);
    });
  }

  async open(): Promise<void> {
    await this.#consumer.connect();
    await this.#consumer.subscribe({ topics: [this.#topic], fromBeginning: true });
    await this.#consumer.run({ autoCommit: false, eachMessage: async ({ message }) => this.#take(message) });
  }

  /** Rejects with SINK_BUSY where nothing tells of it for half a minute. */
  async form(version: string): Promise<SinkTable> {
    const known = this.#forms.get(version);
    if (known !== undefined) return known.table;
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

  /**
   * The schema changes from one of the forms that `applied` names to this one, in order, and that form's version; null: none of them leads to it. The form
   * must have been asked for: those before it were told before it.
   */
  stepsTo(version: string, applied: ReadonlySet<string>): { readonly from: string; readonly steps: readonly FormStep[] } | null {
    const steps: FormStep[] = [];
    let from = version;
    while (!applied.has(from)) {
      const at = this.#forms.get(from)!;
      const before = this.#previous(at);
      if (before === null) return null;
      steps.unshift({ previous: before.table, table: at.table, lost: this.#lost(before, at.table) });
      from = at.previous!;
    }
    return { from, steps };
  }

  isCreated(version: string): boolean {
    return this.#forms.get(version)?.created ?? false;
  }

  /** Of the table that has this form. */
  nameOf(version: string): string | null {
    return this.#forms.get(version)?.table.name ?? null;
  }

  /** Whether several hives have a table of this name in the topics, as far as it was read. */
  isShared(name: string): boolean {
    return (this.#hives.get(name)?.size ?? 0) > 1;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#consumer.disconnect();
  }

  #lost(before: Form, table: SinkTable): string[] {
    const names = new Set(before.table.columns.map(({ name }) => name));
    const added = table.columns.map(({ name }) => name).filter((name) => !names.has(name));
    if (before.table.columns.length === table.columns.length) return added;
    const earlier = new Set<string>();
    for (let at = this.#previous(before); at !== null; at = this.#previous(at)) for (const { name } of at.table.columns) earlier.add(name);
    return added.filter((name) => earlier.has(name));
  }

  #previous({ previous }: Form): Form | null {
    return previous === null ? null : (this.#forms.get(previous) ?? null);
  }

  #take({ headers = {}, key }: KafkaMessage): void {
    const version = headers['schema'] === undefined ? null : String(headers['schema']);
    const table = headers['table'] === undefined ? null : parseForm(String(headers['table']));
    if (version === null || table === null) return;
    const hives = this.#hives.get(table.name) ?? new Set();
    this.#hives.set(table.name, hives.add(hiveOf(key)));
    if (this.#forms.has(version)) return;
    const previous = headers['previous'] === undefined ? null : String(headers['previous']);
    this.#forms.set(version, { table, previous, created: previous === null && headers['seq'] !== undefined });
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
