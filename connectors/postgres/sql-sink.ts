/**
 * A sink into Postgres over any Session (`pg`, PGlite). States are applied set-wise, a batch and its checkpoint in one
 * transaction: after any crash the target stands exactly at its checkpoint.
 */
import { randomUUID } from 'node:crypto';
import type { Checkpoint } from '../../src/change/change.ts';
import type { Batch, Sink, SinkAudit, SinkChange, SinkContext, SinkTable } from '../../src/pipeline/sink.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { CheckpointTable, prepareTables } from './checkpoint-table.ts';
import { isOrderConflict, ordersOf, parentsFirst, readConstraints } from './constraints.ts';
import { execute } from './copy.ts';
import { isDataError, refusedValue, sqlState, toSinkError } from './errors.ts';
import { applySchemaChange } from './schema-change.ts';
import type { Session } from './session.ts';
import { TableAudit } from './table-audit.ts';
import { type Statement, TableWriter } from './table-writer.ts';
import { type Target, TargetTable } from './target-table.ts';

export interface SqlSinkOptions {
  /** Connects. Errors become SINK_* codes here. */
  readonly connect: (context: SinkContext) => Promise<Session>;
  /** null: the connection's own current schema. */
  readonly schema: string | null;
  /** Which server, for messages. No password. */
  readonly label: string;
  /** Ask the server who it is: it may be reached by several addresses. */
  readonly identify?: boolean;
}

/** What an open connection has. */
interface Live {
  readonly session: Session;
  readonly checkpoints: CheckpointTable;
  readonly target: Target;
  readonly writers: Map<string, TableWriter>;
  /** What was found of tables that are being compared; nothing is known any more when something is written, or a table is compared from its begin. */
  readonly audits: Map<SinkTable, Promise<TableAudit>>;
  readonly place: string | null;
  /** Waggle's own tables may be created although they were created before: nothing of this sink is there yet. */
  filling: boolean;
}

export class SqlSink implements Sink {
  readonly wants = 'states';
  readonly #options: SqlSinkOptions;
  readonly #token = randomUUID();
  #held = false;
  #live: Live | null = null;
  /** The statement that the server works on while the next one is being encoded. */
  #underWay: { readonly statement: Statement; readonly done: Promise<unknown> } | null = null;

  constructor(options: SqlSinkOptions) {
    this.#options = options;
  }

  get place(): string | null {
    return this.#live?.place ?? null;
  }

  async open(context: SinkContext): Promise<Checkpoint | null> {
    const { connect, label } = this.#options;
    await this.close();
    let session: Session | null = null;
    try {
      session = await connect(context);
      // Whatever joins here joins some thousand rows to a table by its key: one look into the index a row, never a reading of the whole table.
      const [settings] = await session.script(
        `SET standard_conforming_strings = on; SET extra_float_digits = 3; SET client_min_messages = warning;
         SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0;
         SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off;
         SELECT current_schema()::text AS schema, current_setting('server_version_num') AS version`,
      );
      const schema = this.#options.schema ?? settings?.['schema'];
      if (schema == null) throw new WaggleError('SINK_DENIED', `${label}: there is no schema to write to`, { hint: 'Name one with `schema`.' });
      await prepareTables(session, schema);
      const checkpoints = new CheckpointTable({ session, schema, sink: context.name, token: this.#token });
      const checkpoint = await checkpoints.take(this.#held);
      this.#held = true;
      const target = { session, schema, label, infinities: Number(settings?.['version']) >= 140_000, logger: context.logger };
      const place = this.#options.identify === true ? await placeOf(session, schema) : null;
      this.#live = {
        session,
        checkpoints,
        target,
        writers: new Map(),
        audits: new Map(),
        place,
        filling: checkpoint === null || checkpoint.fill !== null,
      };
      return checkpoint;
    } catch (error) {
      await session?.close();
      throw this.#failed(error);
    }
  }

  apply(batch: Batch): Promise<void> {
    return this.#write(batch, async (live) => {
      await live.checkpoints.commit(batch.checkpoint);
      live.filling = batch.checkpoint.fill !== null;
    });
  }

