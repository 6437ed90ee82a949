/**
 * The form of a table by which its rows were written: named in the header `schema` of each of its records, and described by a record of the topic
 * `<prefix>.schema`. Made of the form alone: the same after a restart, and for each hive.
 */
import { hash } from 'node:crypto';
import { jsonValue } from '../../src/change/envelope.ts';
import type { SinkTable } from '../../src/pipeline/sink.ts';

const VERSIONS = new WeakMap<SinkTable, string>();

/** 16 hex digits. */
export const versionOf = (table: SinkTable): string => {
  let version = VERSIONS.get(table);
  if (version === undefined) {
    version = hash('sha256', tableText(table)).slice(0, 16);
    VERSIONS.set(table, version);
  }
  return version;
};

/** The SinkTable as JSON, which a reader makes a SinkTable of again. A default is written as the envelope writes values. */
export const tableText = ({ name, source, columns, key, history, deletedAt }: SinkTable): string => {
  const described = columns.map(({ defaultValue, ...column }) => `${JSON.stringify(column).slice(0, -1)},"default":${jsonValue(defaultValue)}}`);
  const traits = JSON.stringify({ key, history, deletedAt }).slice(1);
  return `{"name":${JSON.stringify(name)},"source":${JSON.stringify(source)},"columns":[${described.join()}],${traits}`;
};
