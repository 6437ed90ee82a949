/**
 * Errors of MongoDB and its driver as codes of the closed list (https://www.mongodb.com/docs/manual/reference/error-codes/).
 * Messages of refused writes quote values: they are replaced, and never kept as a cause.
 */
import { MongoError, MongoInvalidArgumentError, MongoParseError } from 'mongodb';
import { type ErrorCode, systemErrorCode, WaggleError } from '../../src/support/errors.ts';

export const DUPLICATE_KEY = 11_000;
export const NAMESPACE_EXISTS = 48;

const BY_NUMBER: ReadonlyMap<number, ErrorCode> = new Map(
  (
    [
      // Lock and time limits, write conflicts, a transaction that the server ended, overload.
      ['SINK_BUSY', [24, 46, 50, 112, 117, 202, 225, 244, 246, 251, 256, 262, 267, 290, 462]],
      // Host or network, shutting down, no primary here (any more).
      ['SINK_UNREACHABLE', [6, 7, 89, 91, 189, 134, 317, 358, 384, 402, 9001, 10058, 10107, 11600, 11602, 13435, 13436]],
      ['SINK_DENIED', [11, 13, 18, 31, 33, 8000]],
      ['SINK_ROW_REFUSED', [2, 15, 22, 52, 55, 56, 57, 121, 10334, 11000, 11001, 12582, 17280, 17419]],
      ['SINK_TABLE_MISFIT', [73, 166, 167]],
    ] as const
  ).flatMap(([code, numbers]) => numbers.map((number) => [number, code] as const)),
);

/** The server's error is about what is in a document. */
export const isRefusal = (code: number): boolean => BY_NUMBER.get(code) === 'SINK_ROW_REFUSED';

const RETRYABLE_LABELS = ['TransientTransactionError', 'RetryableWriteError', 'SystemOverloadedError', 'RetryableError', 'ResetPool'];
const NETWORK =
  /^Mongo(Network|ServerSelection|TopologyClosed|NotConnected|PoolCleared|PoolClosed|ConnectionPool|WaitQueue|ServerClosed|ClientClosed|Expired)/;

/** The error and what it wraps: a network failure inside a bulk stands in its cause. */
const chain = function* (error: unknown): Generator<Error> {
  const seen = new Set<unknown>();
  for (let one = error; one instanceof Error && !seen.has(one);) {
    seen.add(one);
    yield one;
    const original: unknown = Reflect.get(one, 'originalError') ?? Reflect.get(one, 'errorResponse') ?? one.cause;
    one = original instanceof Error ? original : one.cause;
  }
};

/** The server's error number, or null for what the server did not say. */
export const serverError = (error: unknown): number | null => {
  for (const one of chain(error)) {
    const code: unknown = Reflect.get(one, 'code');
    if (typeof code === 'number') return code;
  }
  return null;
};

/** `place` says which table, where it is known. A WaggleError is given back as it is. */
export const toSinkError = (error: unknown, target: string, place?: string): WaggleError => {
  if (error instanceof WaggleError) return error;
  const where = place === undefined ? target : `${target}, table ${place}`;
  const number = serverError(error);
  const errors = [...chain(error)];
  const name = error instanceof MongoError && 'codeName' in error && typeof error.codeName === 'string' ? `${error.codeName}, ` : '';
  if (number !== null && BY_NUMBER.has(number)) {
    const code = BY_NUMBER.get(number)!;
    return new WaggleError(code, `${where}: ${REASONS[code] ?? 'the server answered with an error'} (${name}${number})`);
  }
  const lost = errors.find((one) => NETWORK.test(one.name));
  if (lost !== undefined) return new WaggleError('SINK_UNREACHABLE', `${where}: cannot be reached (${systemErrorCode(rootOf(lost)) ?? lost.name})`);
  const transient = errors.some((one) => one instanceof MongoError && RETRYABLE_LABELS.some((label) => one.hasErrorLabel(label)));
  if (transient) return new WaggleError('SINK_BUSY', `${where}: the server asks to try again${number === null ? '' : ` (${name}${number})`}`);
  if (error instanceof RangeError || error instanceof MongoInvalidArgumentError)
    return new WaggleError('SINK_ROW_REFUSED', `${where}: MongoDB does not take a document (${error.name})`);
  if (number !== null) return new WaggleError('SINK_FAILED', `${where}: the server answered with an error (${name}${number})`);
  if (error instanceof MongoParseError) return new WaggleError('CONFIG_INVALID', `${where}: the url is not understood: ${error.message}`);
  const message = error instanceof Error ? `${error.name}: ${error.message.split('\n', 1)[0]!}` : 'unknown error';
  return new WaggleError('SINK_FAILED', `${where}: ${message}`);
};

const rootOf = (error: Error): unknown => [...chain(error)].at(-1);

const REASONS: Partial<Record<ErrorCode, string>> = {
  SINK_BUSY: 'the server asks to try again',
  SINK_UNREACHABLE: 'the server cannot be written to at the moment',
  SINK_DENIED: 'the server refuses the user or a right that is needed',
  SINK_ROW_REFUSED: 'the target refuses a row',
  SINK_TABLE_MISFIT: 'the server does not take the collection',
};
