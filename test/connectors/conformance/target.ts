/** What a connector's test gives to the conformance suites. */
import type { Value } from '../../../src/change/table.ts';
import type { Sink, SinkColumn, SinkTable } from '../../../src/pipeline/sink.ts';

export interface ConformanceTarget {
  /** A new runner's sink into the same target. */
  createSink(): Sink;
  /** Drops a table beside the sink. */
  drop(table: SinkTable): Promise<void>;
  /** All rows in the order of the columns, each value as a text that shows its value (and storage class where the target keeps it). */
  rows(table: SinkTable): Promise<(string | null)[][]>;
  /** How `rows` shows a value that was applied. */
  show(value: Value, column: SinkColumn): string | null;
}

/** In what targets differ by their nature. */
export interface TargetTraits {
  /** A text may hold U+0000; else such a row is refused. */
  readonly holdsNul: boolean;
  /** A batch that breaks off leaves nothing behind; else what it leaves is made whole when it comes again. */
  readonly atomic: boolean;
  /** The target's table can get another key when the hive's has one. */
  readonly rekeys: boolean;
  /**
   * For targets whose tables have a schema: makes, beside the sink, a user's table `name` with the one text column `id`, and a unique index
   * on that column. Null: there is no such thing as a misfit.
   */
  readonly users: { createTable(name: string): Promise<void>; createUniqueIndex(name: string): Promise<void> } | null;
  /** Rows in each part of a large batch. Default 1000. */
  readonly partRows?: number;
  /** Names of further tests that the kind of target cannot pass; the rest is required. */
  readonly without?: readonly string[];
}

/** `users` of a target that takes plain SQL. */
export const sqlUsers = (run: (sql: string) => Promise<void>, type = 'text'): NonNullable<TargetTraits['users']> => ({
  createTable: (name) => run(`CREATE TABLE ${name} (id ${type})`),
  createUniqueIndex: (name) => run(`CREATE UNIQUE INDEX ${name}_key ON ${name} (id)`),
});
