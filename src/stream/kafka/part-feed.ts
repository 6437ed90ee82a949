/**
 * The parts of a batch that come from elsewhere, one after the other, while a sink applies it: of what Kafka fetches, no more is in memory than the part that the
 * sink is at.
 */
import type { SinkChange } from '../../pipeline/sink.ts';
import { WaggleError } from '../../support/errors.ts';

export class PartFeed {
  #begun = false;
  #failure: WaggleError | null = null;
  /** Null: there are no more. */
  #next = Promise.withResolvers<SinkChange[] | null>();
  #taken = Promise.withResolvers<void>();

  constructor() {
    this.#next.promise.catch(() => {});
  }

  /** For `Batch`. Can be had once: a sink that took all back gets it again from Kafka, by SINK_BUSY. */
  async *parts(): AsyncGenerator<SinkChange[], void, undefined> {
    if (this.#begun) throw new WaggleError('SINK_BUSY', 'the transaction is too large to be kept: it is read again');
    this.#begun = true;
    for (;;) {
      const part = await this.#next.promise;
      if (part === null) return;
      if (part.length > 0) yield part;
      if (this.#failure !== null) throw this.#failure;
      const { resolve } = this.#taken;
      this.#next = Promise.withResolvers();
      this.#next.promise.catch(() => {});
      this.#taken = Promise.withResolvers();
      resolve();
    }
  }

  /** Resolves when the sink asks for the next one; never, if it ended before. */
  put(part: SinkChange[]): Promise<void> {
    const { promise } = this.#taken;
    this.#next.resolve(part);
    return promise;
  }

  end(): void {
    this.#next.resolve(null);
  }

  /** The sink's `apply` is to give up. */
  breakOff(): void {
    this.#failure = new WaggleError('SINK_BUSY', 'the transaction was broken off');
    this.#next.reject(this.#failure);
  }
}
