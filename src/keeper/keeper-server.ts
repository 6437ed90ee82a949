/**
 * The keeper process: its lock, its connections, and the loop that calls `Keeper.tick`. Who says what: protocol.ts.
 *
 *     opening ──► alone ◄──► attached (one daemon)          a keeper that does not outlive has no `alone`: it ends
 *                   └──► retiring ──► retired ──► gone      (or back to alone, when nobody took its place)
 *
 * It ends on `stop`, after `gap` and `failed`, when it drops the pin (`Keeper.dropReason`), and when its spool directory is gone.
 */
import { statSync, unlinkSync, watch, type FSWatcher } from 'node:fs';
import { Socket, type Server } from 'node:net';
import { join } from 'node:path';
import { WaggleError, systemErrorCode } from '../support/errors.ts';
import { FileLock } from '../support/file-lock.ts';
import { Channel } from './channel.ts';
import { asHiveError } from './hive-files.ts';
import { Keeper } from './keeper.ts';
import { logLine } from './keeper-log.ts';
import { EXIT_LOCKED, LOCK_NAME, PROTOCOL, type FromKeeper, type KeeperOptions, type ToKeeper } from './protocol.ts';
import { listenSocket, socketPath } from './socket.ts';

/** The pipe by which the daemon that started this process is connected. */
const PIPE_FD = 3;
/** A keeper that is just ending still has the lock. */
const LOCK_WAIT_MS = 300;
const STILL_RETRY_MS = 5;
/** The last words of a keeper whose daemon does not read. */
const LAST_WORDS_MS = 1000;
const DIRECTORY_MS = 500;

type Connection = Channel<ToKeeper, FromKeeper>;

export class KeeperServer {
  readonly #options: KeeperOptions;
  readonly #protocol: number;
  readonly #lockPath: string;
  #lock: FileLock | null = null;
  /** Inode of the lock's file: with another one there the directory is not ours any more. */
  #lockInode = 0;
  #listener: Server | null = null;
  #keeper: Keeper | null = null;
  /** Why there is no keeper. */
  #fault: WaggleError | null = null;
  #attached: Connection | null = null;
  #outlives: boolean;
  /** Whoever asked this keeper to make room. */
  #successor: Connection | null = null;
  #isOver = false;
  #timer: NodeJS.Timeout | undefined;
  #immediate: NodeJS.Immediate | undefined;
  #watcher: FSWatcher | null = null;
  #directoryNotBefore = 0;

  /** `protocol`: what it says to be (tests). */
  constructor(options: KeeperOptions, protocol: number = PROTOCOL) {
    this.#options = options;
    this.#protocol = protocol;
    this.#outlives = options.outlive;
    this.#lockPath = join(options.spoolDir, LOCK_NAME);
  }

