/** The library. Everything that is meant to be imported stands here. */
export { watch, type WatchHiveOptions } from './watch.ts';
export type { WatchedTransaction } from './stream/watch.ts';
export type { EnvelopeEvent } from './change/envelope-object.ts';
export { type ChangeRecord, parseChange, type ParsedChange } from './change/parse-change.ts';
export { WaggleError, type ErrorCode } from './support/errors.ts';
export type { Batch, Sink, SinkChange, SinkColumn, SinkContext, SinkTable } from './pipeline/sink.ts';
