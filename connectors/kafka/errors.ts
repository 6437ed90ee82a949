/** Errors of kafkajs and of brokers (https://kafka.apache.org/protocol, "Error Codes") as codes of the closed list. */
import { type ErrorCode, WaggleError } from '../../src/support/errors.ts';

interface Meaning {
  readonly code: ErrorCode;
  readonly says: string;
  readonly hint?: string;
}

const RIGHTS =
  'Give waggle these rights (ACLs) on everything that begins with the prefix: topics Read, Write, Describe, Create, DescribeConfigs; groups Read; transactional ids Write, Describe.';
const denied = (says: string): Meaning => ({ code: 'SINK_DENIED', says, hint: RIGHTS });
const misfit = (says: string, hint: string): Meaning => ({ code: 'SINK_TABLE_MISFIT', says, hint });
const busy = (says: string): Meaning => ({ code: 'SINK_BUSY', says });
const away = (says: string): Meaning => ({ code: 'SINK_UNREACHABLE', says });

const FENCED: Meaning = {
  code: 'SINK_FENCED',
  says: 'another daemon publishes with a copy of this state directory',
  hint: 'Run only one of them; the other one needs a state directory of its own.',
};

const BY_TYPE: Readonly<Record<string, Meaning>> = {
  TOPIC_AUTHORIZATION_FAILED: denied('the broker refuses a right on a topic'),
  GROUP_AUTHORIZATION_FAILED: denied('the broker refuses a right on a consumer group'),
  CLUSTER_AUTHORIZATION_FAILED: denied('the broker refuses a right on the cluster'),
  TRANSACTIONAL_ID_AUTHORIZATION_FAILED: denied('the broker refuses a right on the transactional id'),
  SASL_AUTHENTICATION_FAILED: {
    code: 'SINK_DENIED',
    says: 'the broker refuses user or password',
    hint: 'Check `sasl`: mechanism, username and password.',
  },
  ILLEGAL_SASL_STATE: { code: 'SINK_DENIED', says: 'this listener of the broker does not use SASL', hint: 'Check `brokers` and `sasl`.' },
  UNSUPPORTED_SASL_MECHANISM: { code: 'SINK_DENIED', says: 'the broker does not know this SASL mechanism', hint: 'Check `sasl.mechanism`.' },
  INVALID_PRODUCER_EPOCH: FENCED,
  PRODUCER_FENCED: FENCED,
  UNKNOWN_TOPIC_OR_PARTITION: away('a topic or partition is not there (any more)'),
  INVALID_REPLICATION_FACTOR: misfit(
    'the cluster cannot make so many copies of a topic',
    'Set `topics.replication` to the number of brokers at most.',
  ),
  INVALID_CONFIG: misfit('the broker refuses the settings of a topic', 'Mend `topics.config`.'),
  INVALID_TOPIC_EXCEPTION: misfit(
    "the broker refuses a topic's name",
    'Topics whose names differ by `.` and `_` alone exclude each other: choose another `prefix`.',
  ),
  POLICY_VIOLATION: misfit('a policy of the broker forbids such a topic', 'Create the topics yourself, or mend `topics`.'),
  UNSUPPORTED_FOR_MESSAGE_FORMAT: misfit(
    'the topic has an old message format without transactions',
    'Set `message.format.version` to 0.11 or later.',
  ),
  UNSUPPORTED_COMPRESSION_TYPE: misfit('the topic does not take this compression', 'Choose another `compression`.'),
  INVALID_TRANSACTION_TIMEOUT: misfit(
    'the broker allows no transaction of five minutes',
    'Set `transaction.max.timeout.ms` of the brokers to 300000 or more.',
  ),
  NOT_ENOUGH_REPLICAS: busy('too few copies of a partition are in step'),
  NOT_ENOUGH_REPLICAS_AFTER_APPEND: busy('too few copies of a partition are in step'),
  CONCURRENT_TRANSACTIONS: busy('the transaction before has not ended yet'),
  GROUP_COORDINATOR_NOT_AVAILABLE: busy('the coordinator is not there yet'),
  GROUP_LOAD_IN_PROGRESS: busy('the coordinator is still reading its state'),
  NOT_COORDINATOR_FOR_GROUP: busy('the coordinator has moved'),
  LEADER_NOT_AVAILABLE: busy('a partition has no leader at this moment'),
  NOT_LEADER_FOR_PARTITION: busy('a partition has another leader now'),
};

