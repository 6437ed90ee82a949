import { setTimeout as delay } from 'node:timers/promises';
import { WaggleError } from '../support/errors.ts';
import { KeeperConnection, within } from './keeper-connection.ts';
import { PROTOCOL, type FromKeeper, type KeeperOptions, type Stopped, type ToKeeper } from './protocol.ts';

/** Another keeper, or another daemon, is just going: both end within milliseconds. */
const BUSY_PATIENCE_MS = 5000;
const BUSY_RETRY_MS = 20;
/** The keeper answers `stop` after its connections are closed; a checkpoint of a large WAL may take a while. */
const STOP_PATIENCE_MS = 30_000;

export interface KeeperClientOptions extends Pick<KeeperOptions, 'hive' | 'spoolDir' | 'maxWalBytes' | 'taken'> {
  /** Default: a power loss may take spool and ledger. */
  readonly durable?: boolean;
  /** Default: it ends with this client. */
  readonly outlive?: boolean;
  /** Default: 1 GB. */
  readonly spoolBytes?: number;
  /** Default: a day. */
  readonly patienceMs?: number;
  /**
   * Called synchronously for each message from `ready` on, in order, from the event loop of the thread that started the keeper,
   * never from within `start`. Nothing comes after `gap`, `failed` and `stopped`.
   */
  onMessage(message: FromKeeper): void;
}

/**
 * A daemon's hold on its keeper: attaches to the one that runs for this spool directory, or starts one. Works in a worker thread as
 * in the main one. A keeper of another version is replaced (protocol.ts). A keeper that does not outlive ends with
 * the process that holds this client, also when that is killed.
 */
export class KeeperClient implements AsyncDisposable {
  /**
   * Resolves when nothing more comes: null after `stop` and `detach`, else why (the error of `gap` or `failed`, KEEPER_DIED if the
   * keeper ended unasked, STATE_IN_USE if another daemon has it). Never rejects.
   */
  readonly ended: Promise<WaggleError | null>;
  readonly #options: KeeperOptions;
  readonly #onMessage: (message: FromKeeper) => void;
  #connection: KeeperConnection | null = null;
  #pid: number | undefined;
  /** Why the keeper said that it ends. */
  #last: WaggleError | null = null;
  #stopped: Stopped | null = null;
  #lettingGo: 'stop' | 'detach' | null = null;

  private constructor({ onMessage, ...options }: KeeperClientOptions) {
    this.#options = { durable: false, outlive: false, spoolBytes: 1e9, patienceMs: 86_400_000, ...options };
    this.#onMessage = onMessage;
    this.ended = this.#run();
  }

  static start(options: KeeperClientOptions): KeeperClient {
    return new KeeperClient(options);
  }

  /** Once it has said hello. */
  get pid(): number | undefined {
    return this.#pid;
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
   * Orderly end of the keeper, also of one that would outlive; gives its answer, null if it is gone already. What `drained` has
   * not named by now is spooled.
   */
  async stop(): Promise<Stopped | null> {
    this.#lettingGo = 'stop';
    this.#send({ type: 'stop' });
    try {
      await within(this.ended, STOP_PATIENCE_MS);
    } catch {
      if (this.#pid !== undefined) process.kill(this.#pid, 'SIGKILL');
      await this.ended;
    }
    return this.#stopped;
  }

  /** Lets go of the keeper as a dying daemon does. One that outlives goes on; any other spools what is not drained and ends. */
  async detach(): Promise<void> {
    this.#lettingGo ??= 'detach';
    this.#connection?.end();
    await this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #send(message: ToKeeper): void {
    // A keeper that has just died is told of by `ended`, not by a failing send.
    this.#connection?.send(message);
  }

  // --- from the start to the end -------------------------------------------------------------------------------

  async #run(): Promise<WaggleError | null> {
    try {
      const deadline = performance.now() + BUSY_PATIENCE_MS;
      for (;;) {
        const outcome = await this.#attach();
        if (outcome === 'over') return this.#last;
        if (this.#lettingGo !== null) return null;
        if (performance.now() > deadline) return new WaggleError('STATE_IN_USE', `another daemon has the keeper of ${this.#options.spoolDir}`);
        await delay(BUSY_RETRY_MS);
      }
    } catch (error) {
      if (error instanceof WaggleError) return error;
      return new WaggleError('KEEPER_DIED', `the keeper cannot be reached: ${error instanceof Error ? error.message : String(error)}`, {
        cause: error,
      });
    }
  }

  /** One connection from its beginning to its end. `busy`: another daemon has the keeper, or another keeper the directory. */
  async #attach(): Promise<'over' | 'busy'> {
    const { hive, spoolDir } = this.#options;
    const running = await KeeperConnection.toRunning(spoolDir);
    if (running === null) return this.#follow(KeeperConnection.toStarted(this.#options), null);
    const hello = await running.greeting();
    if (hello === null) return 'busy';
    if (hello.hive !== hive) {
      running.end();
      throw new WaggleError('STATE_OTHER_HIVE', `the keeper of ${spoolDir} (pid ${hello.pid}) holds ${hello.hive}`);
    }
    if (hello.protocol === PROTOCOL) return this.#follow(running, null);
    if ((await running.ask({ type: 'retire' }, 'retired')) === null) {
      running.end();
      return 'busy';
    }
    return this.#follow(KeeperConnection.toStarted(this.#options), running);
  }

  /** `old` lets go of its pin when the new one is held. */
  async #follow(connection: KeeperConnection, old: KeeperConnection | null): Promise<'over' | 'busy'> {
    let isRefused = false;
    connection.onMessage((message) => {
      switch (message.type) {
        case 'refused':
          isRefused = true;
          return;
        case 'ready':
          old?.end();
          break;
        case 'gap':
        case 'failed':
          this.#last = WaggleError.fromJSON(message.error);
          break;
        case 'stopped': {
          const { type: _, ...stopped } = message;
          this.#stopped = stopped;
          break;
        }
        default:
          break;
      }
      this.#onMessage(message);
    });
    this.#connection = connection;
    void connection.hello.then((hello) => (this.#pid = hello.pid));
    const { durable, maxWalBytes, outlive, spoolBytes, patienceMs, taken } = this.#options;
    if (this.#lettingGo === 'stop') connection.send({ type: 'stop' });
    else if (this.#lettingGo === 'detach') connection.end();
    else connection.send({ type: 'attach', settings: { durable, maxWalBytes, outlive, spoolBytes, patienceMs }, taken });
    await connection.closed;
    this.#connection = null;
    old?.end();
    if (isRefused) return 'busy';
    // One that outlives and was let go of has no end to wait for.
    const exit = this.#lettingGo === 'detach' && outlive ? null : await connection.exited;
    if (exit?.locked === true) return 'busy';
    if (this.#lettingGo === null) {
      const how = this.#stopped === null ? `the keeper process ended: ${exit?.how ?? 'its connection closed'}` : 'the keeper was told to end';
      this.#last ??= new WaggleError('KEEPER_DIED', how);
    }
    return 'over';
  }
}
