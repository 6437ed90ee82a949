/**
 * The records of one batch, in order: BEGIN and END around the changes of each transaction of the hive, every table's form before its first row, a tombstone
 * behind each deleted row. The last record of a transaction in each partition says so (header `last`): so one of each is held back until the next one comes.
 */
import { type EnvelopeEncoder, placeOf } from '../../src/change/envelope.ts';
import type { TransactionInfo } from '../../src/change/change.ts';
import type { SinkChange, SinkRowChange, SinkSchemaChange, SinkTable, SinkTruncateChange } from '../../src/pipeline/sink.ts';
import type { RecordFormat } from './formats.ts';
import { partitionOf } from './murmur2.ts';
import type { Outgoing } from './outbox.ts';
import type { TableVersions } from './table-versions.ts';
import type { TopicNames } from './topic-names.ts';
import type { Topic, Topics } from './topics.ts';

export interface PublicationParts {
  readonly hive: string;
  readonly encoder: EnvelopeEncoder;
  readonly format: RecordFormat;
  readonly names: TopicNames;
  readonly topics: Topics;
  readonly partition: 'key' | 'transaction';
  readonly tombstones: boolean;
  /** Topics of waggle's own. */
  readonly transactions: Topic;
  readonly schemas: Topic;
  /** What the topic `<prefix>.schema` tells of; added to. */
  readonly versions: TableVersions;
}

const NO_HEADERS: Readonly<Record<string, string>> = {};

export class Publication {
  readonly #parts: PublicationParts;
  /** The transaction whose changes come now, once something of it was published. */
  #open: TransactionInfo | null = null;
  #total = 0;
  #byTable = new Map<string, number>();
  /** Of the open transaction: by topic, then by partition. */
  readonly #held = new Map<Topic, (Outgoing | undefined)[]>();

  constructor(parts: PublicationParts) {
    this.#parts = parts;
  }

  /** False: `meet` first. */
  knows(change: SinkChange): boolean {
    const { names, topics } = this.#parts;
    return change.op === 's' || topics.known(names.ofTable(change.table.name)) !== null;
  }

  /** Finds or makes the topic of a table. */
  async meet({ table }: SinkRowChange | SinkTruncateChange): Promise<void> {
    const { names, topics } = this.#parts;
    await topics.rows(names.ofTable(table.name));
  }

