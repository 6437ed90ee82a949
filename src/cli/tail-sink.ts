/** The one sink of `tail`: an error that cannot pass (the reader closed the pipe) ends the command instead of the sink alone. */
import type { Checkpoint } from '../change/change.ts';
import type { Batch, Sink, SinkContext } from '../pipeline/sink.ts';
import { WaggleError } from '../support/errors.ts';

export class TailSink implements Sink {
  readonly wants = 'changes';
  readonly #inner: Sink;
  readonly #failed = new AbortController();

  constructor(inner: Sink) {
    this.#inner = inner;
  }

  /** Aborted with the error as its reason. */
  get failed(): AbortSignal {
    return this.#failed.signal;
  }

  open(context: SinkContext): Promise<Checkpoint | null> {
    return this.#watch(() => this.#inner.open(context));
  }

  apply(batch: Batch): Promise<void> {
    return this.#watch(() => this.#inner.apply(batch));
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  async #watch<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof WaggleError && error.retryable)) this.#failed.abort(error);
      throw error;
    }
  }
}
