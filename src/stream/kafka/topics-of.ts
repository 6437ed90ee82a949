/** The topics with rows that a publisher writes to, as the cluster has them. */
import type { Admin } from 'kafkajs';

export interface Publisher {
  /** Of the topics. */
  readonly prefix: string;
  /** The one topic of all tables; null: one for each. */
  readonly topic: string | null;
}

const OWN_TOPICS = ['transaction', 'schema', 'heartbeat', 'waggle-checkpoint', 'waggle-dead-letters'];

/** With how many partitions they have. */
export const topicsOf = async (admin: Admin, { prefix, topic }: Publisher): Promise<Map<string, number>> => {
  const own = new Set(OWN_TOPICS.map((name) => `${prefix}.${name}`));
  const names = (await admin.listTopics()).filter((name) => (topic === null ? name.startsWith(`${prefix}.`) && !own.has(name) : name === topic));
  if (names.length === 0) return new Map();
  const { topics } = await admin.fetchTopicMetadata({ topics: names });
  return new Map(topics.map(({ name, partitions }) => [name, partitions.length]));
};

/** Where members keep what their target refuses. */
export const deadLetterTopicOf = ({ prefix }: Publisher): string => `${prefix}.waggle-dead-letters`;

/** The consumer group of the members that feed a sink. */
export const groupOf = ({ prefix }: Publisher, sink: string): string => `${prefix}.waggle.${sink}`;
