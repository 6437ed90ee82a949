/**
 * What topics are called (https://kafka.apache.org, "topic names": letters, digits, `.`, `_`, `-`, at most 249 of them):
 *
 *     <prefix>.<table>               rows of a table, or `topic` for those of all
 *     <prefix>.transaction           BEGIN and END of transactions
 *     <prefix>.schema                tables as they were and are
 *     <prefix>.heartbeat             that the publisher lives
 *     <prefix>.waggle-checkpoint     the publisher's own
 *     <prefix>.waggle-dead-letters   what targets of `waggle sink --from kafka` refused
 *
 * In a table's name every other character becomes `_`; a name that is too long is cut, with a hash of the whole behind it.
 */
import { hash } from 'node:crypto';
import { WaggleError } from '../../src/support/errors.ts';

const MAX_LENGTH = 249;

export const safeName = (name: string): string => name.replaceAll(/[^A-Za-z0-9._-]/g, '_');

/** The default prefix. */
export const prefixOf = (hive: string): string => {
  const safe = safeName(hive).slice(0, 120);
  return /^\.{0,2}$/.test(safe) ? 'hive' : safe;
};

export class TopicNames {
  readonly transaction: string;
  readonly schema: string;
  readonly heartbeat: string;
  readonly checkpoint: string;
  readonly deadLetters: string;
  readonly #prefix: string;
  readonly #single: string | null;
  /** Topics by table, of those whose topic is their own. */
  readonly #found = new Map<string, string>();
  /** Which table has a topic. */
  readonly #owners = new Map<string, string>();

  /** `single`: the one topic for the rows of all tables. */
  constructor(prefix: string, single: string | null) {
    this.#prefix = prefix;
    this.#single = single;
    this.transaction = `${prefix}.transaction`;
    this.schema = `${prefix}.schema`;
    this.heartbeat = `${prefix}.heartbeat`;
    this.checkpoint = `${prefix}.waggle-checkpoint`;
    this.deadLetters = `${prefix}.waggle-dead-letters`;
  }

  /** Where the rows of the table go. Throws SINK_TABLE_MISFIT where another table, or waggle itself, has this topic. */
  ofTable(table: string): string {
    const found = this.#found.get(table);
    if (found !== undefined) return found;
    const name = this.#single ?? this.#tableTopic(table);
    const own = [this.transaction, this.schema, this.heartbeat, this.checkpoint, this.deadLetters].includes(name);
    const owner = own ? 'waggle itself' : this.#owners.get(name);
    if (this.#single !== null && !own) {
      this.#found.set(table, name);
      return name;
    }
    if (owner !== undefined && owner !== table)
      throw new WaggleError('SINK_TABLE_MISFIT', `the topic ${name} of the table ${table} belongs to ${own ? owner : `the table ${owner}`}`, {
        hint: own && this.#single !== null ? 'Choose another `topic`.' : 'Give the table another name with `to`, under `tables` of the sink.',
      });
    this.#owners.set(name, table);
    this.#found.set(table, name);
    return name;
  }

  /** The table was dropped: another one may have its topic. */
  forget(table: string): void {
    this.#found.delete(table);
    for (const [name, owner] of this.#owners) if (owner === table) this.#owners.delete(name);
  }

  #tableTopic(table: string): string {
    const name = `${this.#prefix}.${safeName(table)}`;
    if (name.length <= MAX_LENGTH) return name;
    const digest = hash('sha256', table).slice(0, 16);
    return `${name.slice(0, MAX_LENGTH - digest.length - 1)}-${digest}`;
  }
}
