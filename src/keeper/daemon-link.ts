/** The daemon that is attached, if one is: what it is told, in its own count of generations, and what the next one must be told. */
import type { WaggleError } from '../support/errors.ts';
import type { FromKeeper, KeeperStats } from './protocol.ts';

const STATS_MS = 1000;

export type Send = (message: FromKeeper) => void;

/** What is told of a generation, without its number. */
type Unnumbered<T> = T extends { readonly generation: number } ? Omit<T, 'generation'> : never;
type OfGeneration = Unnumbered<Extract<FromKeeper, { type: 'begun' | 'generation' | 'spooled' | 'snapshot' }>>;

export class DaemonLink {
  /** The daemon's generation 1 is the keeper's of number `base + 1`. */
  base = 0;
  #send: Send | null = null;
  #aloneSince = performance.now();
  #untold: WaggleError[] = [];
  #statsAt = 0;
  #statsSent = '';

  get isAttached(): boolean {
    return this.#send !== null;
  }

  /** How long no daemon has been there. */
  get aloneMs(): number {
    return this.#send === null ? performance.now() - this.#aloneSince : 0;
  }

  /** `generation`: the keeper's number of the daemon's generation 1. `ready` is the first that it is told. */
  attach(send: Send, generation: number, ready: Extract<FromKeeper, { type: 'ready' }>): void {
    this.#send = send;
    this.base = generation - 1;
    this.#statsSent = '';
    send(ready);
    for (const error of this.#untold.splice(0)) this.warn(error);
  }

  detach(): void {
    this.#send = null;
    this.#aloneSince = performance.now();
  }

  /** To nobody where none is attached: the next `ready` has it. */
  tell(generation: number, message: OfGeneration): void {
    this.#send?.({ ...message, generation: generation - this.base });
  }

  /** Of each code the last one is kept for the next daemon. */
  warn(error: WaggleError): void {
    if (this.#send === null) this.#untold = [...this.#untold.filter(({ code }) => code !== error.code), error];
    else this.#send({ type: 'warning', error: error.toJSON() });
  }

  /** About once a second, when they have changed. */
  stats(read: () => KeeperStats, now: number): void {
    if (this.#send === null || now < this.#statsAt) return;
    this.#statsAt = now + STATS_MS;
    const stats = read();
    const text = JSON.stringify(stats);
    if (text === this.#statsSent) return;
    this.#statsSent = text;
    this.#send({ type: 'stats', stats });
  }
}
