/** The connector `kafka`: changes as records of topics, exactly once. */
import type { Sink } from '../../src/pipeline/sink.ts';
import { KafkaSink } from './kafka-sink.ts';
import type { KafkaOptions } from './options.ts';

export const createSink = (options: KafkaOptions): Sink => new KafkaSink(options);
