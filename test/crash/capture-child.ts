/** Starts and ends capture-process.ts. */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { FromCaptureProcess } from './capture-process.ts';
import type { Durability } from '../helpers/capture-run.ts';
import { FOLD_BYTES, HIVE, STATE, TOLD } from './scene-paths.ts';

export interface CaptureChildOptions {
  readonly scene: string;
  readonly durability: Durability;
  readonly environment: NodeJS.ProcessEnv;
}

export class CaptureChild implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  readonly #messages: FromCaptureProcess[] = [];

  constructor({ scene, durability, environment }: CaptureChildOptions) {
    const options = { hive: join(scene, HIVE), stateDir: join(scene, STATE), durability, foldBytes: FOLD_BYTES };
    this.#child = fork(join(import.meta.dirname, 'capture-process.ts'), [JSON.stringify(options), join(scene, TOLD)], {
      execArgv: [],
      env: { ...process.env, ...environment },
    });
    this.#child.on('message', (message) => void this.#messages.push(message as FromCaptureProcess));
    this.#exited = once(this.#child, 'close');
  }

  get hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** True: it has begun; false: it ended before. */
  ready(): Promise<boolean> {
    return this.#until((message) => message.type === 'ready');
  }

  /** The log's head has moved since the last `head` that was seen; false: it ended. */
  async head(): Promise<boolean> {
    const before = this.#messages.length;
    return this.#until((message, index) => message.type === 'head' && index >= before);
  }

  /** Orderly. Gives why it ended: null if by this. */
  async stop(): Promise<string | null> {
    if (this.#child.connected) this.#child.send('stop', () => {});
    await this.#exited;
    const ended = this.#messages.find((message) => message.type === 'ended');
    return ended === undefined ? `it ended with ${this.#child.signalCode ?? this.#child.exitCode}` : ended.error;
  }

  async kill(): Promise<void> {
    if (!this.hasEnded) this.#child.kill('SIGKILL');
    await this.#exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  async #until(isIt: (message: FromCaptureProcess, index: number) => boolean): Promise<boolean> {
    for (;;) {
      if (this.#messages.some(isIt)) return true;
      if (this.hasEnded) return false;
      await Promise.race([once(this.#child, 'message'), this.#exited]);
    }
  }
}
