/** A session's keeper, and its messages on their way to the tail. */
import { join } from 'node:path';
import type { Position } from '../change/change.ts';
import type { WalTail } from '../hive/wal-tail.ts';
import { KeeperClient } from '../keeper/keeper-client.ts';
import type { FromKeeper, Stopped } from '../keeper/protocol.ts';
import { WaggleError } from '../support/errors.ts';
import type { Ready } from './continuation.ts';
import type { SessionOptions } from './session-options.ts';

export class KeeperLink {
  readonly client: KeeperClient;
  readonly ready: Promise<Ready>;
  /** Nothing will be told any more. */
  hasEnded = false;
  readonly #outlives: boolean;
  #tail: WalTail | null = null;
  readonly #waiting: FromKeeper[] = [];

  constructor(options: SessionOptions, taken: Position | null) {
    const { capture } = options;
    this.#outlives = capture.keeper.outlive;
    const { promise, resolve, reject } = Promise.withResolvers<Ready>();
    this.ready = promise;
    this.client = KeeperClient.start({
      hive: capture.hive,
      spoolDir: join(capture.stateDir, 'spool'),
      durable: capture.durability === 'fsync',
      maxWalBytes: capture.maxWalBytes,
      ...capture.keeper,
      taken: taken === null || taken.frame === 0 ? null : { salt1: taken.salt1, salt2: taken.salt2, frame: taken.frame },
      onMessage: (message) => {
        if (message.type === 'ready') resolve(message);
        else if (message.type === 'warning') options.warn(WaggleError.fromJSON(message.error));
        else if (message.type === 'stats') options.stats(message.stats);
        else if (this.#tail === null) this.#waiting.push(message);
        else tellTail(this.#tail, message);
        options.wake();
      },
    });
    void this.client.ended.then((error) => {
      this.hasEnded = true;
      reject(error ?? new WaggleError('KEEPER_DIED', 'the keeper ended before it was ready'));
    });
    // Whoever waits gets the rejection; nobody waits any more once `ready` came.
    promise.catch(() => {});
  }

  /** Ends the keeper in order, or lets go of one that outlives (null). */
  async letGo(): Promise<Stopped | null> {
    if (!this.#outlives) return this.client.stop();
    await this.client.detach();
    return null;
  }

  attach(tail: WalTail): void {
    this.#tail = tail;
    for (const message of this.#waiting.splice(0)) tellTail(tail, message);
  }
}

const tellTail = (tail: WalTail, message: FromKeeper): void => {
  if (message.type === 'begun') tail.generationBegun(message.generation, message);
  else if (message.type === 'generation') tail.generationEnded(message.generation, message.lastFrame);
  else if (message.type === 'spooled') tail.framesSpooled(message);
};
