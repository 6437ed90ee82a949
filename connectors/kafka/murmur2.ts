/**
 * The hash by which Kafka's own clients choose a partition (org.apache.kafka.common.utils.Utils.murmur2), so that a key lies where every other
 * producer would put it.
 */
const SEED = 0x9747b28c;
const M = 0x5bd1e995;

export const murmur2 = (bytes: Buffer): number => {
  const { length } = bytes;
  let hash = SEED ^ length;
  let at = 0;
  for (; at + 4 <= length; at += 4) {
    let word = Math.imul(bytes.readInt32LE(at), M);
    word = Math.imul(word ^ (word >>> 24), M);
    hash = Math.imul(hash, M) ^ word;
  }
  if (at < length) {
    for (let left = length - at - 1; left >= 0; left -= 1) hash ^= bytes[at + left]! << (8 * left);
    hash = Math.imul(hash, M);
  }
  hash = Math.imul(hash ^ (hash >>> 13), M);
  return hash ^ (hash >>> 15);
};

/** As Kafka's default partitioner does it. */
export const partitionOf = (key: Buffer, partitions: number): number => (partitions === 1 ? 0 : (murmur2(key) & 0x7fffffff) % partitions);
