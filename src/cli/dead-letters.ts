/** `waggle dead-letters`: the rows that sinks refused. Works beside a running daemon, which takes up a retry within a second, and without one. */
import { join } from 'node:path';
import { existsSync } from 'node:fs';
import { Command } from 'commander';
import { type DeadLetter, DeadLetterStore } from '../pipeline/dead-letter-store.ts';
import type { RowChange } from '../change/change.ts';
import { keyNeedsRowid } from '../change/key.ts';
import type { Row } from '../change/row.ts';
import type { Value } from '../change/table.ts';
import { WaggleError } from '../support/errors.ts';
import { StateLock } from '../support/state-lock.ts';
import { existingState, type StateOptions, withStateOptions } from './state-option.ts';

interface ListOptions extends StateOptions {
  readonly json?: boolean;
}

export const deadLettersCommand = (): Command => {
  const command = new Command('dead-letters').description('Rows that a sink refused: kept aside with the reason, while the others flow on.');
  command.addCommand(
    withStateOptions(new Command('list'))
      .description('One line for each: number, sink, table, key, since when, why.')
      .argument('[sink]', "the sink's name")
      .option('--json', 'as JSON, with all values')
      .action(list),
  );
  command.addCommand(
    withStateOptions(new Command('show'))
      .description('The changes with all their values, as JSON.')
      .argument('<sink>', "the sink's name")
      .argument('[id...]', 'their numbers; none: all of the sink')
      .action(show),
  );
  command.addCommand(
    withStateOptions(new Command('retry'))
      .description('Give them to the sink again. What it refuses again stays.')
      .argument('<sink>', "the sink's name")
      .argument('[id...]', 'their numbers; none: all of the sink')
      .action(retry),
  );
  command.addCommand(
    withStateOptions(new Command('discard'))
      .description('Forget them. The target keeps what it has of the row; the next change of the row goes to it again.')
      .argument('<sink>', "the sink's name")
      .argument('[id...]', 'their numbers; none: all of the sink')
      .action(discard),
  );
  return command;
};

const list = (sink: string | undefined, options: ListOptions): void => {
  using store = openStore(options);
  const letters = store?.list(sink ?? null) ?? [];
  if (options.json === true) {
    process.stdout.write(`${JSON.stringify(letters.map(shown), null, 2)}\n`);
    return;
  }
  if (letters.length === 0) process.stdout.write('no dead letters\n');
  for (const letter of letters) process.stdout.write(`${lineOf(letter)}\n`);
};

const show = (sink: string, ids: readonly string[], options: StateOptions): void => {
  using store = openStore(options);
  const wanted = numbers(ids);
  const letters = (store?.list(sink) ?? []).filter((letter) => wanted?.includes(letter.id) ?? true);
  if (letters.length === 0) throw notFound(sink);
  process.stdout.write(`${JSON.stringify(letters.map(shown), null, 2)}\n`);
};

const retry = (sink: string, ids: readonly string[], options: StateOptions): void => {
  const state = existingState(options);
  using store = openStore(options);
  const asked = store?.askRetry(sink, numbers(ids)) ?? 0;
  if (asked === 0) throw notFound(sink);
  const when = StateLock.holder(state) === null ? 'when the daemon runs again' : 'now';
  process.stdout.write(`${letters(asked)} will be tried again ${when}; see what became of them with \`waggle dead-letters list\`\n`);
};

const discard = (sink: string, ids: readonly string[], options: StateOptions): void => {
  using store = openStore(options);
  const gone = store?.discard(sink, numbers(ids)) ?? 0;
  if (gone === 0) throw notFound(sink);
  process.stdout.write(`${letters(gone)} discarded\n`);
};

const letters = (count: number): string => (count === 1 ? '1 dead letter' : `${count} dead letters`);

const notFound = (sink: string): WaggleError =>
  new WaggleError('NOT_FOUND', `there is no such dead letter of a sink ${sink}`, { hint: 'See them with `waggle dead-letters list`.' });

/** Null: no daemon has made the file. */
const openStore = (options: StateOptions): DeadLetterStore | null => {
  const path = join(existingState(options), 'dead-letters.db');
  return existsSync(path) ? DeadLetterStore.open(path) : null;
};

/** Null: all. Throws USAGE. */
const numbers = (ids: readonly string[]): number[] | null => {
  const wrong = ids.find((id) => !/^\d{1,15}$/.test(id));
  if (wrong !== undefined) throw new WaggleError('USAGE', `${wrong} is not the number of a dead letter`);
  return ids.length === 0 ? null : ids.map(Number);
};

const lineOf = ({ id, sink, table, change, op, changes, error, firstAtMs, retry: asked }: DeadLetter): string =>
  [
    String(id),
    sink,
    table,
    `${op} ${keyText(change)}`,
    `since ${new Date(firstAtMs).toISOString()}`,
    ...(changes > 1 ? [`${changes} changes`] : []),
    ...(asked ? ['to be retried'] : []),
    `${error.message} [${error.code}]`,
  ].join('  ');

const keyText = ({ table, before, after }: RowChange): string => {
  const row = (after ?? before)!;
  if (table.key.length === 0) return `rowid ${row.rowid}`;
  const values = row.values();
  const key = table.key.map((index) => values[index] ?? null);
  const text = key.map((value) => JSON.stringify(plain(value))).join(', ');
  const told =
    table.withoutRowid !== undefined ||
    !keyNeedsRowid(
      table.key.map((index) => table.columns[index]!),
      key,
    );
  return told ? text : `${text} (rowid ${row.rowid})`;
};

const shown = ({ id, sink, table, op, seq, change, error, changes, firstAtMs, lastAtMs, retry: asked }: DeadLetter): object => ({
  id,
  sink,
  table,
  op,
  seq,
  txid: change.transaction?.txid ?? null,
  key: keyText(change),
  before: valuesOf(change.before),
  after: valuesOf(change.after),
  changes,
  error,
  firstAt: new Date(firstAtMs).toISOString(),
  lastAt: new Date(lastAtMs).toISOString(),
  retry: asked,
});

const valuesOf = (row: Row | null): Record<string, unknown> | null => {
  if (row === null) return null;
  const values = row.values();
  return Object.fromEntries(row.table.columns.map((column, index) => [column.name, plain(values[index] ?? null)]));
};

/** As JSON can hold it: large integers as digits, blobs as base64. */
const plain = (value: Value): string | number | null => {
  if (typeof value === 'bigint') return String(value);
  if (typeof value === 'number' && !Number.isFinite(value)) return String(value);
  return value instanceof Uint8Array ? Buffer.from(value).toString('base64') : value;
};
