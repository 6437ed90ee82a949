/** A sink's status as it changes: kept, and saved at most four times a second. */
import type { Logger } from 'pino';
import type { Clock } from '../support/clock.ts';
import type { SinkStatus } from './sink-status.ts';

export interface StatusWriterOptions {
  readonly initial: SinkStatus;
  readonly save: (status: SinkStatus) => void;
  /** Asked when the status is saved, since it needs the log. */
  readonly lag: (status: SinkStatus) => SinkStatus['lag'];
  readonly clock: Clock;
  readonly logger: Logger;
}

const SAVE_EVERY_MS = 250;

export class StatusWriter {
  readonly #options: StatusWriterOptions;
  #status: SinkStatus;
  #savedAtMs = Number.NEGATIVE_INFINITY;
  #pending: Promise<void> | null = null;
  #closed = false;

  constructor(options: StatusWriterOptions) {
    this.#options = options;
    this.#status = options.initial;
  }

  get status(): SinkStatus {
    return this.#status;
  }

  update(change: Partial<Omit<SinkStatus, 'name' | 'lag' | 'updatedAtMs'>>): void {
    const stateChanged = change.state !== undefined && change.state !== this.#status.state;
    this.#status = { ...this.#status, ...change };
    if (stateChanged) this.#save();
    else this.#saveSoon();
  }

  /** Saves what is not saved yet; nothing is saved afterwards. */
  close(): void {
    this.#save();
    this.#closed = true;
  }

  #saveSoon(): void {
    if (this.#pending !== null || this.#closed) return;
    const { clock } = this.#options;
    const delayMs = this.#savedAtMs + SAVE_EVERY_MS - clock.now();
    if (delayMs <= 0) {
      this.#save();
      return;
    }
    this.#pending = clock.sleep(delayMs).then(() => {
      this.#pending = null;
      this.#save();
    });
  }

  /** A status that cannot be saved hinders no sink. */
  #save(): void {
    if (this.#closed) return;
    const { clock, save, lag, logger } = this.#options;
    this.#savedAtMs = clock.now();
    try {
      this.#status = { ...this.#status, lag: lag(this.#status), updatedAtMs: this.#savedAtMs };
      save(this.#status);
    } catch (error) {
      logger.debug({ err: error }, 'the status of the sink cannot be saved');
    }
  }
}
