/**
 * The connector `mysql`: MySQL (8.0.17 or newer) and MariaDB (10.5 or newer) through `mysql2`. States are applied set-wise, a batch and its
 * checkpoint in one transaction: after any crash the target stands exactly at its checkpoint. DDL commits. So a batch that meets a table or column
 * that is to be made, or to be widened, is taken back, and begins again behind the DDL. Only what stands before a schema change of the hive is committed
 * ahead of the checkpoint, and marked: others see it, and it is not applied again. For the same reason a batch cannot be rehearsed: the sink itself names
 * the row that the target refuses.
 */
import { randomUUID } from 'node:crypto';
import type { Checkpoint } from '../../src/change/change.ts';
import type { Batch, Sink, SinkAudit, SinkChange, SinkContext, SinkTable } from '../../src/pipeline/sink.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { CheckpointTable, prepareTables } from './checkpoint-table.ts';
import { toSinkError } from './errors.ts';
import type { MysqlOptions } from './options.ts';
import { applySchemaChange } from './schema-change.ts';
import { labelOf, Session } from './session.ts';
import { TableAudit } from './table-audit.ts';
import { type Statement, TableWriter } from './table-writer.ts';
import { type Target, TargetTable } from './target-table.ts';

export const createSink = (options: MysqlOptions): Sink => new MysqlSink(options);

/** The batch: for DDL, which commits. */
class TakenBack extends Error {}

/** What an open connection has. */
interface Live {
  readonly session: Session;
  readonly checkpoints: CheckpointTable;
  readonly target: Target;
  readonly writers: Map<string, TableWriter>;
  /** Rows were written since the last point to which the target may be committed. */
  unmarked: boolean;
  /** Waggle's own tables may be created although they were created before: nothing of this sink is there yet. */
  filling: boolean;
}

// Strict: nothing is cut or rounded to a valid value in silence. Foreign keys: the order of the hive's rows is not theirs, and the hive
// has checked them. A lock is waited for as long as Postgres' sink does.
const SETTINGS = `SET NAMES utf8mb4, SESSION sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION', SESSION time_zone = '+00:00',
  SESSION foreign_key_checks = 0, SESSION innodb_lock_wait_timeout = 10, SESSION lock_wait_timeout = 10, SESSION wait_timeout = 86400;
  SELECT @@max_allowed_packet AS packet, (SELECT min(COLLATION_NAME) FROM information_schema.COLLATIONS
    WHERE COLLATION_NAME IN ('utf8mb4_nopad_bin', 'utf8mb4_0900_bin')) AS collation`;

class MysqlSink implements Sink {
  readonly wants = 'states';
  readonly #options: MysqlOptions;
  readonly #label: string;
  readonly #token = randomUUID();
  #held = false;
  #live: Live | null = null;
  /** The statement that the server works on while the next one is being encoded. */
  #underWay: { readonly statement: Statement; readonly done: Promise<void> } | null = null;

  constructor(options: MysqlOptions) {
    this.#options = options;
    this.#label = labelOf(options);
  }

