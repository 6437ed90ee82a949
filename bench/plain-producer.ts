/** The floor of bench/kafka.ts, in a process of its own with kafkajs as it is: sends the records of a file (JSON lines) into a topic, for each line of stdin. */
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import kafkajs, { type Message } from 'kafkajs';

/** What the sink sends in a request at most, in records of this size. */
const PLAIN_BATCH = 1000;

const [broker = '', file = ''] = process.argv.slice(2);
const messages = readFileSync(file, 'utf8')
  .trimEnd()
  .split('\n')
  .map((line) => JSON.parse(line) as Message);
const kafka = new kafkajs.Kafka({ brokers: [broker], logLevel: kafkajs.logLevel.NOTHING });
const producer = kafka.producer({ createPartitioner: kafkajs.Partitioners.DefaultPartitioner });
const admin = kafka.admin();
await Promise.all([producer.connect(), admin.connect()]);
for await (const topic of createInterface({ input: process.stdin })) {
  await admin.createTopics({ topics: [{ topic, numPartitions: 1 }] });
  await producer.send({ topic, messages: messages.slice(0, 1) });
  const beganAt = performance.now();
  for (let first = 0; first < messages.length; first += PLAIN_BATCH)
    await producer.send({ acks: -1, topic, messages: messages.slice(first, first + PLAIN_BATCH) });
  process.stdout.write(`${(performance.now() - beganAt) / 1000}\n`);
}
await Promise.all([producer.disconnect(), admin.disconnect()]);
