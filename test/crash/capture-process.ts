/** Capture in a process that can be killed and seen by the shim. argv: options of CaptureRun, path of a file for what readers were told. */
import { openSync, writeSync } from 'node:fs';
import { CaptureRun } from '../helpers/capture-run.ts';

export type FromCaptureProcess =
  | { readonly type: 'ready' }
  | { readonly type: 'head'; readonly seq: number }
  | { readonly type: 'ended'; readonly error: string | null };

const told = openSync(process.argv[3]!, 'a');
const send = (message: FromCaptureProcess): void => void process.send?.(message);
const run = new CaptureRun(JSON.parse(process.argv[2]!), (seq) => {
  // In the trace it stands behind everything that made this seq durable.
  writeSync(told, `${seq}\n`);
  send({ type: 'head', seq });
});
process.on('message', () => void run.stop());
if (await run.ready()) send({ type: 'ready' });
const error = await run.ended;
send({ type: 'ended', error: error === null ? null : error instanceof Error ? (error.stack ?? error.message) : 'failed' });
process.disconnect();
