/**
 * Without transactions nothing keeps the late write of a runner that was replaced from landing on a newer row. So each document
 * says which change it shows, and a write takes effect only on an older one:
 *
 *     _waggle: { seq, deleted? }
 *
 * A deleted row leaves such a document with `deleted`, its time, behind: else a late write would bring the row back. The
 * server removes it by a TTL index. Seqs of two logs (or of two terms of one) do not compare: where the log is another one than the
 * collection's, all documents go back to seq 0 first.
 */
import type { Collection, Filter } from 'mongodb';
import type { SinkRowChange, SinkTruncateChange } from '../../src/pipeline/sink.ts';
import type { Id, StoredDocument } from './document.ts';

/** How long the trace of a deleted row is kept: much longer than a write can be late. */
export const TRACE_SECONDS = 600;
export const TRACE_INDEX = { '_waggle.deleted': 1 } as const;

export interface Mark {
  readonly seq: bigint;
  readonly deleted?: Date;
}

/** The change that a document shows after `change`. An existing row shows the state behind a seq. */
export const markOf = (change: SinkRowChange): Mark => {
  const seq = BigInt(change.source.seq ?? change.source.snapshot?.seq ?? 0);
  return change.after === null ? { seq, deleted: new Date() } : { seq };
};

/**
 * The document with this `_id`, if the change may overwrite it. What a fill or `resync` writes does so also where the same seq stands: it repairs. A document
 * without a mark is somebody else's, and older than everything.
 */
export const olderThan = (id: Id, { source }: SinkRowChange, { seq }: Mark): Filter<StoredDocument> =>
  ({ _id: id, '_waggle.seq': { $not: source.seq === null ? { $gt: seq } : { $gte: seq } } }) as Filter<StoredDocument>;

/** Documents that a `t` removes; one of a first fill removes all. */
export const removedBy = (change: SinkTruncateChange): Filter<StoredDocument> =>
  change.source.seq === null ? {} : { '_waggle.seq': { $not: { $gte: BigInt(change.source.seq) } } };

/** Takes the documents as of before the log began; those that waggle did not write, too. */
export const unmark = async (collection: Collection<StoredDocument>): Promise<void> => {
  await collection.deleteMany({ '_waggle.deleted': { $exists: true } });
  await collection.updateMany({ '_waggle.seq': { $ne: 0n } }, { $set: { _waggle: { seq: 0n } } });
};
