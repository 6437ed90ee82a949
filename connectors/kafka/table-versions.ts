/**
 * The forms of a hive's tables by which their rows were written: named in the header `schema` of each of their records, and described by a record of the
 * topic `<prefix>.schema`. That topic is the memory: whoever has read it goes on where the publisher before stood.
 *
 * A form that a schema change made has a version of its own, also where the table had the same form before; so a change of the version tells of every schema
 * change, and the record of the new version names the one before it (header `previous`).
 */
import { hash } from 'node:crypto';
import { jsonValue } from '../../src/change/envelope.ts';
import type { SinkSchemaChange, SinkTable } from '../../src/pipeline/sink.ts';

export class TableVersions {
  /** Of what the topic tells: the latest version by the form. */
  readonly #told = new Map<string, string>();
  readonly #found = new WeakMap<SinkTable, string>();

  /** The topic tells of the form `text`. */
  tell(text: string, version: string): void {
    this.#told.set(text, version);
  }

  /** 16 hex digits; null: the topic does not tell of this form. */
  of(table: SinkTable): string | null {
    let version = this.#found.get(table) ?? null;
    if (version !== null) return version;
    version = this.#told.get(tableText(table)) ?? null;
    if (version !== null) this.#found.set(table, version);
    return version;
  }

  /** What the record of this change says of the table's new form; `previous` null: it tells of no form that the topic knows. */
  change({ table, previous, source }: SinkSchemaChange & { readonly table: SinkTable }): { version: string; previous: string | null; text: string } {
    const text = tableText(table);
    const before = previous === null ? null : this.of(previous);
    const version = source.seq === null ? versionOf(text) : versionOf(`${text} ${source.transaction?.txid} ${source.seq}`);
    this.#told.set(text, version);
    this.#found.set(table, version);
    return { version, previous: before, text };
  }
}

const versionOf = (text: string): string => hash('sha256', text).slice(0, 16);

/** The SinkTable as JSON, which a reader makes a SinkTable of again. A default is written as the envelope writes values. */
export const tableText = ({ name, source, columns, key, history, deletedAt }: SinkTable): string => {
  const described = columns.map(({ defaultValue, ...column }) => `${JSON.stringify(column).slice(0, -1)},"default":${jsonValue(defaultValue)}}`);
  const traits = JSON.stringify({ key, history, deletedAt }).slice(1);
  return `{"name":${JSON.stringify(name)},"source":${JSON.stringify(source)},"columns":[${described.join()}],${traits}`;
};