  rehearse(batch: Batch): Promise<void> {
    return this.#write(batch, async (live) => {
      await live.checkpoints.rollback();
      // They know of tables and columns that are gone again.
      live.writers.clear();
    });
  }

  readonly audit: SinkAudit = {
    pipelined: true,
    compare: (table, rows) => this.#read(table, (audit) => audit.compare(rows)),
    differences: (table, rows) => this.#read(table, (audit) => audit.differences(rows)),
    count: (table) => {
      this.#live?.audits.clear();
      return this.#read(table, (audit) => audit.count());
    },
    keys: (table, after, limit) => this.#read(table, (audit) => audit.keys(after, limit)),
  };

  async #read<T>(table: SinkTable, work: (audit: TableAudit) => Promise<T>): Promise<T> {
    const live = this.#open();
    try {
      let audit = live.audits.get(table);
      if (audit === undefined) {
        audit = TableAudit.open(live.target, table);
        live.audits.set(table, audit);
      }
      return await work(await audit);
    } catch (error) {
      throw this.#failed(error, table.name);
    }
  }

  #open(): Live {
    if (this.#live === null) throw new WaggleError('SINK_UNREACHABLE', `${this.#options.label}: not open`);
    return this.#live;
  }

  async #write(batch: Batch, finish: (live: Live) => Promise<void>): Promise<void> {
    const live = this.#open();
    let place: string | undefined;
    live.audits.clear();
    try {
      live.filling ||= batch.checkpoint.fill !== null;
      await live.checkpoints.begin();
      for await (const part of batch.parts()) {
        for (const change of part) {
          place = (change.table ?? null)?.name;
          await this.#take(live, change);
        }
        await this.#flushAll(live);
      }
      await this.#settle();
      place = undefined;
      await finish(live);
    } catch (error) {
      const statement = this.#underWay?.statement;
      this.#underWay = null;
      const found = statement !== undefined && isDataError(error) ? await refusedColumn(live, statement) : null;
      throw found ?? this.#failed(error, statement?.writer.target.name ?? place);
    }
  }

  async close(): Promise<void> {
    const live = this.#live;
    this.#live = null;
    this.#underWay = null;
    await live?.session.close();
  }

  async #take(live: Live, change: SinkChange): Promise<void> {
    if (change.op === 's') {
      await this.#flushAll(live);
      await this.#settle();
      live.writers.clear();
      const target = await applySchemaChange(live.target, change, live.filling);
      if (target !== null) await this.#addWriter(live, target);
      return;
    }
    let writer = live.writers.get(change.table.name);
    if (writer?.target.table !== change.table) writer = await this.#openWriter(live, change.table);
    if (change.op === 't') {
      await this.#flush(live, writer);
      await this.#settle();
      await (change.mark === undefined ? writer.target.deleteAll() : writer.target.markAll(change.mark));
    } else if (writer.add(change)) await this.#flush(live, writer);
  }

  async #openWriter(live: Live, table: SinkTable): Promise<TableWriter> {
    const old = live.writers.get(table.name);
    if (old !== undefined) await this.#flush(live, old);
    await this.#settle();
    return this.#addWriter(live, await TargetTable.open(live.target, table, live.filling));
  }

  async #addWriter(live: Live, target: TargetTable): Promise<TableWriter> {
    const constraints = await readConstraints(live.target, target);
    const writer = new TableWriter(target, { constraints, shared: live.target, settle: () => this.#settle() });
    live.writers.set(target.table.name, writer);
    return writer;
  }

  async #flushAll(live: Live): Promise<void> {
    const writers = [...live.writers.values()];
    if (writers.some(({ constraints }) => constraints.constrained)) await this.#flushConstrained(live, writers);
    else for (const writer of writers) await this.#flush(live, writer);
  }

  async #flush(live: Live, writer: TableWriter): Promise<void> {
    if (writer.constraints.constrained) return this.#flushAll(live);
    for (const statement of await writer.take()) {
      await this.#settle();
      await this.#start(live, statement);
    }
    return undefined;
  }

  /** One statement after the other, in the first order that the constraints of the target allow. */
  async #flushConstrained(live: Live, writers: readonly TableWriter[]): Promise<void> {
    const statements: Statement[] = [];
    for (const writer of parentsFirst(writers)) statements.push(...(await writer.take()));
    if (statements.length === 0) return;
    await this.#settle();
    let refused: { readonly error: unknown; readonly statement: Statement } | null = null;
    for (const order of ordersOf(statements)) {
      await live.session.script('SAVEPOINT waggle_part');
      try {
        for (const statement of order) {
          await this.#start(live, statement);
          await this.#settle();
        }
        await live.session.script('RELEASE SAVEPOINT waggle_part');
        return;
      } catch (error) {
        const statement = this.#underWay?.statement;
        if (statement === undefined || !isOrderConflict(error)) throw error;
        refused ??= { error, statement };
        this.#underWay = null;
        await live.session.script('ROLLBACK TO SAVEPOINT waggle_part');
      }
    }
    this.#underWay = { statement: refused!.statement, done: Promise.resolve() };
    throw refused!.error;
  }

  async #start(live: Live, statement: Statement): Promise<void> {
    const { sent, done } = execute(live.session, statement);
    // Whoever awaits `done` next gets the error; until then it must not count as unhandled.
    done.catch(() => {});
    this.#underWay = { statement, done };
    // Else the next statement would be encoded before this one's data are on their way.
    await sent;
  }

  async #settle(): Promise<void> {
    const underWay = this.#underWay;
    if (underWay === null) return;
    await underWay.done;
    this.#underWay = null;
  }

  #failed(error: unknown, place?: string): WaggleError {
    const failure = toSinkError(error, this.#options.label, place);
    if (failure.code === 'SINK_FENCED') this.#held = false;
    return failure;
  }
}

