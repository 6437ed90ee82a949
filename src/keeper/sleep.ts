const cell = new Int32Array(new SharedArrayBuffer(4));

/** Blocks the thread; fractions of a millisecond count. For waits that are shorter than a timer can be. */
export const sleepMs = (delayMs: number): void => {
  Atomics.wait(cell, 0, 0, delayMs);
};
