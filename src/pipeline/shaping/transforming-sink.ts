/**
 * A sink with the user's function before it. The function sees each row as it is shaped by everything else, and answers with the columns
 * that it changes, or with null for a row that the target does not get.
 *
 * Guarantees: the key is not the function's to change. A row that it leaves out is removed from the target where it may stand there. An
 * exception, an answer that is none, or no answer in time is a refused row (SINK_ROW_REFUSED); nothing of its batch is applied by a
 * target with transactions. The function runs in a thread of its own, without the environment's variables, and is ended with the sink.
 */
import type { Checkpoint } from '../../change/change.ts';
import type { Value } from '../../change/table.ts';
import { WaggleError } from '../../support/errors.ts';
import {
  type Batch,
  type ColumnDifference,
  type RowDifferences,
  RowRefusedError,
  type Sink,
  type SinkAudit,
  type SinkChange,
  type SinkColumn,
  type SinkContext,
  type SinkRowChange,
  type SinkTable,
} from '../sink.ts';
import { convert } from './convert.ts';
import { type Answer, type Question, TransformThread } from './transform-thread.ts';

export interface TransformOptions {
  /** Where the configuration names it, for errors. */
  readonly place: string;
  /** Absolute path. */
  readonly module: string;
  /** For one row. */
  readonly timeoutMs: number;
}

export class TransformingSink implements Sink {
  readonly wants: Sink['wants'];
  readonly integers: 'number' | 'bigint';
  readonly batchRows?: number;
  readonly rehearse?: NonNullable<Sink['rehearse']>;
  readonly audit?: SinkAudit;
  readonly #sink: Sink;
  readonly #options: TransformOptions;
  #thread: TransformThread | null = null;

  constructor(sink: Sink, options: TransformOptions) {
    this.#sink = sink;
    this.#options = options;
    this.wants = sink.wants;
    this.integers = sink.integers ?? 'number';
    const { batchRows, rehearse, audit } = sink;
    if (batchRows !== undefined) this.batchRows = batchRows;
    if (rehearse !== undefined) this.rehearse = ({ parts, checkpoint }) => sink.rehearse!({ checkpoint, parts: () => this.#transformed(parts()) });
    if (audit !== undefined)
      this.audit = {
        ...(audit.pipelined === undefined ? {} : { pipelined: audit.pipelined }),
        compare: (table, rows) => this.#compare(audit, table, rows),
        ...(audit.differences === undefined ? {} : { differences: (table, rows) => this.#differences(audit, table, rows) }),
        count: (table) => audit.count(table),
        keys: (table, after, limit) => audit.keys(table, after, limit),
      };
  }

  get place(): string | null {
    return this.#sink.place ?? null;
  }

  async open(context: SinkContext): Promise<Checkpoint | null> {
    this.#thread ??= await TransformThread.start(this.#options);
    return this.#sink.open(context);
  }

  apply({ parts, checkpoint }: Batch): Promise<void> {
    return this.#sink.apply({ checkpoint, parts: () => this.#transformed(parts()) });
  }

  async close(): Promise<void> {
    const thread = this.#thread;
    this.#thread = null;
    await Promise.all([thread?.end(), this.#sink.close()]);
  }

  /** Rows that the function leaves out are as they shall be. */
  async #compare(audit: SinkAudit, table: SinkTable, rows: readonly (readonly Value[])[]): Promise<RowDifferences> {
    const kept = await this.#kept(table, rows);
    const found = await audit.compare(
      table,
      kept.map(({ row }) => row),
    );
    const places = (indexes: readonly number[]): number[] => indexes.map((index) => kept[index]!.index);
    return { missing: places(found.missing), changed: places(found.changed) };
  }

  async #differences(audit: SinkAudit, table: SinkTable, rows: readonly (readonly Value[])[]): Promise<readonly (readonly ColumnDifference[])[]> {
    const kept = await this.#kept(table, rows);
    const found = await audit.differences!(
      table,
      kept.map(({ row }) => row),
    );
    const byRow = new Map(kept.map(({ index }, place) => [index, found[place]!]));
    return rows.map((_, index) => byRow.get(index) ?? []);
  }

  /** What the function makes of rows of the target's, without those that it leaves out. */
  async #kept(table: SinkTable, rows: readonly (readonly Value[])[]): Promise<{ readonly row: readonly Value[]; readonly index: number }[]> {
    const refused = (what: string): WaggleError =>
      new WaggleError('SINK_NOT_READABLE', `table ${table.source}: the transform module ${what}`, { hint: HINT });
    const answers = await this.#answers(rows.map((values) => ({ table, values, op: 'r', refused })));
    return answers.flatMap(({ row }, index) => (row === null ? [] : [{ row, index }]));
  }

  async *#transformed(parts: AsyncIterable<SinkChange[]>): AsyncGenerator<SinkChange[], void, undefined> {
    for await (const part of parts) {
      const transformed = await this.#part(part);
      if (transformed.length > 0) yield transformed;
    }
  }

  async #part(part: readonly SinkChange[]): Promise<SinkChange[]> {
    const images = part.flatMap(imagesOf);
    const answers = await this.#answers(images);
    const rows = new Map(images.map(({ values }, index) => [values, answers[index]!]));
    return part.flatMap((change): SinkChange[] => {
      if (change.op === 's' || change.op === 't') return [change];
      const before = change.before === null ? null : rows.get(change.before)!.row;
      const after = change.after === null ? null : rows.get(change.after)!.row;
      return transformedChange(change, { before, after }, this.wants);
    });
  }

  /** For each image its row, or null where it is left out. */
  async #answers(images: readonly Image[]): Promise<{ readonly row: readonly Value[] | null }[]> {
    const answers = await this.#thread!.ask(images.map(questionOf));
    for (const [index, answer] of answers.entries()) if (answer.kind === 'failed') throw images[index]!.refused(answer.reason);
    return images.map((image, index) => ({ row: rowOf(image, { answer: answers[index]!, integers: this.integers }) }));
  }
}