/** Cluster, database and schema. Null: what speaks the protocol of Postgres need not know its functions. */
const placeOf = async (session: Session, schema: string): Promise<string | null> => {
  try {
    const [row] = await session.query(
      'SELECT c.system_identifier::text AS cluster, d.oid::text AS database FROM pg_control_system() c, pg_database d WHERE d.datname = current_database()',
      [],
    );
    return row === undefined ? null : `postgres ${row['cluster']} ${row['database']} ${schema}`;
  } catch (error) {
    if (sqlState(error) === null) throw error;
    return null;
  }
};

/** Tries each column of a refused statement alone, to say which one it was. Null: none alone, or it cannot be told. */
const refusedColumn = async (live: Live, statement: Statement): Promise<WaggleError | null> => {
  const { session, target } = live;
  const { target: table } = statement.writer;
  for (const [place, column] of statement.columns.entries()) {
    try {
      await session.script(
        `ROLLBACK; BEGIN; CREATE TEMP TABLE waggle_probe ON COMMIT DROP AS SELECT ${column.quoted} AS c FROM ${table.quoted} WITH NO DATA`,
      );
    } catch {
      return null;
    }
    try {
      const cast =
        column.kind === 'other' ? `SELECT v::${column.type} FROM unnest($1::text[]) AS v` : `SELECT v FROM unnest($1::${column.type}[]) AS v`;
      await session.query(`INSERT INTO waggle_probe (c) ${cast}`, [statement.literals[place]!]);
    } catch (error) {
      if (!isDataError(error)) return null;
      return refusedValue({ target: target.label, table: table.name, column: column.name }, `the column (${column.type}) refuses a value`);
    }
  }
  return null;
};
