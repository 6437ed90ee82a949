/**
 * The priority of capture's own thread (Linux; elsewhere the process's). Behind the application where there are fewer cores than work,
 * but not for ever: what capture does not take fills the keeper's spool, and at its limit there would be a gap.
 */
import { getPriority, setPriority } from 'node:os';

/**
 * About a tenth of the application's share. Not the last place: at 19 a machine that had three times as much work as cores kept two
 * changes waiting for twenty seconds.
 */
const NICENESS = 10;
/** Behind for so long without a break, capture is as good as anybody else. */
const PATIENCE_MS = 10_000;

export class CapturePriority {
  readonly #own = getPriority();
  #isYielding = false;
  #behindSince: number | null = null;

  /** Not before the keeper was started: it must not inherit this, since it holds the application up for as long as a barrier takes. */
  yield(): void {
    if (this.#isYielding) return;
    this.#isYielding = this.#set(Math.max(this.#own, NICENESS));
  }

  /** Called after each batch. */
  note(isBehind: boolean, nowMs: number): void {
    if (!isBehind) {
      this.#behindSince = null;
      this.yield();
      return;
    }
    this.#behindSince ??= nowMs;
    if (this.#isYielding && nowMs - this.#behindSince > PATIENCE_MS) this.#isYielding = !this.#set(this.#own);
  }

  #set(niceness: number): boolean {
    try {
      setPriority(0, niceness);
      return true;
    } catch {
      // Not allowed here (a process without rights cannot take back what it gave): it competes as it is.
      return false;
    }
  }
}
