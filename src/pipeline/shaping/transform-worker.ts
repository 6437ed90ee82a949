/** Runs inside the transform's thread: loads the user's module, answers lists of rows. Errors leave it without their messages, which may quote a row. */
import { pathToFileURL } from 'node:url';
import { parentPort, workerData } from 'node:worker_threads';
import type { Answer, FromThread, Question } from './transform-thread.ts';

type Transform = (row: Readonly<Record<string, unknown>>, context: { readonly table: string; readonly op: string }) => unknown;

const { module, progress } = workerData as { module: string; progress: Int32Array };
const tell = (message: FromThread): void => parentPort!.postMessage(message);

const load = async (): Promise<Transform> => {
  const { default: transform } = (await import(pathToFileURL(module).href)) as { default?: unknown };
  if (typeof transform !== 'function') throw new TypeError('it has no default export that is a function');
  return transform as Transform;
};

const answer = (transform: Transform, { row, table, op }: Question): Answer => {
  try {
    const result = transform(row, { table, op });
    if (result === null) return { kind: 'row', row: null };
    if (typeof result !== 'object' || Array.isArray(result) || result instanceof Promise)
      return { kind: 'failed', reason: 'gave neither an object nor null' };
    return { kind: 'row', row: plainOf(result) };
  } catch (error) {
    return { kind: 'failed', reason: `threw ${error instanceof Error ? error.name : typeof error}${placeOf(error)}` };
  }
};

/** What structured clone refuses (a function) is given as undefined: no value of a database. */
const plainOf = (row: object): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(row).map(([name, value]: [string, unknown]) => [
      name,
      typeof value === 'function' || typeof value === 'symbol' ? undefined : value,
    ]),
  );

/** ` at line:column` of the module. */
const placeOf = (error: unknown): string => {
  const stack = error instanceof Error ? (error.stack ?? '') : '';
  const at = stack.split('\n').find((line) => line.includes(pathToFileURL(module).href));
  const place = /:(\d+:\d+)\)?$/.exec(at ?? '')?.[1];
  return place === undefined ? '' : ` at ${place}`;
};

try {
  const transform = await load();
  parentPort!.on('message', (questions: readonly Question[]) => {
    const answers = questions.map((question, index) => {
      const result = answer(transform, question);
      Atomics.store(progress, 0, index + 1);
      return result;
    });
    tell({ answers });
  });
  tell({ ready: true });
} catch (error) {
  tell({ failed: error instanceof Error ? (error.message.split('\n')[0] ?? error.name) : 'it cannot be loaded' });
}
