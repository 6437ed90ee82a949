import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { WaggleError } from '../support/errors.ts';
import type { FromKeeper, KeeperOptions, ToKeeper } from './protocol.ts';

const ENTRY = fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? './main.ts' : './main.js', import.meta.url));
/** The keeper answers `stop` after its connections are closed; a checkpoint of a large WAL may take a while. */
const STOP_PATIENCE_MS = 30_000;
const LAST_WORDS_MS = 100;
const STDERR_CHARS = 2000;

export interface KeeperClientOptions extends KeeperOptions {
  /**
   * Called synchronously for each message, in order, from the event loop of the thread that started the keeper, never
   * from within `start`. Nothing comes after `gap`, `failed` and `stopped`.
   */
  onMessage(message: FromKeeper): void;
}

/**
 * Starts the keeper process and talks to it; works in a worker thread as in the main one. The keeper ends with the
 * process that holds this client, also when that is killed.
 */
export class KeeperClient implements AsyncDisposable {
  /**
   * Resolves when the process is gone: null after `stop`, else why it ended (the error of `gap` or `failed`, or
   * KEEPER_DIED if it ended unasked). Never rejects.
   */
  readonly ended: Promise<WaggleError | null>;
  readonly #child: ChildProcess;
  #stopped: Promise<boolean> | null = null;
  #isClean = false;
  #isStopping = false;
  #hasEnded = false;

  private constructor(options: KeeperClientOptions) {
    const { onMessage, ...keeperOptions } = options;
    this.#child = fork(ENTRY, [JSON.stringify(keeperOptions)], {
      // Not the parent's flags: an inspector port can be had once, and loaders are the parent's business.
      execArgv: [],
      env: withoutNodeOptions(),
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    let stderr = '';
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-STDERR_CHARS);
    });
    let last: WaggleError | null = null;
    this.#child.on('message', (message: FromKeeper) => {
      if (message.type === 'gap' || message.type === 'failed') last = WaggleError.fromJSON(message.error);
      if (message.type === 'stopped') this.#isClean = message.clean;
      onMessage(message);
    });
    const { promise, resolve } = Promise.withResolvers<WaggleError | null>();
    this.ended = promise;
    const died = (how: string): void => {
      if (this.#hasEnded) return;
      this.#hasEnded = true;
      if (last === null && !this.#isStopping)
        last = new WaggleError('KEEPER_DIED', `the keeper process ended: ${how}${stderr === '' ? '' : `; ${stderr.trim()}`}`);
      resolve(last);
    };
    this.#child.on('error', (error) => died(error.message));
    // 'close' comes after the last message and the last line of stderr, 'exit' may come before them. After a disconnect
    // from this side Node sends no 'close'.
    this.#child.on('close', (code, signal) => died(signal ?? `exit status ${code}`));
    this.#child.on('exit', (code, signal) => {
      if (!this.#child.connected) setTimeout(died, LAST_WORDS_MS, signal ?? `exit status ${code}`);
    });
  }

  static start(options: KeeperClientOptions): KeeperClient {
    return new KeeperClient(options);
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Frames of `generation` up to `frame` are durably in the log. */
  drained(generation: number, frame: number): void {
    this.#send({ type: 'drained', generation, frame });
  }

  /** Asks for a `snapshot` message; the pin then stays until `release`. */
  hold(): void {
    this.#send({ type: 'hold' });
  }

  release(): void {
    this.#send({ type: 'release' });
  }

  /**
   * Orderly end; gives `clean` of the answer. A keeper that is gone already gives false. What `drained` has not named
   * by now is spooled.
   */
  stop(): Promise<boolean> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop(): Promise<boolean> {
    if (this.#hasEnded) return false;
    this.#isStopping = true;
    this.#send({ type: 'stop' });
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_PATIENCE_MS);
    await this.ended;
    clearTimeout(timer);
    return this.#isClean;
  }

  /** Lets go of the keeper as a dying daemon does: it spools what is not drained and ends. */
  disconnect(): void {
    this.#isStopping = true;
    if (this.#child.connected) this.#child.disconnect();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #send(message: ToKeeper): void {
    // A keeper that has just died is told of by `ended`, not by a failing send.
    if (this.#child.connected) this.#child.send(message, () => {});
  }
}

const withoutNodeOptions = (): NodeJS.ProcessEnv => {
  const { NODE_OPTIONS: _, ...env } = process.env;
  return env;
};
