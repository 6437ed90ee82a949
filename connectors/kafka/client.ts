/** A kafkajs client as waggle uses it: its words into waggle's log, zstd from Node itself, few tries (the runner has its own). */
import { readFileSync } from 'node:fs';
import type { ConnectionOptions } from 'node:tls';
import { promisify } from 'node:util';
import { zstdCompress, zstdDecompress } from 'node:zlib';
import kafkajs, { type Kafka, type SASLOptions } from 'kafkajs';
import type { Logger } from 'pino';
import { systemErrorCode, WaggleError } from '../../src/support/errors.ts';
import { brokerList, type KafkaOptions } from './options.ts';
import { speedUpProduce } from './fast-produce.ts';
import { mendRequestQueue } from './request-queue.ts';

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

/** What belongs to the process; may be called again. */
export const prepareKafkajs = (): void => {
  mendRequestQueue();
  speedUpProduce();
  kafkajs.CompressionCodecs[kafkajs.CompressionTypes.ZSTD] = () => ({
    compress: ({ buffer }: { buffer: Buffer }) => compress(buffer),
    decompress: (buffer: Buffer) => decompress(buffer),
  });
};

export const COMPRESSION = {
  none: kafkajs.CompressionTypes.None,
  gzip: kafkajs.CompressionTypes.GZIP,
  zstd: kafkajs.CompressionTypes.ZSTD,
} as const;

const CONNECT_TIMEOUT_MS = 5000;
const REQUEST_TIMEOUT_MS = 30_000;

/**
 * Throws CONFIG_INVALID for a file that cannot be read. Connects nowhere yet. `onLogged` is told the broker's error codes that kafkajs logs (at its level
 * DEBUG): some of them it then replaces by "not found".
 */
export const makeClient = (options: KafkaOptions, { logger, onLogged }: { logger: Logger; onLogged: (type: string) => void }): Kafka => {
  prepareKafkajs();
  return new kafkajs.Kafka({
    clientId: options.client_id,
    brokers: brokerList(options),
    ssl: tlsOptions(options.tls),
    ...(options.sasl === undefined ? {} : { sasl: { ...options.sasl } as SASLOptions }),
    connectionTimeout: CONNECT_TIMEOUT_MS,
    authenticationTimeout: CONNECT_TIMEOUT_MS * 2,
    requestTimeout: REQUEST_TIMEOUT_MS,
    retry: { initialRetryTime: 100, maxRetryTime: 1000, retries: 4 },
    // What matters comes as an error; the rest is for those who look closely.
    logCreator:
      () =>
      ({ namespace, label, log: { message, error } }) => {
        const type: unknown = error instanceof Error ? Reflect.get(error, 'type') : undefined;
        if (typeof type === 'string') onLogged(type);
        logger.debug({ kafkajs: namespace, label }, message);
      },
  });
};

const tlsOptions = (tls: KafkaOptions['tls']): ConnectionOptions | boolean => {
  if (typeof tls === 'boolean') return tls;
  return Object.fromEntries(Object.entries(tls).flatMap(([name, file]) => (file === undefined ? [] : [[name, readPem(file)]])));
};

const readPem = (file: string): string => {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new WaggleError('CONFIG_INVALID', `kafka: ${file} cannot be read (${systemErrorCode(error) ?? 'unknown error'})`, { cause: error });
  }
};
