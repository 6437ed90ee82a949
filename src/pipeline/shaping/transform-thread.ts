/** The thread in which a user's transform module runs, and the conversation with it. */
import { Worker } from 'node:worker_threads';
import { WaggleError } from '../../support/errors.ts';

export interface Question {
  readonly table: string;
  readonly op: string;
  readonly row: Readonly<Record<string, unknown>>;
}

/** `reason`: what the module did, without a word of the row. */
export type Answer =
  | { readonly kind: 'row'; readonly row: Readonly<Record<string, unknown>> | null }
  | { readonly kind: 'failed'; readonly reason: string }
  /** Another row of the same question took too long. */
  | { readonly kind: 'none' };

export interface ThreadOptions {
  /** Stands before an error about the module. */
  readonly place: string;
  readonly module: string;
  readonly timeoutMs: number;
}

export type FromThread = { readonly ready: true } | { readonly failed: string } | { readonly answers: readonly Answer[] };

const WORKER = new URL(`./transform-worker${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);
const START_MS = 10_000;

export class TransformThread {
  readonly #worker: Worker;
  readonly #timeoutMs: number;
  /** How many rows of the question under way are answered. */
  readonly #progress: Int32Array;

  private constructor(worker: Worker, timeoutMs: number, progress: Int32Array) {
    this.#worker = worker;
    this.#timeoutMs = timeoutMs;
    this.#progress = progress;
  }

  /** Throws CONFIG_INVALID where the module cannot be loaded or has no function. */
  static async start({ place, module, timeoutMs }: ThreadOptions): Promise<TransformThread> {
    const progress = new Int32Array(new SharedArrayBuffer(4));
    const worker = new Worker(WORKER, {
      workerData: { module, progress },
      // Not the daemon's secrets, nor its standard output.
      env: {},
      stdout: true,
      stderr: true,
      resourceLimits: { maxOldGenerationSizeMb: 256 },
    });
    const thread = new TransformThread(worker, timeoutMs, progress);
    const first = await thread.#answer(START_MS, () => false);
    if (first !== null && 'ready' in first) return thread;
    await worker.terminate();
    const reason = first === null ? 'it does not get ready' : 'failed' in first ? first.failed : 'it says something else';
    throw new WaggleError('CONFIG_INVALID', `${place}: the transform module ${module}: ${reason}`, {
      hint: 'It must be a module with `export default (row, { table, op }) => …`.',
    });
  }

  /** One answer for each question. Where one takes too long it alone has failed, the others have none, and the thread is ended. */
  async ask(questions: readonly Question[]): Promise<readonly Answer[]> {
    if (questions.length === 0) return [];
    Atomics.store(this.#progress, 0, 0);
    this.#worker.postMessage(questions);
    let seen = -1;
    const reply = await this.#answer(this.#timeoutMs, () => {
      const done = Atomics.load(this.#progress, 0);
      const moved = done !== seen;
      seen = done;
      return moved;
    });
    if (reply !== null && 'answers' in reply) return reply.answers;
    await this.end();
    const reason = reply === null ? `took longer than ${this.#timeoutMs} ms for a row` : 'failed' in reply ? reply.failed : 'ended';
    const slow = Atomics.load(this.#progress, 0);
    return questions.map((_, index): Answer => (index === slow ? { kind: 'failed', reason } : { kind: 'none' }));
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
  }

  /** Null: `quietMs` went by, and `goesOn` says no. */
  #answer(quietMs: number, goesOn: () => boolean): Promise<FromThread | null> {
    const worker = this.#worker;
    return new Promise((resolve) => {
      const settle = (reply: FromThread | null): void => {
        clearInterval(timer);
        worker.off('message', settle).off('error', onError).off('exit', onExit);
        resolve(reply);
      };
      const onError = (error: Error): void => settle({ failed: `broke its thread (${error.name})` });
      const onExit = (): void => settle({ failed: 'ended its thread' });
      const timer = setInterval(() => {
        if (!goesOn()) settle(null);
      }, quietMs);
      worker.on('message', settle).on('error', onError).on('exit', onExit);
    });
  }
}
