/** One POST request: signed, timed, its answer judged. */
import { failureError, bodyError, statusError } from './errors.ts';
import { tellsError } from './error-body.ts';
import { signatureOf } from './signature.ts';

export interface HttpSenderOptions {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Null: requests are not signed. */
  readonly key: Buffer | null;
  readonly timeoutMs: number;
  /** Look for an error in the body of a 2xx answer. */
  readonly errorBody: boolean;
}

export interface Message {
  /** Added to the URL's path; '' for the URL itself. */
  readonly path: string;
  /** The same for the same content, whenever and however often it is sent. */
  readonly id: string;
  /** JSON. */
  readonly body: string;
}

/** What of an answer is read at most to find an error in it. */
const ANSWER_BYTES = 64 * 1024;

export class HttpSender {
  /** For messages and logs: the host alone. */
  readonly label: string;
  readonly #options: HttpSenderOptions;
  readonly #url: string;
  readonly #credentials: Readonly<Record<string, string>>;

  constructor(options: HttpSenderOptions) {
    this.#options = options;
    const url = new URL(options.url);
    this.label = `webhook ${url.host}`;
    // fetch refuses a URL with credentials in it.
    this.#credentials = url.username === '' && url.password === '' ? {} : { authorization: basicAuthorization(url) };
    url.username = '';
    url.password = '';
    this.#url = url.href;
  }

  /** Resolves when the receiver has accepted the message. Throws SINK_*. */
  async send(message: Message, signal: AbortSignal): Promise<void> {
    const { timeoutMs, errorBody } = this.#options;
    // One controller and one timer: AbortSignal.any and timeout cost a third of a small request.
    const ended = new AbortController();
    const giveUp = (): void => ended.abort();
    const timer = setTimeout(() => ended.abort(new DOMException('', 'TimeoutError')), timeoutMs);
    signal.addEventListener('abort', giveUp);
    if (signal.aborted) giveUp();
    try {
      const response = await fetch(this.#target(message.path), {
        method: 'POST',
        headers: this.#headers(message),
        body: message.body,
        redirect: 'manual',
        signal: ended.signal,
      });
      const answer = await readAnswer(response);
      if (!response.ok) throw statusError(response.status, response.headers.get('retry-after'), this.label, Date.now());
      if (errorBody && tellsError(answer)) throw bodyError(response.status, this.label);
    } catch (error) {
      throw failureError(error, this.label, timeoutMs);
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', giveUp);
    }
  }

  #target(path: string): string {
    if (path === '') return this.#url;
    const url = new URL(this.#url);
    url.pathname = url.pathname.replace(/\/$/, '') + path;
    return url.href;
  }

  #headers({ id, body }: Message): Record<string, string> {
    const { key, headers } = this.#options;
    const timestamp = Math.floor(Date.now() / 1000);
    return {
      ...this.#credentials,
      ...headers,
      'content-type': 'application/json',
      'webhook-id': id,
      'webhook-timestamp': String(timestamp),
      ...(key === null ? {} : { 'webhook-signature': signatureOf(key, { id, timestamp, body }) }),
    };
  }
}

const basicAuthorization = ({ username, password }: URL): string =>
  `Basic ${Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`).toString('base64')}`;

/** The body as text; null where it is larger than anybody's word about an error. Read to its end, so that the connection can be used again. */
const readAnswer = async (response: Response): Promise<string | null> => {
  if (response.body === null) return null;
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body) {
    bytes += chunk.length;
    if (bytes > ANSWER_BYTES) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
};
