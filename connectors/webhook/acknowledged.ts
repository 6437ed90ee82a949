/**
 * What a receiver has accepted of a batch that failed later on, so that the next try does not begin at its first request again: a
 * receiver that limits its rate would otherwise never get to the end. Only a saving: lost with the process, forgotten with
 * the next checkpoint, and bounded; what it does not know is sent again.
 */
import { createHash } from 'node:crypto';
import { jsonValue } from '../../src/change/envelope.ts';
import type { SinkChange } from '../../src/pipeline/sink.ts';

const MOST = 100_000;

export class Acknowledged {
  readonly #known = new Set<string>();
  #logId = '';

  /** A seq means something in its log only. */
  begin(logId: string): void {
    if (logId !== this.#logId) this.clear();
    this.#logId = logId;
  }

  has(change: SinkChange): boolean {
    return this.#known.size > 0 && this.#known.has(identityOf(change));
  }

  add(changes: readonly SinkChange[]): void {
    if (this.#known.size < MOST) for (const change of changes) this.#known.add(identityOf(change));
  }

  clear(): void {
    this.#known.clear();
  }
}

/** A row that gets another key in the target is two changes of one seq, a `d` and a `c`. A filled row is known by its content: it is read anew for the next try. */
const identityOf = (change: SinkChange): string => {
  const { seq } = change.source;
  if (seq !== null) return `${change.op}${seq}`;
  const values = change.op === 's' || change.op === 't' ? [] : (change.after ?? []);
  const hash = createHash('sha256').update(`${change.op}\0${change.table?.name ?? ''}`);
  for (const value of values) hash.update(`\0${jsonValue(value)}`);
  return hash.digest('base64');
};
