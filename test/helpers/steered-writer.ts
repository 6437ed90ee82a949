/** An application in a process of its own that does exactly what a test tells it, and is idle in between with its database open. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Answer, Order } from './steered-child.ts';

const SCRIPT = fileURLToPath(new URL('./steered-child.ts', import.meta.url));

export class SteeredWriter implements AsyncDisposable {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  /** Resolves when the database is open and its table `items` is there. */
  static async open(hive: string): Promise<SteeredWriter> {
    const child = fork(SCRIPT, [hive], { execArgv: [], stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    await once(child, 'message');
    return new SteeredWriter(child);
  }

  /** Throws what SQLite refused. */
  async do(order: Order): Promise<Answer> {
    const answer = once(this.#child, 'message') as Promise<[Answer]>;
    this.#child.send(order);
    const [result] = await answer;
    if (result.error !== null) throw new Error(`${JSON.stringify(order)}: ${result.error}`);
    return result;
  }

  insert(rows: number, bytes: number): Promise<Answer> {
    return this.do({ do: 'insert', rows, bytes });
  }

  load(options: { rows: number; bytes: number; pauseMs: number; forMs: number }): Promise<Answer> {
    return this.do({ do: 'load', ...options });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exited;
  }
}
