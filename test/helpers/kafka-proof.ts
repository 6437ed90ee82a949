/** That all that was published is all that happened: each change once, and the rows of the hive. */
import { expect } from 'vitest';
import { type DaemonScene, EQUAL } from './daemon-scene.ts';
import { KafkaProbe } from './kafka-probe.ts';
import { type KafkaReplay, replayKafka } from './kafka-replay.ts';
import { difference, readSqliteRows } from './row-sets.ts';
import { logHead } from './settled.ts';

/** All that was published under the prefix `main`, held against the hive and the log; daemon and application have ended. `brokers`: as of KafkaProbe. */
export const expectPublished = async (scene: DaemonScene, brokers: string): Promise<KafkaReplay> => {
  await using probe = await KafkaProbe.open(brokers);
  const replay = replayKafka(await probe.read(), 'main');
  const rows = readSqliteRows(scene.hive, 'text');
  expect(replay.faults).toEqual([]);
  // From where the first fill began, to the end.
  const gaps = replay.seqs.filter((seq, index) => index > 0 && seq !== replay.seqs[index - 1]! + 1);
  expect({ gaps, last: replay.seqs.at(-1) }).toEqual({ gaps: [], last: logHead(scene.state) });
  expect(difference(rows, replay.rowsLike(rows))).toMatchObject(EQUAL);
  return replay;
};
