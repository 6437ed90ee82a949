/** Ctrl-C and SIGTERM as one AbortSignal. */

/** Aborts at the first SIGINT or SIGTERM; the second one ends the process at once. */
export const stopSignal = (): AbortSignal => {
  const controller = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.on(name, () => {
      if (controller.signal.aborted) process.exit(name === 'SIGINT' ? 130 : 143);
      controller.abort();
    });
  }
  return controller.signal;
};
