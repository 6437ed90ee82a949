/** How keys and values of records are written: the envelope as it is, or with Kafka Connect's schema around it. */
import type { EnvelopeChange, EnvelopeEncoder } from '../../src/change/envelope.ts';
import type { SinkRowChange, SinkTruncateChange } from '../../src/pipeline/sink.ts';

/** What a transaction holds, for its END; null for its BEGIN. */
export interface TransactionCounts {
  readonly total: number;
  readonly byTable: ReadonlyMap<string, number>;
}

export interface TransactionMark {
  readonly id: string;
  /** When waggle saw the commit. */
  readonly timestampMs: number;
  readonly counts: TransactionCounts | null;
}

export interface RecordFormat {
  row(change: SinkRowChange): { readonly key: string; readonly value: string };
  truncate(change: SinkTruncateChange): string;
  transaction(mark: TransactionMark): { readonly key: string; readonly value: string };
}

export const plainFormat = (encoder: EnvelopeEncoder): RecordFormat => ({
  row: (change) => ({ key: encoder.encodeKey(change)!, value: encoder.encode(change) }),
  truncate: (change: EnvelopeChange) => encoder.encode(change),
  transaction: (mark) => ({ key: transactionKey(mark), value: transactionValue(mark) }),
});

/** As Debezium writes them (`provide.transaction.metadata`). */
export const transactionKey = ({ id }: TransactionMark): string => JSON.stringify({ id });

export const transactionValue = ({ id, timestampMs, counts }: TransactionMark): string =>
  JSON.stringify({
    status: counts === null ? 'BEGIN' : 'END',
    id,
    event_count: counts?.total ?? null,
    data_collections: counts === null ? null : [...counts.byTable].map(([table, count]) => ({ data_collection: table, event_count: count })),
    ts_ms: timestampMs,
  });
