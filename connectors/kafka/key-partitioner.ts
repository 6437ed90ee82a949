/** In which partition the publisher writes the changes of a row, for whoever has keys of a target, and no records. */
import { EnvelopeEncoder } from '../../src/change/envelope.ts';
import { keyNeedsRowid } from '../../src/change/key.ts';
import type { SinkRowChange } from '../../src/pipeline/sink.ts';
import { connectFormat } from './connect-format.ts';
import { plainFormat } from './formats.ts';
import { partitionOf } from './murmur2.ts';

/** With `partition: key`. Null: the key of the records holds more than the key columns, which is not known here. */
export const keyPartitioner = ({
  prefix,
  schemas,
}: {
  prefix: string;
  schemas: boolean;
}): ((change: SinkRowChange, partitions: number) => number | null) => {
  const encoder = new EnvelopeEncoder({ hive: '', version: '' });
  const format = schemas ? connectFormat(encoder, { prefix, label: 'kafka' }) : plainFormat(encoder);
  return (change, partitions) => {
    const columns = change.table.key.map((index) => change.table.columns[index]!);
    if (columns[0]?.rowid !== true && keyNeedsRowid(columns, change.key)) return null;
    return partitionOf(Buffer.from(format.row(change).key), partitions);
  };
};
