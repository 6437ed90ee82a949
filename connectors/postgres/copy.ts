/**
 * New rows by COPY into the table itself. It knows no ON CONFLICT: a fill's rows may have come by the stream already. So it runs behind a savepoint, and
 * whatever the server says against it, the same rows go as an upsert then, and the table's next ones, too.
 */
import type { Value } from '../../src/change/table.ts';
import { type CopyColumn, copyText } from './copy-text.ts';
import { sqlState } from './errors.ts';
import type { Running, Session } from './session.ts';

export interface CopyScript {
  readonly script: (source: string) => string;
  readonly text: string;
}

/** With fewer an upsert is as fast, and needs one round trip instead of two. */
const LEAST_ROWS = 500;

/** Null: too few rows, or one that only an upsert can tell what is wrong with. `quoted`: the table. */
export const copyScript = (
  quoted: string,
  rows: readonly (readonly Value[])[],
  columns: readonly (CopyColumn & { readonly quoted: string })[],
  lenient: boolean,
): CopyScript | null => {
  if (rows.length < LEAST_ROWS) return null;
  const text = copyText(rows, columns, lenient);
  if (text === null) return null;
  const names = columns.map((column) => column.quoted).join(', ');
  return { text, script: (source) => `SAVEPOINT waggle_copy; COPY ${quoted} (${names}) FROM ${source}; RELEASE SAVEPOINT waggle_copy` };
};

/** An upsert or a delete. `copy`: what does the same faster, where no row is there yet. */
export interface Executable {
  readonly sql: string;
  /** Asked for only where they are needed. */
  readonly literals: readonly string[];
  readonly copy?: CopyScript;
  /** `copies` goes false when rows were there. */
  readonly writer: { copies: boolean };
}

export const execute = (session: Session, statement: Executable): Running => {
  const { copy, sql, writer } = statement;
  const upsert = async (): Promise<void> => void (await session.query(sql, statement.literals));
  if (copy === undefined || !writer.copies) return { sent: Promise.resolve(), done: upsert() };
  const { sent, done } = session.copy(copy.script, copy.text);
  const orUpserted = async (): Promise<void> => {
    try {
      await done;
    } catch (error) {
      if (sqlState(error) === null) throw error;
      writer.copies = false;
      await session.script('ROLLBACK TO SAVEPOINT waggle_copy');
      await upsert();
    }
  };
  return { sent, done: orUpserted() };
};