  /** In the order in which they are to be sent. */
  *records(change: SinkChange): Generator<Outgoing, void, undefined> {
    if (this.#open !== null && change.source.transaction?.firstSeq !== this.#open.firstSeq) yield* this.#end(this.#open);
    if (change.op === 's') {
      yield* this.#schema(change);
      return;
    }
    yield* this.#announce(change);
    if (this.#open === null && change.source.transaction !== null) {
      this.#open = change.source.transaction;
      yield this.#mark(change.source.transaction, null);
    }
    for (const record of change.op === 't' ? this.#truncate(change) : this.#row(change)) {
      const before = this.#open === null ? record : this.#hold(record);
      if (before !== undefined) yield before;
    }
  }

  /** What is left to be said at the end of the batch. */
  *finish(): Generator<Outgoing, void, undefined> {
    if (this.#open !== null) yield* this.#end(this.#open);
  }

  *#row(change: SinkRowChange): Generator<Outgoing, void, undefined> {
    const { format, tombstones } = this.#parts;
    const topic = this.#topicOf(change.table);
    const { key, value } = format.row(change);
    const bytes = Buffer.from(key);
    const record = { topic, partition: this.#partitionOf(change, topic, bytes), key: bytes, headers: this.#headers(change), change };
    this.#count(change.table);
    yield { ...record, value: Buffer.from(value) };
    if (change.op === 'd' && tombstones) yield { ...record, value: null };
  }

  /** To each partition whose rows it may speak of; they are those of its keys. */
  *#truncate(change: SinkTruncateChange): Generator<Outgoing, void, undefined> {
    const { format, partition } = this.#parts;
    const topic = this.#topicOf(change.table);
    const value = Buffer.from(format.truncate(change));
    const key = topic.compacted ? JSON.stringify({ waggle_truncate: change.table.name }) : null;
    const only =
      partition === 'transaction' ? [this.#partitionOf(change, topic, null)] : Array.from({ length: topic.partitions }, (_, index) => index);
    for (const each of only) {
      this.#count(change.table);
      yield { topic, partition: each, key, value, headers: this.#headers(change), change };
    }
  }

  /** The one that was held before. */
  #hold(record: Outgoing): Outgoing | undefined {
    let held = this.#held.get(record.topic);
    if (held === undefined) this.#held.set(record.topic, (held = []));
    const before = held[record.partition];
    held[record.partition] = record;
    return before;
  }

  *#schema(change: SinkSchemaChange): Generator<Outgoing, void, undefined> {
    const { hive, names, versions, encoder, schemas: topic } = this.#parts;
    const { table, previous, source } = change;
    if (previous !== null && previous.name !== table?.name) names.forget(previous.name);
    const form = table === null ? null : versions.change({ ...change, table });
    const key = JSON.stringify({ hive, table: (table ?? previous)?.name ?? null, schema: form?.version ?? null });
    const described = form === null ? NO_HEADERS : { schema: form.version, table: form.text };
    const follows = form === null || form.previous === null ? NO_HEADERS : { previous: form.previous };
    const headers = { ...placeHeaders(source), op: 's', ...described, ...follows };
    yield { topic, partition: 0, key, value: Buffer.from(encoder.encode(change)), headers, change };
  }

  /** A table that nobody created or altered before our eyes is told as it is. */
  *#announce({ table, source }: SinkRowChange | SinkTruncateChange): Generator<Outgoing, void, undefined> {
    if (source.op === 's' || this.#parts.versions.of(table) !== null) return;
    const { txid, timestampUs } = placeOf(source);
    const placed = {
      seq: null,
      transaction: null,
      collectionOrder: 0,
      snapshot: { seq: source.seq ?? source.snapshot?.seq ?? 0, txid, timestampUs },
    };
    yield* this.#schema({
      op: 's',
      table,
      previous: null,
      source: { op: 's', ...placed, name: source.table.name, table: source.table, previous: null },
    });
  }

  #mark(transaction: TransactionInfo, counts: { total: number; byTable: ReadonlyMap<string, number> } | null): Outgoing {
    const { format, transactions: topic, hive } = this.#parts;
    const { key, value } = format.transaction({ id: transaction.txid, timestampMs: Math.floor(transaction.timestampUs / 1000), counts });
    const seq = counts === null ? transaction.firstSeq : transaction.lastSeq;
    return { topic, partition: 0, key, value: Buffer.from(value), headers: { seq: String(seq), txid: transaction.txid, hive }, change: null };
  }

  *#end(transaction: TransactionInfo): Generator<Outgoing, void, undefined> {
    for (const held of this.#held.values())
      for (const record of held) if (record !== undefined) yield { ...record, headers: { ...record.headers, last: 'true' } };
    yield this.#mark(transaction, { total: this.#total, byTable: this.#byTable });
    this.#held.clear();
    this.#open = null;
    this.#total = 0;
    this.#byTable = new Map();
  }

  #count({ name }: SinkTable): void {
    if (this.#open === null) return;
    this.#total += 1;
    this.#byTable.set(name, (this.#byTable.get(name) ?? 0) + 1);
  }

  #topicOf(table: SinkTable): Topic {
    const { names, topics } = this.#parts;
    return topics.known(names.ofTable(table.name))!;
  }

  #partitionOf({ source }: SinkChange, topic: Topic, key: Buffer | null): number {
    if (this.#parts.partition === 'key') return key === null ? 0 : partitionOf(key, topic.partitions);
    // Rows of a first fill belong to no transaction: they stay in one partition, in order.
    return source.transaction === null ? 0 : partitionOf(Buffer.from(source.transaction.txid), topic.partitions);
  }

  #headers({ op, source, table }: SinkRowChange | SinkTruncateChange): Record<string, string> {
    return { ...placeHeaders(source), op, schema: this.#parts.versions.of(table)! };
  }
}

const placeHeaders = (source: SinkChange['source']): Record<string, string> => {
  const { txid } = placeOf(source);
  return source.seq === null ? { txid } : { seq: String(source.seq), txid };
};
