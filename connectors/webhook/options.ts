import { z } from 'zod';
import { DURATION_PATTERN, SIZE_PATTERN } from '../../src/support/units.ts';

const isHttpUrl = (text: string): boolean => /^https?:\/\//.test(text) && URL.canParse(text);
/** What the connector sets by itself, and what would change how the body is framed. */
const OWN_HEADERS = /^(content-(type|length|encoding)|webhook-(id|timestamp|signature)|host|connection|transfer-encoding)$/i;

/** Options of `type: webhook`. */
export const options = z.strictObject({
  url: z
    .string()
    .refine(isHttpUrl, { error: 'must look like https://host/path' })
    .describe('Where requests are posted to. In the format `hive` `/sync` and `/sync/batch` are added to its path.'),
  format: z
    .enum(['envelope', 'hive', 'convex'])
    .default('envelope')
    .describe(
      "Body of a request. envelope: a JSON array of events. hive: {model, operation: create|update|delete, data, recordId, timestamp}, several as {model, operation, records, timestamp}. convex: {model, operation: add|set|remove, data, hiveId}. The model is the table's name in the target (`to`).",
    ),
  secret: z
    .string()
    .min(1)
    .optional()
    .describe(
      'Signs each request as Standard Webhooks do (HMAC-SHA256, headers webhook-id, webhook-timestamp and webhook-signature). `whsec_` and base64, or any text. Keep it out of the file: ${WEBHOOK_SECRET}.',
    ),
  headers: z
    .record(
      z.string().regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/, { error: 'must be the name of a header' }),
      z.string().regex(/^[\t\x20-\x7e]*$/, { error: 'must be printable ASCII' }),
    )
    .refine((headers) => !Object.keys(headers).some((name) => OWN_HEADERS.test(name)), { error: 'sets a header that waggle sets by itself' })
    .default({})
    .describe('Headers of your own, such as X-Sync-Secret or Authorization. Keep secrets out of the file: ${SYNC_SECRET}.'),
  timeout: z
    .string()
    .regex(DURATION_PATTERN, { error: 'must be a duration like 50ms, 10s or 1h' })
    .default('30s')
    .describe('How long an answer may take.'),
  concurrency: z
    .int()
    .min(1)
    .max(64)
    .default(1)
    .describe('Requests at the same time at most. 1: changes arrive in the order of the log. More: only the changes of one row keep their order.'),
  max_records: z.int().min(1).max(10_000).default(500).describe('Changes in one request at most. The format convex always sends one.'),
  max_body: z
    .string()
    .regex(SIZE_PATTERN, { error: 'must be a size like 100MB or 64KiB' })
    .default('1MB')
    .describe('A body that has reached this size takes no further change.'),
  error_body: z
    .boolean()
    .default(true)
    .describe(
      'A 2xx answer counts as a refusal when its JSON says so: `success` or `ok` is false, `status` is "error" or "failed", or `error` or `errors` is set. false: only the status counts.',
    ),
  truncate: z
    .boolean()
    .default(false)
    .describe(
      'Formats hive and convex, which know no such operation: tell an emptied or dropped table as {model, operation: "truncate"}. false: it is left out, with a warning.',
    ),
});

export type WebhookOptions = z.infer<typeof options>;
