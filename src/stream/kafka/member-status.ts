/** How far the members of a group have come, as Kafka knows it: from any machine, whether members run or not. */
import kafkajs, { type Kafka } from 'kafkajs';
import { groupOf, type Publisher, topicsOf } from './topics-of.ts';

export interface PartitionStatus {
  readonly topic: string;
  readonly partition: number;
  /** Host and end of the id of the member that has it; null: none. */
  readonly member: string | null;
  /** Of the next record; null: nothing was applied yet. */
  readonly offset: string | null;
  /** Offsets up to the end, those without a record among them. */
  readonly behind: number;
  /** What it failed with last, if it has not gone on since. */
  readonly error: string | null;
}

export interface GroupStatus {
  readonly group: string;
  /** As Kafka calls it: Stable, PreparingRebalance, CompletingRebalance, Empty, Dead. */
  readonly state: string;
  readonly members: number;
  readonly partitions: readonly PartitionStatus[];
}

export const readGroupStatus = async (kafka: Kafka, publisher: Publisher, sink: string): Promise<GroupStatus> => {
  const admin = kafka.admin();
  await admin.connect();
  try {
    const group = groupOf(publisher, sink);
    const topics = [...(await topicsOf(admin, publisher)).keys()].sort();
    const { groups } = await admin.describeGroups([group]);
    const { state = 'Dead', members = [] } = groups[0] ?? {};
    const owners = new Map(
      members.flatMap(({ memberId, clientHost, memberAssignment }) =>
        Object.entries(kafkajs.AssignerProtocol.MemberAssignment.decode(memberAssignment)?.assignment ?? {}).flatMap(([topic, partitions]) =>
          partitions.map((partition) => [`${topic} ${partition}`, `${clientHost.replace(/^\//, '')} …${memberId.slice(-8)}`] as const),
        ),
      ),
    );
    const offsets = topics.length === 0 ? [] : await admin.fetchOffsets({ groupId: group, topics });
    const partitions: PartitionStatus[] = [];
    for (const { topic, partitions: known } of offsets) {
      for (const { partition, low, high } of await admin.fetchTopicOffsets(topic)) {
        const told = known.find((each) => each.partition === partition);
        const offset = told === undefined || Number(told.offset) < 0 ? null : told.offset;
        partitions.push({
          topic,
          partition,
          member: owners.get(`${topic} ${partition}`) ?? null,
          offset,
          behind: Math.max(0, Number(high) - Number(offset ?? low)),
          error: told?.metadata === undefined || told.metadata === null || told.metadata === '' ? null : told.metadata,
        });
      }
    }
    partitions.sort((a, b) => (a.topic === b.topic ? a.partition - b.partition : a.topic < b.topic ? -1 : 1));
    return { group, state, members: members.length, partitions };
  } finally {
    await admin.disconnect();
  }
};
