/** One connection to a keeper, from the side of whoever wants something of it. */
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Socket } from 'node:net';
import { WaggleError } from '../support/errors.ts';
import { FileLock } from '../support/file-lock.ts';
import { Channel } from './channel.ts';
import { startKeeper } from './keeper-process.ts';
import { EXIT_LOCKED, LOCK_NAME, PROTOCOL, type FromKeeper, type KeeperOptions, type KeeperStatus, type Stopped, type ToKeeper } from './protocol.ts';
import { connectSocket } from './socket.ts';

export type Hello = Extract<FromKeeper, { type: 'hello' }>;
type Answer<T extends FromKeeper['type']> = Extract<FromKeeper, { type: T }>;

/** It may be opening the hive, which can be locked for some seconds. A stopped one (SIGSTOP) never answers. */
const ANSWER_MS = 10_000;
/** A checkpoint of a large WAL may take a while. */
const STOP_PATIENCE_MS = 30_000;
const GONE_POLL_MS = 10;

/** How a keeper that this process started came to its end. */
interface Exit {
  readonly locked: boolean;
  readonly how: string;
}

export class KeeperConnection {
  /** Never resolves when the connection closes before. */
  readonly hello: Promise<Hello>;
  /** When nothing more comes. For a keeper that this process started, how it ended; it may go on if it outlives. Never rejects. */
  readonly closed: Promise<void>;
  /** Of a keeper that this process started; resolves at its end. */
  readonly exited: Promise<Exit> | null;
  readonly #channel: Channel<FromKeeper, ToKeeper>;
  #receive: (message: FromKeeper) => void = () => {};

  private constructor(stream: Socket, exited: Promise<Exit> | null) {
    const hello = Promise.withResolvers<Hello>();
    const closed = Promise.withResolvers<void>();
    this.hello = hello.promise;
    this.closed = closed.promise;
    this.exited = exited;
    this.#channel = new Channel<FromKeeper, ToKeeper>(stream, {
      receive: (message) => {
        if (message.type === 'hello') hello.resolve(message);
        else this.#receive(message);
      },
      closed: () => closed.resolve(),
    });
  }

  /** To the keeper that listens in this spool directory; null: none does. */
  static async toRunning(spoolDir: string): Promise<KeeperConnection | null> {
    const socket = await connectSocket(spoolDir);
    return socket === null ? null : new KeeperConnection(socket, null);
  }

  /** To a new one. It ends with `locked` where another one has the directory. */
  static toStarted(options: KeeperOptions): KeeperConnection {
    const { child, pipe, stderr } = startKeeper(options);
    return new KeeperConnection(pipe, exitOf(child, stderr));
  }

  /** Null: it is just going. Throws KEEPER_DIED when it does not answer. */
  async greeting(patienceMs = ANSWER_MS): Promise<Hello | null> {
    return (await within(Promise.race([this.hello, this.closed]), patienceMs)) ?? null;
  }

  /** Called synchronously for each message but `hello`, in order. */
  onMessage(receive: (message: FromKeeper) => void): void {
    this.#receive = receive;
  }

  send(message: ToKeeper): void {
    this.#channel.send(message);
  }

  /** What was sent still reaches the keeper. */
  end(): void {
    this.#channel.end();
  }

  /** The answer of this type; null: the connection closed, or `refused` came, before. Throws KEEPER_DIED when it does not answer. */
  async ask<T extends FromKeeper['type']>(message: ToKeeper, type: T, patienceMs = ANSWER_MS): Promise<Answer<T> | null> {
    const answer = Promise.withResolvers<Answer<T> | null>();
    this.#receive = (told) => {
      if (told.type === type) answer.resolve(told as Answer<T>);
      else if (told.type === 'refused') answer.resolve(null);
    };
    void this.closed.then(() => answer.resolve(null));
    this.send(message);
    return within(answer.promise, patienceMs);
  }
}

const exitOf = async (child: ChildProcess, stderr: () => string): Promise<Exit> => {
  const { promise, resolve } = Promise.withResolvers<Exit>();
  child.once('error', (error) => resolve({ locked: false, how: error.message }));
  child.once('exit', (code, signal) => {
    const told = stderr();
    resolve({ locked: code === EXIT_LOCKED, how: `${signal ?? `exit status ${code}`}${told === '' ? '' : `; ${told}`}` });
  });
  return promise;
};

/** Throws KEEPER_DIED after `patienceMs`. */
export const within = async <T>(promise: Promise<T>, patienceMs: number): Promise<T> => {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new WaggleError('KEEPER_DIED', `the keeper did not answer for ${patienceMs / 1000} s`)), patienceMs);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
};

/**
 * What the keeper of this directory says of itself; null: none listens (one that ends with its daemon never does), or it is of
 * another version. Throws KEEPER_DIED when it does not answer.
 */
export const readKeeperStatus = async (spoolDir: string, patienceMs = ANSWER_MS): Promise<KeeperStatus | null> => {
  const connection = await KeeperConnection.toRunning(spoolDir);
  if (connection === null) return null;
  try {
    const hello = await connection.greeting(patienceMs);
    if (hello?.protocol !== PROTOCOL) return null;
    return (await connection.ask({ type: 'status' }, 'status', patienceMs))?.status ?? null;
  } finally {
    connection.end();
  }
};

/**
 * Ends the keeper that listens in this directory in order, whatever its version, and waits until it is gone. Null: none does.
 * Throws KEEPER_DIED when it does not answer.
 */
export const stopKeeper = async (spoolDir: string): Promise<{ readonly pid: number; readonly stopped: Stopped | null } | null> => {
  const connection = await KeeperConnection.toRunning(spoolDir);
  if (connection === null) return null;
  const hello = await connection.greeting();
  if (hello === null) return null;
  const { pid } = hello;
  const stopped = await connection.ask({ type: 'stop' }, 'stopped', STOP_PATIENCE_MS);
  await within(connection.closed, ANSWER_MS);
  await untilGone(spoolDir);
  return { pid, stopped };
};

/** Waits until no keeper has the directory: also one that does not listen and ends with its daemon. Throws KEEPER_DIED. */
export const untilGone = async (spoolDir: string, patienceMs = STOP_PATIENCE_MS): Promise<void> => {
  const deadline = performance.now() + patienceMs;
  while (FileLock.isHeld(join(spoolDir, LOCK_NAME))) {
    if (performance.now() > deadline) throw new WaggleError('KEEPER_DIED', `the keeper did not end within ${patienceMs / 1000} s`);
    await delay(GONE_POLL_MS);
  }
};
