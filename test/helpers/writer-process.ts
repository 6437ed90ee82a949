import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { FromWriter, ToWriter, WriterOptions } from './counting-writer.ts';

const SCRIPT = fileURLToPath(new URL('./counting-writer.ts', import.meta.url));

type Message<T extends FromWriter['type']> = Extract<FromWriter, { type: T }>;

/** Starts and steers a counting writer. */
export class WriterProcess implements AsyncDisposable {
  transactions = 0;
  readonly exited: Promise<void>;
  readonly #child: ChildProcess;

  constructor(options: WriterOptions) {
    this.#child = fork(SCRIPT, [JSON.stringify(options)], { execArgv: [], stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    this.#child.on('message', (message: FromWriter) => {
      if (message.type === 'progress') this.transactions = message.transactions;
    });
    this.exited = new Promise((resolve) => void this.#child.on('exit', () => resolve()));
  }

  /** The application's own checkpoint, busy timeout 5 s, between two of its transactions. */
  async checkpoint(mode: 'FULL' | 'RESTART' | 'TRUNCATE'): Promise<Message<'checkpointed'>> {
    const answer = this.#next('checkpointed');
    this.#send({ type: 'checkpoint', mode });
    return await answer;
  }

  async mark(): Promise<Message<'mark'>> {
    const answer = this.#next('mark');
    this.#send({ type: 'mark' });
    return await answer;
  }

  /** Orderly: closes the database. */
  async stop(): Promise<Message<'stopped'>> {
    const answer = this.#next('stopped');
    this.#send({ type: 'stop' });
    const result = await answer;
    await this.exited;
    return result;
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  #send(message: ToWriter): void {
    this.#child.send(message, () => {});
  }

  #next<T extends FromWriter['type']>(type: T): Promise<Message<T>> {
    return new Promise((resolve, reject) => {
      const look = (message: FromWriter): void => {
        if (message.type !== type) return;
        this.#child.off('message', look);
        resolve(message as Message<T>);
      };
      this.#child.on('message', look);
      this.#child.once('exit', () => reject(new Error('the writer ended')));
    });
  }
}
