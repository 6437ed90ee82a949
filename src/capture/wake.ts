/**
 * When to look again. A notice of the file system comes when a frame is written, some microseconds before its commit
 * is published, and not for every commit: so behind each notice and each commit the wal-index is asked again and again
 * for a moment, then every millisecond, then only at a notice or, in case one got lost, after a tenth of the silence so far.
 */

/** Asked without a pause for this long: the commit that a notice announced is published in it. */
const SPIN_MS = 0.1;
/** Then every millisecond for this long: a writer that has just committed often commits again. */
const POLL_MS = 15;
const IDLE_POLL_MS = 50;
const IDLE_POLL_MAX_MS = 1000;
/** Without notices. */
const NOTICELESS_POLL_MS = 2;
const IDLE_MS = 500;

export class Wake {
  #activeAt = performance.now();
  #resolve: (() => void) | null = null;
  #hasNotices = true;

  /** Something may have happened. */
  notify(): void {
    this.active();
    this.#resolve?.();
  }

  /** Something did happen; nobody waits. */
  active(): void {
    this.#activeAt = performance.now();
  }

  /** There will be no notices. */
  pollOnly(): void {
    this.#hasNotices = false;
  }

  /** Nothing has happened for so long that nobody is disturbed by what the disk does. */
  get isIdle(): boolean {
    return performance.now() - this.#activeAt > IDLE_MS;
  }

  wait(): Promise<void> {
    const since = performance.now() - this.#activeAt;
    if (since < SPIN_MS) return new Promise((resolve) => void setImmediate(resolve));
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#resolve = null;
        resolve();
      };
      const timer = setTimeout(done, since < POLL_MS ? 1 : this.#idlePollMs(since));
      this.#resolve = done;
    });
  }

  #idlePollMs(since: number): number {
    return this.#hasNotices ? Math.min(IDLE_POLL_MAX_MS, Math.max(IDLE_POLL_MS, since / 10)) : NOTICELESS_POLL_MS;
  }
}