  async open(context: SinkContext): Promise<Checkpoint | null> {
    await this.close();
    let session: Session | null = null;
    try {
      session = await Session.open(this.#options, context);
      const [settings] = await session.query(SETTINGS);
      const collation = settings?.['collation'];
      if (collation == null)
        throw new WaggleError('SINK_DENIED', `${this.#label}: the server is too old`, { hint: 'Use MySQL 8.0.17 or MariaDB 10.5, or a newer one.' });
      await prepareTables(session, collation);
      const checkpoints = new CheckpointTable({ session, sink: context.name, token: this.#token });
      const checkpoint = await checkpoints.take(this.#held);
      this.#held = true;
      const target: Target = {
        session,
        label: this.#label,
        collation,
        maxPacketBytes: Number(settings?.['packet']),
        logger: context.logger,
        ddl: (...statements) => this.#ddl(statements),
      };
      const filling = checkpoint === null || checkpoint.fill !== null;
      this.#live = { session, checkpoints, target, writers: new Map(), unmarked: false, filling };
      return checkpoint;
    } catch (error) {
      await session?.close();
      throw this.#failed(error);
    }
  }

  async apply(batch: Batch): Promise<void> {
    const live = this.#open();
    live.filling ||= batch.checkpoint.fill !== null;
    while (!(await this.#applyOnce(live, batch))) live.writers.clear();
    live.filling = batch.checkpoint.fill !== null;
  }

  /** False: taken back for DDL, which is done now. */
  async #applyOnce(live: Live, batch: Batch): Promise<boolean> {
    let table: SinkTable | undefined;
    try {
      live.unmarked = false;
      await live.checkpoints.begin();
      const applied = await live.checkpoints.applied(batch.checkpoint);
      for await (const part of batch.parts()) {
        for (const change of part) {
          const { seq } = change.source;
          if (seq !== null && seq > applied.behind && seq <= applied.upTo) continue;
          table = change.table ?? undefined;
          await this.#take(live, change, batch.checkpoint);
        }
        for (const writer of live.writers.values()) await this.#flush(writer);
      }
      await this.#settle();
      table = undefined;
      await live.checkpoints.commit(batch.checkpoint);
      return true;
    } catch (error) {
      const under = this.#underWay?.statement.writer.target;
      this.#underWay = null;
      if (error instanceof TakenBack) return false;
      throw this.#failed(error, under?.table ?? table);
    }
  }

  /** Nothing of the batch may be under way. Throws TakenBack where it was to be taken back. */
  async #ddl(statements: readonly string[]): Promise<void> {
    const { session, checkpoints, unmarked } = this.#open();
    if (unmarked) {
      await session.query('ROLLBACK');
      await checkpoints.begin();
    }
    for (const statement of statements) {
      await session.query(statement);
      await checkpoints.begin();
    }
    if (unmarked) throw new TakenBack();
  }

  readonly audit: SinkAudit = {
    compare: (table, rows) => this.#read(table, (audit) => audit.compare(rows)),
    differences: (table, rows) => this.#read(table, (audit) => audit.differences(rows)),
    count: (table) => this.#read(table, (audit) => audit.count()),
    keys: (table, after, limit) => this.#read(table, (audit) => audit.keys(after, limit)),
  };

  async #read<T>(table: SinkTable, work: (audit: TableAudit) => Promise<T>): Promise<T> {
    const live = this.#open();
    try {
      return await work(await TableAudit.open(live.target, table));
    } catch (error) {
      throw this.#failed(error, table);
    }
  }

  #open(): Live {
    if (this.#live === null) throw new WaggleError('SINK_UNREACHABLE', `${this.#label}: not open`);
    return this.#live;
  }

  async close(): Promise<void> {
    const live = this.#live;
    this.#live = null;
    this.#underWay = null;
    await live?.session.close();
  }

  async #take(live: Live, change: SinkChange, checkpoint: Checkpoint): Promise<void> {
    if (change.op === 's') {
      for (const writer of live.writers.values()) await this.#flush(writer);
      await this.#settle();
      live.writers.clear();
      const { seq } = change.source;
      if (seq !== null && change.table !== null) {
        await live.checkpoints.mark(checkpoint, seq - 1);
        live.unmarked = false;
      }
      const target = await applySchemaChange(live.target, change, live.filling);
      if (target !== null) this.#addWriter(live, target);
      return;
    }
    let writer = live.writers.get(change.table.name);
    if (writer?.target.table !== change.table) writer = await this.#openWriter(live, change.table);
    if (change.op === 't') {
      await this.#flush(writer);
      await this.#settle();
      live.unmarked = true;
      if (change.mark === undefined) await writer.target.deleteAll();
      else await writer.target.markAll(change.mark);
    } else if (writer.add(change)) await this.#flush(writer);
  }

  async #openWriter(live: Live, table: SinkTable): Promise<TableWriter> {
    const old = live.writers.get(table.name);
    if (old !== undefined) await this.#flush(old);
    await this.#settle();
    return this.#addWriter(live, await TargetTable.open(live.target, table, live.filling));
  }

  #addWriter(live: Live, target: TargetTable): TableWriter {
    const writer = new TableWriter(target, live.target, () => this.#settle());
    live.writers.set(target.table.name, writer);
    return writer;
  }

  async #flush(writer: TableWriter): Promise<void> {
    for (const statement of await writer.take()) {
      await this.#settle();
      this.#open().unmarked = true;
      const done = writer.write(statement);
      // Whoever awaits `done` next gets the error; until then it must not count as unhandled.
      done.catch(() => {});
      this.#underWay = { statement, done };
    }
  }

  async #settle(): Promise<void> {
    const underWay = this.#underWay;
    if (underWay === null) return;
    await underWay.done;
    this.#underWay = null;
  }

  #failed(error: unknown, table?: SinkTable): WaggleError {
    const place = table === undefined ? undefined : { table: table.name, columns: table.columns.map((column) => column.name) };
    const failure = toSinkError(error, this.#label, place);
    if (failure.code === 'SINK_FENCED') this.#held = false;
    return failure;
  }
}
