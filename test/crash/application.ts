/** Steers application-process.ts. */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { FromApplication, ToApplication } from './application-process.ts';
import type { Moment } from './oracle.ts';

export class Application implements AsyncDisposable {
  readonly #child: ChildProcess;

  constructor(seed: number, environment: NodeJS.ProcessEnv = {}) {
    this.#child = fork(join(import.meta.dirname, 'application-process.ts'), [String(seed)], {
      execArgv: [],
      env: { ...process.env, ...environment },
      serialization: 'advanced',
    });
  }

  /** Opens the hive, or makes it; gives what stands in it. */
  async open(hive: string): Promise<Moment> {
    return (await this.#carryOut({ do: 'open', hive }))[0]!;
  }

  /** So many transactions more; gives the hive as of each. */
  write(count: number): Promise<readonly Moment[]> {
    return this.#carryOut({ do: 'write', count });
  }

  async checkpoint(): Promise<void> {
    await this.#carryOut({ do: 'checkpoint' });
  }

  async close(): Promise<void> {
    await this.#carryOut({ do: 'close' });
  }

  /** Its connection stays open: no close, no checkpoint. */
  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  async #carryOut(order: ToApplication): Promise<readonly Moment[]> {
    this.#child.send(order);
    const [answer] = (await once(this.#child, 'message')) as [FromApplication];
    if ('error' in answer) throw new Error(`the application could not ${order.do}: ${answer.error}`);
    return answer.moments;
  }
}