const BY_NAME: Readonly<Record<string, Meaning>> = {
  KafkaJSSASLAuthenticationError: BY_TYPE['SASL_AUTHENTICATION_FAILED']!,
  KafkaJSConnectionError: away('cannot be reached'),
  KafkaJSConnectionClosedError: away('the connection was closed'),
  KafkaJSRequestTimeoutError: away('did not answer in time'),
  KafkaJSBrokerNotFound: away('a broker is not there'),
  KafkaJSNoBrokerAvailableError: away('no broker is there'),
  KafkaJSMetadataNotLoaded: away('a topic is not there (any more)'),
  KafkaJSTopicMetadataNotLoaded: away('a topic is not there (any more)'),
  KafkaJSGroupCoordinatorNotFound: busy('the coordinator is not there yet'),
  KafkaJSLockTimeout: busy('did not answer in time'),
};

/** Codes of Node (https://nodejs.org/api/tls.html#x509-certificate-error-codes). */
const UNTRUSTED = /CERT|UNABLE_TO_VERIFY/;
const CERTIFICATE: Meaning = {
  code: 'SINK_DENIED',
  says: "the broker's certificate is not to be trusted",
  hint: 'Check `tls.ca`, and that the certificate names the host as `brokers` does.',
};

/** The error codes of brokers in an error and its causes, outermost first: `MESSAGE_TOO_LARGE` and so on. */
export const brokerErrorTypes = (error: unknown): string[] =>
  chainOf(error).flatMap((each) => ('type' in each && typeof each.type === 'string' ? [each.type] : []));

/** What was asked may be done or not, or be done yet: the connection broke, or the answer did not come in time. */
export const isUnanswered = (error: unknown): boolean =>
  chainOf(error).some(({ name }) => /^KafkaJS(Connection|ConnectionClosed|RequestTimeout)Error$/.test(name));

/** An error of kafkajs that hides what the broker said: `logged`, as kafkajs logged it. */
export const withLogged = (error: unknown, logged: string | null): unknown =>
  logged === null || !chainOf(error).some(({ name }) => name === 'KafkaJSGroupCoordinatorNotFound')
    ? error
    : Object.assign(new Error('the coordinator cannot be found', { cause: error }), { type: logged });

/** `target` says which cluster, without secrets; `place` which topic, where it is known. A WaggleError is given back as it is. */
export const toSinkError = (error: unknown, target: string, place?: string): WaggleError => {
  if (error instanceof WaggleError) return error;
  const where = place === undefined ? target : `${target}, topic ${place}`;
  const chain = chainOf(error);
  const types = brokerErrorTypes(error);
  const meaning =
    types.map((type) => BY_TYPE[type]).find((found) => found !== undefined) ??
    (chain.some((each) => 'code' in each && UNTRUSTED.test(String(each.code))) ? CERTIFICATE : undefined) ??
    chain.map(({ name }) => BY_NAME[name]).find((found) => found !== undefined);
  const detail = types[0] ?? chain.find((each) => 'code' in each && typeof each.code === 'string');
  const shown = typeof detail === 'string' ? ` (${detail})` : detail === undefined ? '' : ` (${String(Reflect.get(detail, 'code'))})`;
  if (meaning === undefined) {
    const message = chain[0]?.message.split('\n', 1)[0] ?? 'unknown error';
    return new WaggleError('SINK_FAILED', `${where}: ${message}${shown}`, { cause: error });
  }
  return new WaggleError(meaning.code, `${where}: ${meaning.says}${shown}`, {
    cause: error,
    ...(meaning.hint === undefined ? {} : { hint: meaning.hint }),
  });
};

/** The error, what it wraps, and so on; of several the first one. */
const chainOf = (error: unknown): Error[] => {
  const chain: Error[] = [];
  for (let next: unknown = error; next instanceof Error && chain.length < 10;) {
    chain.push(next);
    const inner: unknown = 'errors' in next && Array.isArray(next.errors) ? next.errors[0] : next.cause;
    next = inner === next ? null : inner;
  }
  return chain;
};
