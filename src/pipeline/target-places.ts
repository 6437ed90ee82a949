/** Which sink of a daemon writes which table, as the targets themselves know them: two that write one table would undo each other's rows. */
import { WaggleError } from '../support/errors.ts';

export class TargetPlaces {
  /** By place and table; the sink's name. */
  readonly #owners = new Map<string, string>();

  /** Replaces what the sink had before. Throws CONFIG_INVALID where another sink has one of these tables. */
  take(sink: string, place: string, tables: readonly string[]): void {
    for (const [key, owner] of this.#owners) if (owner === sink) this.#owners.delete(key);
    for (const table of tables) {
      const key = `${place}\0${table}`;
      const owner = this.#owners.get(key);
      if (owner !== undefined) throw sharedTable([owner, sink], table);
      this.#owners.set(key, sink);
    }
  }
}

export const sharedTable = ([first, second]: readonly [string, string], table: string): WaggleError =>
  new WaggleError('CONFIG_INVALID', `the sinks ${first} and ${second} would both write the table ${table} of one target`, {
    hint: 'Give one of them other tables, another schema, or other names with `to`.',
  });
