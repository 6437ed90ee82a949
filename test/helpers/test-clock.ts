/** Time that passes only while somebody sleeps: ten milliseconds with each turn of the event loop. */
import { setImmediate } from 'node:timers/promises';
import type { Clock } from '../../src/support/clock.ts';

const TURN_MS = 10;

export class TestClock implements Clock {
  nowMs = 1_700_000_000_000;
  chance = 0.5;
  readonly slept: number[] = [];
  #turn: Promise<void> | null = null;

  now(): number {
    return this.nowMs;
  }

  random(): number {
    return this.chance;
  }

  async sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    const aborted = (): boolean => signal?.aborted ?? false;
    if (aborted()) return;
    this.slept.push(delayMs);
    const endMs = this.nowMs + delayMs;
    while (this.nowMs < endMs && !aborted()) {
      this.#turn ??= setImmediate().then(() => {
        this.nowMs += TURN_MS;
        this.#turn = null;
      });
      await this.#turn;
    }
  }
}
