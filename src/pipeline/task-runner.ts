/** What a sink is asked for beside following the log (`verify`, `resync`), a step at a time between the steps of its session. */
import type { Logger } from 'pino';
import type { RowChange } from '../change/change.ts';
import type { LogReader } from '../log/log-reader.ts';
import type { Clock } from '../support/clock.ts';
import { WaggleError } from '../support/errors.ts';
import { nearestName } from '../support/nearest-name.ts';
import { Audit, type AuditHost, differencesOf } from './audit.ts';
import type { BatchApplier } from './batch-applier.ts';
import { chunkParts } from './batch-parts.ts';
import type { DeadLetters } from './dead-letters.ts';
import { isRefusal } from './isolation.ts';
import type { TableMapping } from './mapping.ts';
import type { RowChunk, RowSource } from './row-source.ts';
import type { Sink, SinkAudit } from './sink.ts';
import type { SinkTask } from './sink-store.ts';
import type { SinkTasks } from './sink-tasks.ts';

export interface TaskRunnerOptions {
  readonly sink: Sink;
  readonly reader: LogReader;
  readonly mapping: TableMapping;
  readonly rows: RowSource | null;
  readonly letters: DeadLetters | null;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What the session does for a task. */
export interface TaskSession {
  readonly applier: BatchApplier;
  /** Brings the sink to this position of the log. False: not now. */
  reach(asOf: RowChunk['asOf']): Promise<boolean>;
  catchUp(): Promise<void>;
  /** Begins a fill of these tables. */
  fillAgain(tables: readonly string[]): Promise<void>;
}

/** A slow task rests so many times as long as it worked. */
const SLOW_PAUSE = 9;

export class TaskRunner {
  readonly #options: TaskRunnerOptions;
  readonly #session: TaskSession;
  readonly #tasks: SinkTasks;
  /** What is told of the stream. */
  #audit: Audit | null = null;
  #running: { readonly task: SinkTask; readonly audit: Audit; pausedUntilMs: number } | null = null;

  constructor(options: TaskRunnerOptions, tasks: SinkTasks, session: TaskSession) {
    this.#options = options;
    this.#tasks = tasks;
    this.#session = session;
    session.applier.onPart = (part) => this.#audit?.streamed(part);
  }

  /** A step of what was asked for. False: nothing to do now. */
  async step(): Promise<boolean> {
    const { clock, logger } = this.#options;
    const tasks = this.#tasks;
    if (this.#running === null) {
      const task = tasks.next();
      if (task === null) return false;
      await this.#begin(task);
      return true;
    }
    const { task, audit } = this.#running;
    if (clock.now() < this.#running.pausedUntilMs) return false;
    const beganMs = clock.now();
    try {
      const finished = await audit.step();
      this.#running.pausedUntilMs = task.slow ? clock.now() + SLOW_PAUSE * (clock.now() - beganMs) : 0;
      tasks.progress(task, audit.result);
      if (!finished) return true;
    } catch (error) {
      this.#end();
      // The sink itself failed while it was mended or caught up: that is for the runner. The target could not be read: that is for whoever asked.
      if (!(error instanceof AuditError)) throw error;
      tasks.failed(task, error.reason);
      logger.warn({ code: error.reason.code, reason: error.reason.message, task: task.kind }, 'the target cannot be compared');
      await this.#session.applier.reopen();
      return true;
    }
    this.#end();
    tasks.done(task, audit.result, audit.values);
    const differences = differencesOf(audit.result);
    logger[differences > 0 ? 'warn' : 'info'](
      { task: task.kind, differences, first: audit.result.first },
      task.kind === 'resync' ? 'the target was compared and mended' : 'the target was compared',
    );
    return true;
  }

  /**
   * Compares one table and mends it, to the end: as a resync, but for a table that is being filled. False: the target cannot be read so far that all
   * surplus rows are found (the sink is open again), or `signal` is aborted.
   */
  async mend(table: string, signal: AbortSignal): Promise<boolean> {
    const { sink, rows, letters, logger } = this.#options;
    if (sink.audit === undefined || rows === null) return false;
    const audit = new Audit(this.#auditHost(sink.audit, rows, 'resync'), [table], { mends: true, values: false });
    this.#audit = audit;
    try {
      while (!(await audit.step())) if (signal.aborted) return false;
    } catch (error) {
      if (!(error instanceof AuditError)) throw error;
      await this.#session.applier.reopen();
      return false;
    } finally {
      this.#audit = null;
    }
    const [counts] = audit.result.tables;
    if (counts === undefined) return true;
    if (counts.surplus !== 0) {
      // Rows can have been refused for want of a value that one of these held.
      letters?.askAll();
      logger.info({ table, surplus: counts.surplus }, 'rows that the hive does not have were removed');
    }
    return counts.surplus !== null;
  }

  async #begin(asked: SinkTask): Promise<void> {
    const { sink, rows, reader, mapping } = this.#options;
    const tasks = this.#tasks;
    const wasRunning = asked.state === 'running';
    const names = (reader.info().catalog?.tables ?? []).filter((table) => mapping.table(table) !== null).map((table) => table.name);
    const unknown = asked.tables?.find((name) => !names.includes(name));
    const task = tasks.begin(asked);
    if (unknown !== undefined) {
      const nearest = nearestName(unknown, names);
      const hint = nearest === null ? {} : { hint: `Did you mean ${nearest}?` };
      tasks.failed(task, new WaggleError('NOT_FOUND', `the sink gets no table ${unknown}`, hint));
    } else if (sink.audit !== undefined && rows !== null) {
      this.#running = {
        task,
        audit: new Audit(this.#auditHost(sink.audit, rows, task.kind), asked.tables ?? names, { mends: task.kind === 'resync', values: task.values }),
        pausedUntilMs: 0,
      };
      this.#audit = this.#running.audit;
    } else if (task.kind === 'verify' || rows === null) {
      tasks.failed(task, new WaggleError('SINK_NOT_READABLE', 'the target of this sink cannot be read back'));
    } else if (wasRunning) {
      // Its fill is in the checkpoint, and has come to its end.
      tasks.done(task, null);
    } else {
      await this.#session.fillAgain(asked.tables ?? names);
    }
  }

  #end(): void {
    this.#running = null;
    this.#audit = null;
  }