  /** Ends the process with EXIT_LOCKED where another keeper has the directory. */
  async run(): Promise<void> {
    this.#lock = FileLock.acquire(this.#lockPath, LOCK_WAIT_MS);
    // Node's own way to end after a fault would close the connections, and the last one to close deletes the WAL.
    process.on('uncaughtException', (error) => {
      this.#log(`crashed: ${error.stack ?? error.message}`);
      this.#leave();
    });
    // Nothing of the hive is open yet.
    if (this.#lock === null) process.exit(EXIT_LOCKED);
    this.#lockInode = statSync(this.#lockPath).ino;
    try {
      if (this.#outlives) await this.#listen();
      this.#keeper = new Keeper(this.#options);
      this.#log(`holds ${this.#options.hive}`);
    } catch (error) {
      this.#fault = this.#asKnown(error);
      this.#log(`failed: ${this.#fault.code} ${this.#fault.message}`);
    }
    const pipe = new Socket({ fd: PIPE_FD });
    this.#serve(pipe, () => {
      if (this.#fault !== null || !this.#outlives) this.#endUnasked();
      // It died before it said a word: nobody waits where the first pin stands.
      else if (this.#attached === null) this.#keeper?.detach();
    });
    this.#tick();
  }

  // --- connections ---------------------------------------------------------------------------------------------

  async #listen(): Promise<void> {
    this.#listener = await listenSocket(this.#options.spoolDir, (socket) => this.#serve(socket));
  }

  #serve(stream: Socket, then: () => void = () => {}): void {
    const connection: Connection = new Channel<ToKeeper, FromKeeper>(stream, {
      receive: (message) => this.#receive(connection, message),
      closed: () => {
        if (connection === this.#attached) this.#detached();
        if (connection === this.#successor) this.#succeeded();
        then();
      },
    });
    connection.send({ type: 'hello', protocol: this.#protocol, pid: process.pid, hive: this.#options.hive });
  }

  #receive(connection: Connection, message: ToKeeper): void {
    if (this.#isOver) return;
    const keeper = this.#keeper;
    if (keeper === null) return this.#fail(connection);
    switch (message.type) {
      case 'attach':
        if (this.#attached !== null || this.#successor !== null) return connection.send({ type: 'refused' }, () => connection.end());
        this.#attached = connection;
        this.#outlives = message.settings.outlive;
        keeper.attach((told) => connection.send(told), message);
        return this.#tick();
      case 'status':
        return connection.send({ type: 'status', status: keeper.status() });
      case 'stop':
        return this.#end((stopped) => {
          this.#log('stopped');
          if (this.#attached !== null && this.#attached !== connection) this.#attached.send(stopped);
          connection.send(stopped, this.#leave);
        });
      case 'retire':
        if (this.#attached !== null || this.#successor !== null) return connection.send({ type: 'refused' }, () => connection.end());
        this.#successor = connection;
        return this.#standStill(keeper, connection);
      case 'drained':
      case 'hold':
      case 'release':
        if (connection !== this.#attached) return;
        keeper.receive(message);
        if (message.type !== 'drained') this.#tick();
    }
  }

  #detached(): void {
    this.#attached = null;
    if (this.#isOver) return;
    this.#keeper?.detach();
    if (this.#outlives) this.#tick();
    else this.#endUnasked();
  }

  // --- the loop ------------------------------------------------------------------------------------------------

  #pause(): void {
    clearTimeout(this.#timer);
    clearImmediate(this.#immediate);
  }

  #tick(): void {
    const keeper = this.#keeper;
    if (this.#isOver || keeper === null || this.#successor !== null) return;
    this.#pause();
    try {
      const delayMs = keeper.tick();
      const reason = keeper.dropReason;
      if (reason !== null) return this.#drop(keeper, reason);
      if (this.#attached === null && this.#isDirectoryGone()) return this.#endUnasked();
      this.#follow(delayMs > 1);
      if (delayMs === 0) this.#immediate = setImmediate(() => this.#tick());
      else this.#timer = setTimeout(() => this.#tick(), delayMs);
    } catch (error) {
      this.#fault = this.#asKnown(error);
      this.#log(`ends: ${this.#fault.code} ${this.#fault.message}`);
      this.#fail(this.#attached);
    }
  }

  /** While nothing happens a change notice of the WAL wakes the keeper at once; while frames come it would only cost. */
  #follow(isWanted: boolean): void {
    if (isWanted === (this.#watcher !== null)) return;
    this.#watcher?.close();
    this.#watcher = null;
    if (!isWanted) return;
    try {
      this.#watcher = watch(`${this.#options.hive}-wal`, () => this.#tick());
      this.#watcher.on('error', () => {});
    } catch {
      // No change notices here: the poll does it alone, a little later.
    }
  }

  /** Nobody can find a keeper whose directory was removed. */
  #isDirectoryGone(): boolean {
    const now = performance.now();
    if (now < this.#directoryNotBefore) return false;
    this.#directoryNotBefore = now + DIRECTORY_MS;
    return statSync(this.#lockPath, { throwIfNoEntry: false })?.ino !== this.#lockInode;
  }

  // --- another keeper in its place -----------------------------------------------------------------------------

  #standStill(keeper: Keeper, successor: Connection): void {
    if (this.#isOver || this.#successor !== successor) return;
    this.#pause();
    try {
      if (!keeper.standStill()) {
        this.#timer = setTimeout(() => this.#standStill(keeper, successor), STILL_RETRY_MS);
        return;
      }
    } catch (error) {
      this.#fault = this.#asKnown(error);
      this.#log(`ends: ${this.#fault.code} ${this.#fault.message}`);
      return this.#fail(successor);
    }
    this.#listener?.close();
    this.#listener = null;
    this.#lock?.[Symbol.dispose]();
    this.#lock = null;
    this.#log('makes room for another keeper');
    successor.send({ type: 'retired' });
  }

  /** The connection of whoever asked to make room is closed: the pin may go if somebody else holds one. */
  #succeeded(): void {
    this.#successor = null;
    if (this.#isOver) return;
    this.#lock ??= FileLock.acquire(this.#lockPath, 0);
    if (this.#lock === null) {
      this.#log('another keeper holds the hive: ends');
      return this.#leave();
    }
    if (this.#listener !== null) return this.#tick();
    this.#log('nobody took its place: goes on');
    this.#listen().then(
      () => this.#tick(),
      () => this.#endUnasked(),
    );
  }

  // --- ends ----------------------------------------------------------------------------------------------------

  #end(then: (stopped: Extract<FromKeeper, { type: 'stopped' }>) => void): void {
    this.#isOver = true;
    this.#pause();
    let stopped = { clean: false, print: null, generation: 0, frame: 0 } as ReturnType<Keeper['end']>;
    try {
      if (this.#keeper !== null) stopped = this.#keeper.end();
    } finally {
      then({ type: 'stopped', ...stopped });
    }
  }

  #endUnasked(): void {
    if (!this.#isOver) this.#end(() => this.#leave());
  }

  #drop(keeper: Keeper, reason: string): void {
    this.#isOver = true;
    this.#pause();
    this.#fault = keeper.drop(reason);
    this.#log(this.#fault.message);
    this.#tellFault(this.#attached);
  }

  #fail(connection: Connection | null): void {
    this.#isOver = true;
    this.#pause();
    this.#tellFault(connection);
  }

  #tellFault(connection: Connection | null): void {
    const fault = this.#fault;
    if (connection === null || fault === null) return this.#leave();
    setTimeout(this.#leave, LAST_WORDS_MS);
    const type = fault.code === 'PIN_LOST' || fault.code === 'HIVE_REPLACED' ? 'gap' : 'failed';
    connection.send({ type, error: fault.toJSON() }, this.#leave);
  }

  /** Ends without closing a connection: a close as the last one would checkpoint, delete the WAL, or delete a new file's WAL. */
  readonly #leave = (): void => {
    try {
      if (this.#listener !== null) unlinkSync(socketPath(this.#options.spoolDir));
    } catch {
      // Gone with its directory, or it stays: a stale socket is recognised.
    }
    process.kill(process.pid, 'SIGKILL');
  };

  #asKnown(error: unknown): WaggleError {
    if (error instanceof WaggleError) return error;
    if (systemErrorCode(error)?.startsWith('SQLITE_') === true) return asHiveError(this.#options.hive, error);
    const known = new WaggleError('KEEPER_DIED', error instanceof Error ? error.message : String(error), { cause: error });
    if (error instanceof Error && error.stack !== undefined) known.stack = error.stack;
    return known;
  }

  #log(text: string): void {
    logLine(this.#options.spoolDir, text);
  }
}
