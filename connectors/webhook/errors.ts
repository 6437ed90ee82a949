/**
 * Answers and failures of HTTP as codes of the closed list. Messages hold the status and the host, never the URL (it may
 * carry a token), a header or a word of a body (it may quote a row).
 */
import { type ErrorCode, systemErrorCode, WaggleError } from '../../src/support/errors.ts';

const BY_STATUS: Readonly<Record<number, ErrorCode>> = {
  400: 'SINK_ROW_REFUSED',
  401: 'SINK_DENIED',
  402: 'SINK_DENIED',
  403: 'SINK_DENIED',
  407: 'SINK_DENIED',
  408: 'SINK_BUSY',
  409: 'SINK_ROW_REFUSED',
  413: 'SINK_ROW_REFUSED',
  415: 'SINK_ROW_REFUSED',
  422: 'SINK_ROW_REFUSED',
  425: 'SINK_BUSY',
  429: 'SINK_BUSY',
};

const HINTS: Partial<Record<ErrorCode, string>> = {
  SINK_ROW_REFUSED: "Read the receiver's log for the reason; mend the receiver or the row.",
  SINK_BUSY: 'Nothing to do: waggle tries again, not before the time of Retry-After.',
};

/** Longest time that a Retry-After is waited for: a wrong date must not stop a sink for a year. */
const MAX_RETRY_AFTER_MS = 3_600_000;

/** For any status but 2xx. `retryAfter`: the header's value. */
export const statusError = (status: number, retryAfter: string | null, label: string, nowMs: number): WaggleError => {
  const code = BY_STATUS[status] ?? (status >= 500 ? 'SINK_BUSY' : 'SINK_DENIED');
  const retryAfterMs = code === 'SINK_BUSY' ? parseRetryAfter(retryAfter, nowMs) : null;
  return new WaggleError(code, `${label}: the receiver answered ${status}${wordsFor(status)}`, {
    hint: code === 'SINK_DENIED' ? deniedHint(status) : HINTS[code]!,
    ...(retryAfterMs === null ? {} : { retryAfterMs }),
  });
};

/** A 2xx answer whose body tells of an error. */
export const bodyError = (status: number, label: string): WaggleError =>
  new WaggleError('SINK_ROW_REFUSED', `${label}: the receiver answered ${status}, but its body tells of an error`, {
    hint: "Read the receiver's log for the reason. If that body is no error, set `error_body: false`.",
  });

/** What `fetch` throws: no answer came, or not in time. */
export const failureError = (error: unknown, label: string, timeoutMs: number): WaggleError => {
  if (error instanceof WaggleError) return error;
  if (isTimeout(error)) return new WaggleError('SINK_UNREACHABLE', `${label}: no answer within ${timeoutMs} ms`, { cause: error });
  const reason = systemErrorCode(error instanceof Error ? error.cause : null) ?? systemErrorCode(error);
  if (reason !== null && /CERT|SELF_SIGNED|TLS|SSL|LEAF_SIGNATURE/.test(reason))
    return new WaggleError('SINK_DENIED', `${label}: its certificate is not accepted (${reason})`, {
      hint: 'Mend the certificate, or name its authority in NODE_EXTRA_CA_CERTS.',
    });
  return new WaggleError('SINK_UNREACHABLE', `${label}: ${reason === 'ECONNREFUSED' ? 'nobody listens there' : `no answer (${reason ?? 'cut'})`}`, {
    cause: error,
  });
};

/** Milliseconds from now; null where the header is missing or is neither seconds nor a date (RFC 9110, 10.2.3). */
export const parseRetryAfter = (value: string | null, nowMs: number): number | null => {
  if (value === null) return null;
  const delayMs = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - nowMs;
  return Number.isNaN(delayMs) ? null : Math.min(Math.max(delayMs, 0), MAX_RETRY_AFTER_MS);
};

const isTimeout = (error: unknown): boolean => error instanceof Error && error.name === 'TimeoutError';

const wordsFor = (status: number): string => {
  if (status === 401 || status === 403) return ' (the secret or the token is not accepted)';
  if (status === 413) return ' (the body is too large)';
  if (status === 404 || status === 410) return ' (there is nothing at this path)';
  return status >= 300 && status < 400 ? ' (a redirect, which is not followed)' : '';
};

const deniedHint = (status: number): string =>
  status === 401 || status === 402 || status === 403 || status === 407
    ? 'Check `headers` and `secret`.'
    : 'Check `url`, and name the final address: what is signed is not sent elsewhere.';
