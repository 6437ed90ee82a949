/** Time that passes only by being slept through: each sleep ends at the next turn of the event loop. */
import { setImmediate } from 'node:timers/promises';
import type { Clock } from '../../src/support/clock.ts';

export class TestClock implements Clock {
  nowMs = 1_700_000_000_000;
  chance = 0.5;
  readonly slept: number[] = [];

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
    await setImmediate();
    if (!aborted()) this.nowMs += delayMs;
  }
}