  #auditHost(target: SinkAudit, rows: RowSource, kind: SinkTask['kind']): AuditHost {
    const { mapping, letters, clock } = this.#options;
    const { applier, reach, catchUp } = this.#session;
    return {
      rows,
      target: {
        ...(target.pipelined === undefined ? {} : { pipelined: target.pipelined }),
        compare: (table, values) => readTarget(() => target.compare(table, values)),
        count: (table) => readTarget(() => target.count(table)),
        keys: (table, after, limit) => readTarget(() => target.keys(table, after, limit)),
        ...(target.differences === undefined ? {} : { differences: (table, values) => readTarget(() => target.differences!(table, values)) }),
      },
      mapping,
      reach,
      catchUp,
      mend: async (changes) => {
        try {
          await applier.deliver({ ...applier.standing(), parts: () => [[...changes]].values() });
        } catch (error) {
          // What the stream would stop at ends only the task here.
          throw isRefusal(error) ? new AuditError(error) : error;
        }
      },
      fillChanges: (chunk, fillRows, { begin, refused }) => {
        const options = applier.partOptions();
        const mends = kind === 'resync';
        // Who only looks writes no letter.
        const told = (change: RowChange, error: WaggleError): void => {
          if (mends) options.refused?.(change, error);
          refused();
        };
        const parts = { ...options, begin, empty: false, timestampUs: clock.now() * 1000 };
        return [...chunkParts({ ...chunk, rows: fillRows }, mends && options.refused === undefined ? parts : { ...parts, refused: told })].flat();
      },
      isDeadLetter: ({ source }) => letters !== null && source.op !== 's' && source.op !== 't' && letters.isDead(source),
    };
  }
}

/** What the target said when it was to be read. SINK_NOT_READABLE is the audit's own business. */
class AuditError extends Error {
  readonly reason: WaggleError;

  constructor(reason: WaggleError) {
    super(reason.message, { cause: reason });
    this.reason = reason;
  }
}

const readTarget = async <T>(read: () => Promise<T>): Promise<T> => {
  try {
    return await read();
  } catch (error) {
    const reason = error instanceof WaggleError ? error : new WaggleError('SINK_FAILED', String(error), { cause: error });
    throw reason.code === 'SINK_NOT_READABLE' ? reason : new AuditError(reason);
  }
};
