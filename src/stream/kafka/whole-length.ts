/** Where transactions of the hive end among records of a partition. */
import type { KafkaMessage } from 'kafkajs';

/**
 * How many of these records there are up to the last end of a transaction. The publisher marks it (header `last`); compaction may have removed that record,
 * so a record of another transaction is taken for a sign, too, and so is the end of the topic (`atEnd`), because what is committed there is whole.
 * Rows of a first fill (without `seq`) stand for themselves.
 */
export const wholeLength = (messages: readonly KafkaMessage[], atEnd: boolean): number => {
  if (atEnd) return messages.length;
  for (let length = messages.length; length > 0; length -= 1) {
    const { headers = {} } = messages[length - 1]!;
    const next = messages[length];
    if (headers['last'] !== undefined || headers['seq'] === undefined) return length;
    if (next !== undefined && String(next.headers?.['txid']) !== String(headers['txid'])) return length;
  }
  return 0;
};