/** A row that the function is asked about. */
interface Image {
  readonly table: SinkTable;
  readonly values: readonly Value[];
  readonly op: string;
  /** What is thrown when the function does not do what it should; `what` it did. */
  readonly refused: (what: string) => WaggleError;
}

const imagesOf = (change: SinkChange): Image[] => {
  if (change.op === 's' || change.op === 't') return [];
  const { table, op } = change;
  const refused = (what: string): WaggleError => new RowRefusedError(change, `table ${table.source}: the transform module ${what}`, { hint: HINT });
  return [change.before, change.after].filter((values) => values !== null).map((values) => ({ table, values, op, refused }));
};

const HINT = 'Mend the module, or let it give null for rows that the target shall not get; then restart waggle.';

const questionOf = ({ table, values, op }: Image): Question => ({
  table: table.name,
  op,
  row: Object.fromEntries(table.columns.map((column, index) => [column.name, shown(values[index] ?? null)])),
});

/** INTEGER as the module gets it: a number where a double holds it, whatever the sink asks for. */
const shown = (value: Value): Value => (typeof value === 'bigint' && Number.isSafeInteger(Number(value)) ? Number(value) : value);

/** Null: left out. */
const rowOf = (image: Image, { answer, integers }: { answer: Answer; integers: 'number' | 'bigint' }): readonly Value[] | null => {
  if (answer.kind !== 'row' || answer.row === null) return null;
  const { table, values, refused } = image;
  const row = [...values];
  for (const [name, given] of Object.entries(answer.row)) {
    const index = table.columns.findIndex((column) => column.name === name);
    const column = table.columns[index];
    if (column === undefined) throw refused(`gave a column ${name}, which the table does not have (add it with \`columns: add\`)`);
    if (!isValue(given)) throw refused(`gave something for ${name} that is no value of a database`);
    if (sameValue(given, shown(row[index]!))) continue;
    if (table.key.includes(index)) throw refused(`changed the key column ${name}`);
    const value = fitted(column, given, integers);
    if (value === undefined) throw refused(`gave something for ${name} that is no ${column.kind}`);
    row[index] = value;
  }
  return row;
};

/** A value in the form in which the sink gets such columns; undefined: it has none. */
const fitted = (column: SinkColumn, given: Value, integers: 'number' | 'bigint'): Value | undefined => {
  if (column.kind !== undefined) return convert(column.kind === 'timestamp' ? 'timestamptz' : column.kind, given, integers);
  return integers === 'bigint' && column.affinity !== 'REAL' && Number.isSafeInteger(given) ? BigInt(given as number) : given;
};

const sameValue = (a: Value, b: Value): boolean =>
  a instanceof Uint8Array && b instanceof Uint8Array ? Buffer.compare(a, b) === 0 : Object.is(a, b);

type Images = { readonly before: readonly Value[] | null; readonly after: readonly Value[] | null };

const transformedChange = (change: SinkRowChange, { before, after }: Images, wants: Sink['wants']): SinkChange[] => {
  if (change.after === null) return change.before !== null && before === null ? [] : [{ ...change, before }];
  if (after !== null) return [{ ...change, op: change.op === 'u' && change.before !== null && before === null ? 'c' : change.op, before, after }];
  // Of a state nobody says what was there before; of changes the image does.
  const mayStand = wants === 'states' || before !== null;
  return mayStand ? [{ ...change, op: 'd', before, after: null }] : [];
};

const isValue = (value: unknown): value is Value =>
  value === null || typeof value === 'string' || typeof value === 'number' || typeof value === 'bigint' || value instanceof Uint8Array;
