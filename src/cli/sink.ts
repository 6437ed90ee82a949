/** `waggle sink NAME --from kafka`: a sink of the configuration, fed from Kafka instead of a log of this machine. */
import { join } from 'node:path';
import { Command } from 'commander';
import type { Kafka } from 'kafkajs';
import { toSinkError } from '../../connectors/kafka/errors.ts';
import { keyPartitioner } from '../../connectors/kafka/key-partitioner.ts';
import { brokerList, type KafkaOptions } from '../../connectors/kafka/options.ts';
import { prefixOf } from '../../connectors/kafka/topic-names.ts';
import { CONNECTORS } from '../../connectors/registry.ts';
import type { Config, SinkConfig } from '../config/config.ts';
import { loadConfig } from '../config/load-config.ts';
import type { GroupStatus } from '../stream/kafka/member-status.ts';
import { KafkaMember } from '../stream/kafka/member.ts';
import type { Publisher } from '../stream/kafka/topics-of.ts';
import { WaggleError } from '../support/errors.ts';
import { makeLogger } from '../support/logger.ts';
import { suggestion } from '../support/nearest-name.ts';
import { stopSignal } from './stop-signal.ts';

/** Those that keep their checkpoint in the target, and take several writers at a time. */
const TYPES: readonly string[] = ['postgres', 'mysql', 'mongodb', 'sqlite'];

interface SinkOptions {
  readonly config: string;
  readonly from: string;
  readonly verbose?: boolean;
  readonly status?: boolean;
  readonly json?: boolean;
}

export const sinkCommand = (): Command =>
  new Command('sink')
    .description('Feed a sink of the configuration from Kafka, as one of any number of members of a consumer group, until Ctrl-C or SIGTERM.')
    .argument('<sink>', "the sink's name")
    .requiredOption('--from <sink>', 'the sink of type kafka that publishes; `kafka`: the only one there is')
    .option('-c, --config <file>', 'the configuration', 'waggle.yaml')
    .option('--status', 'tell how far the members have come, and end')
    .option('--json', 'the status as JSON')
    .option('--verbose', 'log more, and show the trace of an error')
    .addHelpText('after', '\nNeeds neither the hive nor its log. Start it several times to share the partitions of the topics.')
    .action(run);

const run = async (name: string, options: SinkOptions): Promise<void> => {
  const signal = stopSignal();
  const config = loadConfig(options.config);
  const from = publisherOf(config, options.from);
  const sink = sinkOf(config, name);
  const logger = makeLogger({ level: options.verbose === true ? 'debug' : config.log.level }).child({ component: 'sink', sink: name });
  const kafka = from.options as KafkaOptions;
  // Other commands start without kafkajs.
  const { makeClient } = await import('../../connectors/kafka/client.ts');
  const prefix = kafka.prefix ?? prefixOf(config.name);
  const publisher = { prefix, topic: kafka.topic ?? null };
  const label = `kafka ${brokerList(kafka).join(',')}`;
  const client = makeClient(kafka, { logger, onLogged: () => {} });
  if (options.status === true) return tellStatus({ client, publisher, name, label, json: options.json === true });
  const createSink = await CONNECTORS[sink.type]!.load();
  logger.info({ type: sink.type, target: sink.target, from: from.target }, 'feeding the sink from Kafka');
  const member = new KafkaMember({
    ...publisher,
    kafka: client,
    partition: kafka.partition,
    partitionOf: keyPartitioner({ prefix, schemas: kafka.schemas }),
    keepRefused: sink.deadLetters !== null,
    name,
    createSink: () => createSink(sink.options),
    context: { hive: config.name, logger, signal, stateDir: join(config.state, 'members', name, String(process.pid)) },
    toError: (error) => toSinkError(error, label),
  });
  await member.run(signal);
  logger.info('stopped');
  return undefined;
};

interface StatusRequest {
  readonly client: Kafka;
  readonly publisher: Publisher;
  readonly name: string;
  readonly label: string;
  readonly json: boolean;
}

const tellStatus = async ({ client, publisher, name, label, json }: StatusRequest): Promise<void> => {
  const { readGroupStatus } = await import('../stream/kafka/member-status.ts');
  const status = await readGroupStatus(client, publisher, name).catch((error: unknown) => {
    throw toSinkError(error, label);
  });
  process.stdout.write(json ? `${JSON.stringify(status, null, 2)}\n` : `${formatGroup(status)}\n`);
};

const formatGroup = ({ group, state, members, partitions }: GroupStatus): string => {
  const rows = [
    ['TOPIC', 'PARTITION', 'MEMBER', 'OFFSET', 'BEHIND'],
    ...partitions.map(({ topic, partition, member, offset, behind }) => [
      topic,
      String(partition),
      member ?? 'none',
      offset ?? 'none',
      String(behind),
    ]),
  ];
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const errors = partitions.flatMap(({ topic, partition, error }) => (error === null ? [] : [`${topic}, partition ${partition}: ${error}`]));
  const lines = rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  );
  return [`group ${group}: ${state}, ${members} ${members === 1 ? 'member' : 'members'}`, ...lines, ...errors].join('\n');
};

const publisherOf = ({ sinks }: Config, name: string): SinkConfig => {
  const publishers = sinks.filter(({ type }) => type === 'kafka');
  const found = publishers.find((sink) => sink.name === name) ?? (name === 'kafka' && publishers.length === 1 ? publishers[0] : undefined);
  if (found !== undefined) return found;
  const names = publishers.map((sink) => sink.name);
  throw new WaggleError('NOT_FOUND', `there is no sink ${name} of the type kafka to read from${names.length === 0 ? '' : suggestion(name, names)}`, {
    hint: 'The configuration names the brokers and the prefix of the topics by a sink of `type: kafka`.',
  });
};

const sinkOf = ({ sinks }: Config, name: string): SinkConfig => {
  const found = sinks.find((sink) => sink.name === name);
  const names = sinks.map((sink) => sink.name);
  if (found === undefined) throw new WaggleError('NOT_FOUND', `there is no sink ${name}${suggestion(name, names)}`);
  if (found.type === 'kafka')
    throw new WaggleError('CONFIG_INVALID', `the sink ${name} is a publisher itself`, { hint: 'Name a sink of another type.' });
  if (!TYPES.includes(found.type))
    throw new WaggleError('CONFIG_INVALID', `a sink of the type ${found.type} cannot be fed from Kafka`, {
      hint: `Its checkpoint does not stand in the target, where every member finds it. These can: ${TYPES.join(', ')}.`,
    });
  if (found.transform !== null || Object.keys(found.tables).length > 0 || Object.keys(found.filter).length > 0)
    throw new WaggleError('CONFIG_INVALID', `the sink ${name} has \`tables\` or \`transform\`, which the publisher must do`, {
      hint: 'Shape the tables in the sink of type kafka; records then come in that form.',
    });
  return found;
};
