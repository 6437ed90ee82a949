/**
 * What a consumer of all topics of a prefix ends up with, strictly: every change once, in order by key; no update or delete of a row that is not there
 * (unless it is still being filled); BEGIN and END of every transaction, with the numbers of its changes.
 */
import { heartbeatRecordSchema, transactionRecordSchema } from '../../connectors/kafka/asyncapi.ts';
import { envelopeSchema } from '../../src/change/envelope-schema.ts';
import { parseChange } from '../../src/change/parse-change.ts';
import type { TopicRecord } from './kafka-probe.ts';
import { type RowSet, tally } from './row-sets.ts';

type JsonRow = Record<string, unknown>;

export interface KafkaReplay {
  readonly faults: readonly string[];
  /** Of all changes, in ascending order. */
  readonly seqs: readonly number[];
  readonly filled: number;
  readonly transactions: number;
  /** Rows in the tables and columns of `like`, in its form `text`. */
  rowsLike(like: RowSet): RowSet;
}

export const replayKafka = (records: readonly TopicRecord[], prefix: string): KafkaReplay => {
  const faults: string[] = [];
  const tables = new Map<string, Map<string, JsonRow>>();
  const seqs: number[] = [];
  const lastOfKey = new Map<string, number>();
  const counted = new Map<string, Map<string, number>>();
  const versions = new Set(records.filter(({ topic }) => topic === `${prefix}.schema`).map(({ headers }) => headers['schema']));
  let filled = 0;
  let before: TopicRecord | null = null;

  for (const record of records) {
    const { topic, key, headers } = record;
    const where = `${topic}/${record.partition}@${record.offset}`;
    const previous: TopicRecord | null = before;
    before = record;
    if (!isDescribed(record, prefix)) faults.push(`${where}: is not what the schemas say`);
    if (topic === `${prefix}.transaction` || topic === `${prefix}.heartbeat` || topic === `${prefix}.waggle-checkpoint`) continue;
    const change = parseChange(record);
    if (change === null) {
      if (previous?.key !== key || previous?.headers['op'] !== 'd') faults.push(`${where}: a tombstone without its delete`);
      continue;
    }
    const { seq, op, source, transaction } = change;
    if (String(seq ?? '') !== (headers['seq'] ?? '') || op !== headers['op'] || source.txid !== headers['txid'])
      faults.push(`${where}: the headers tell something else`);
    if (seq !== null) seqs.push(seq);
    if (op === 's') continue;
    if (!versions.has(headers['schema'])) faults.push(`${where}: the schema ${headers['schema']} is nowhere described`);
    if (topic !== `${prefix}.${source.table}`) faults.push(`${where}: a change of ${source.table}`);
    if (transaction !== null) {
      const counts = counted.get(transaction.id) ?? new Map<string, number>();
      counts.set(source.table, (counts.get(source.table) ?? 0) + 1);
      counted.set(transaction.id, counts);
    }
    const rows = tables.get(source.table) ?? new Map<string, JsonRow>();
    tables.set(source.table, rows);
    if (op === 't') {
      rows.clear();
      continue;
    }
    const name = JSON.stringify(change.key);
    if (op === 'r') filled += 1;
    const last = lastOfKey.get(`${source.table} ${name}`) ?? 0;
    if (seq !== null && seq <= last) faults.push(`${where}: seq ${seq} follows ${last} of the same key`);
    if (seq !== null) lastOfKey.set(`${source.table} ${name}`, seq);
    if (op === 'c' && rows.has(name)) faults.push(`${where}: creates a row that is there`);
    if (change.after === null) rows.delete(name);
    else rows.set(name, change.after);
  }
  for (const [index, seq] of seqs.sort((a, b) => a - b).entries()) if (index > 0 && seq === seqs[index - 1]) faults.push(`seq ${seq} comes twice`);
  const transactions = checkTransactions(
    records.filter(({ topic }) => topic === `${prefix}.transaction`),
    counted,
    faults,
  );
  return {
    faults,
    seqs,
    filled,
    transactions,
    rowsLike: (like) =>
      new Map(
        [...like].map(([name, { columns }]) => [
          name,
          tally(
            columns,
            [...(tables.get(name)?.values() ?? [])].map((row) => JSON.stringify(columns.map((column) => textOf(row[column])))),
          ),
        ]),
      ),
  };
};

/** By the schemas that stand in schemas/. */
const isDescribed = ({ topic, value }: TopicRecord, prefix: string): boolean => {
  if (topic === `${prefix}.waggle-checkpoint` || value === null) return true;
  const schema =
    topic === `${prefix}.transaction` ? transactionRecordSchema : topic === `${prefix}.heartbeat` ? heartbeatRecordSchema : envelopeSchema;
  return schema.safeParse(JSON.parse(value)).success;
};

const checkTransactions = (records: readonly TopicRecord[], counted: ReadonlyMap<string, ReadonlyMap<string, number>>, faults: string[]): number => {
  let open: string | null = null;
  const ended = new Set<string>();
  for (const { value, key } of records) {
    const { status, id, event_count: total, data_collections: collections } = JSON.parse(value ?? 'null');
    if (JSON.parse(key ?? 'null').id !== id) faults.push(`transaction ${id}: another key`);
    if (status === 'BEGIN') {
      if (open !== null) faults.push(`transaction ${id} begins inside of ${open}`);
      open = id;
      continue;
    }
    if (open !== id) faults.push(`transaction ${id} ends without a beginning`);
    if (ended.has(id)) faults.push(`transaction ${id} comes twice`);
    ended.add(id);
    open = null;
    const counts = Object.fromEntries(counted.get(id) ?? []);
    const told = Object.fromEntries(
      collections.map((each: { data_collection: string; event_count: number }) => [each.data_collection, each.event_count]),
    );
    const same = Object.keys(counts).length === Object.keys(told).length && Object.entries(counts).every(([table, count]) => told[table] === count);
    if (!same || total !== Object.values(counts).reduce((sum, count) => sum + count, 0))
      faults.push(`transaction ${id} tells ${JSON.stringify(told)}, and there are ${JSON.stringify(counts)}`);
  }
  if (open !== null) faults.push(`transaction ${open} does not end`);
  for (const id of counted.keys()) if (!ended.has(id)) faults.push(`transaction ${id} is told nowhere`);
  return ended.size;
};

const textOf = (value: unknown): string | null => {
  if (value === null || value === undefined) return null;
  return typeof value === 'string' ? value : typeof value === 'bigint' ? String(value) : JSON.stringify(value);
};
