/** Where capture begins in a thread (worker_threads) or in a process of its own (child_process with an IPC channel). */
import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { WaggleError } from '../support/errors.ts';
import { Capture } from './capture.ts';
import type { CaptureOptions, FromCapture, ToCapture } from './protocol.ts';

const main = async (
  options: CaptureOptions,
  channel: { post: (message: FromCapture) => void; listen: (receive: (message: ToCapture) => void) => void },
): Promise<void> => {
  const capture = new Capture(options, { post: channel.post });
  channel.listen((message) => {
    if (message.type === 'stop') capture.stop();
    else if (message.type === 'keepAfter') capture.keepAfter(message.seq);
    else capture.readRows(message);
  });
  try {
    await capture.run();
    channel.post({ type: 'stopped' });
  } catch (error) {
    const fault =
      error instanceof WaggleError
        ? error
        : new WaggleError('CAPTURE_DIED', `capture failed: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
    if (!(error instanceof WaggleError) && error instanceof Error && error.stack !== undefined) fault.stack = error.stack;
    channel.post({ type: 'failed', error: fault.toJSON() });
  }
};

if (isMainThread) {
  // Ctrl-C on a terminal reaches this process too; the parent decides, and its end is ours.
  process.on('SIGINT', () => {});
  process.on('SIGTERM', () => {});
  const options = JSON.parse(process.argv[2] ?? '{}') as CaptureOptions;
  let stop = (): void => process.exit(1);
  process.on('disconnect', () => stop());
  await main(options, {
    post: (message) => void process.send?.(message),
    listen: (receive) => {
      process.on('message', (message) => receive(message as ToCapture));
      stop = () => receive({ type: 'stop' });
    },
  });
  if (process.connected) process.disconnect();
} else {
  const port = parentPort!;
  await main(workerData as CaptureOptions, {
    post: (message) => port.postMessage(message),
    listen: (receive) => void port.on('message', (message) => receive(message as ToCapture)),
  });
  port.close();
}
