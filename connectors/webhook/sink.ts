/** The connector `webhook`: changes as HTTP POST requests. */
import type { Sink } from '../../src/pipeline/sink.ts';
import { parseDuration, parseSize } from '../../src/support/units.ts';
import { HttpSender } from './http-sender.ts';
import type { WebhookOptions } from './options.ts';
import { signingKey } from './signature.ts';
import { WebhookSink } from './webhook-sink.ts';

export const createSink = (options: WebhookOptions): Sink =>
  new WebhookSink({
    sender: new HttpSender({
      url: options.url,
      headers: options.headers,
      key: options.secret === undefined ? null : signingKey(options.secret),
      timeoutMs: parseDuration(options.timeout),
      errorBody: options.error_body,
    }),
    format: options.format,
    concurrency: options.concurrency,
    truncate: options.truncate,
    limits: { records: options.max_records, characters: parseSize(options.max_body) },
  });
