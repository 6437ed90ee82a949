/**
 * The head of the log, told by capture, for everyone in this process who waits for it.
 *
 * A notice can get lost (another process writes the log): who waits therefore always waits with a time, too.
 */
import { type Clock, systemClock } from '../support/clock.ts';

export interface HeadWait {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

export class HeadNotice {
  readonly #clock: Clock;
  readonly #waiting = new Set<() => void>();
  #seq = 0;

  constructor(clock: Clock = systemClock) {
    this.#clock = clock;
  }

  /** The newest head that was told; 0 before the first. */
  get seq(): number {
    return this.#seq;
  }

  /** Capture appended up to this seq. */
  notify(seq: number): void {
    this.#seq = seq;
    for (const wake of this.#waiting) wake();
  }

  /** Resolves when the head is told to be behind `seq`, when the time is over, or when the signal is aborted. Never rejects. */
  async waitBehind(seq: number, wait: HeadWait): Promise<void> {
    if (this.#seq > seq || wait.signal?.aborted === true) return;
    const ended = new AbortController();
    const told = new Promise<void>((resolve) => {
      const wake = (): void => {
        if (this.#seq <= seq) return;
        resolve();
      };
      this.#waiting.add(wake);
      ended.signal.addEventListener('abort', () => this.#waiting.delete(wake), { once: true });
    });
    const signal = wait.signal === undefined ? ended.signal : AbortSignal.any([ended.signal, wait.signal]);
    await Promise.race([told, this.#clock.sleep(wait.timeoutMs, signal)]);
    ended.abort();
  }
}
