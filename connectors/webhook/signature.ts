/**
 * Signatures as Standard Webhooks has them (https://www.standardwebhooks.com, "Signature scheme"):
 *
 *     webhook-id         names the message; the same when it is sent again
 *     webhook-timestamp  seconds since 1970, when it was sent
 *     webhook-signature  "v1," and base64 of HMAC-SHA256(key, "<id>.<timestamp>.<body>")
 */
import { createHmac } from 'node:crypto';

const PREFIX = 'whsec_';

/** The key's bytes: `whsec_` and base64, or the UTF-8 bytes of any other text. */
export const signingKey = (secret: string): Buffer =>
  secret.startsWith(PREFIX) ? Buffer.from(secret.slice(PREFIX.length), 'base64') : Buffer.from(secret);

/** The value of `webhook-signature`. */
export const signatureOf = (key: Buffer, { id, timestamp, body }: { id: string; timestamp: number; body: string }): string =>
  `v1,${createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64')}`;
