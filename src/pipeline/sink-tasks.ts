/**
 * What a sink's runner is asked for, by the command line, by the clock and by a changed configuration, how far it is, and what of it the target
 * does not hold. In `sinks.db`.
 */
import type { Checkpoint } from '../change/change.ts';
import type { Clock } from '../support/clock.ts';
import type { WaggleError } from '../support/errors.ts';
import type { AuditResult, DifferentValue } from './audit.ts';
import type { SinkStore, SinkTask } from './sink-store.ts';

export interface SinkTasksOptions {
  readonly store: SinkStore;
  readonly sink: string;
  /** How often the sink is verified in the background; null: never by itself. */
  readonly verifyEveryMs: number | null;
  readonly clock: Clock;
}

const LOOK_EVERY_MS = 250;
const SAVE_EVERY_MS = 250;
/** How long the result of a task is kept. */
const KEEP_MS = 24 * 3600 * 1000;

export class SinkTasks {
  readonly #options: SinkTasksOptions;
  #lookedAtMs = Number.NEGATIVE_INFINITY;
  #savedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: SinkTasksOptions) {
    this.#options = options;
  }

  /** What is to be done now; looks at most four times a second. */
  next(): SinkTask | null {
    const { store, sink, clock, verifyEveryMs } = this.#options;
    const now = clock.now();
    if (now - this.#lookedAtMs < LOOK_EVERY_MS) return null;
    this.#lookedAtMs = now;
    const task = store.nextTask(sink);
    if (task !== null || verifyEveryMs === null) return task;
    const last = store.lastVerification(sink);
    if (last !== null && now - last.updatedAtMs < verifyEveryMs) return null;
    store.forgetTasks(now - KEEP_MS);
    store.ask({ sink, kind: 'verify', tables: null, slow: true }, now);
    return store.nextTask(sink);
  }

  /** So that it is done beside the stream, and again after a kill. */
  askResync(tables: readonly string[]): void {
    const { store, sink, clock } = this.#options;
    store.ask({ sink, kind: 'resync', tables, slow: false }, clock.now());
  }

  begin(task: SinkTask): SinkTask {
    const now = this.#options.clock.now();
    return this.#save({ ...task, state: 'running', result: null, startedAtMs: now, updatedAtMs: now });
  }

  /** Saved at most four times a second. */
  progress(task: SinkTask, result: AuditResult): void {
    const now = this.#options.clock.now();
    if (now - this.#savedAtMs < SAVE_EVERY_MS) return;
    this.#savedAtMs = now;
    this.#save({ ...task, result, updatedAtMs: now });
  }

  /** `values`: kept for whoever asked for them, until they are taken. */
  done(task: SinkTask, result: AuditResult | null, values: readonly DifferentValue[] | null = null): void {
    if (values !== null) this.#options.store.saveValues(task.id, values, this.#options.clock.now());
    this.#save({ ...task, state: 'done', result, updatedAtMs: this.#options.clock.now() });
  }

  failed(task: SinkTask, { code, message, hint }: WaggleError): void {
    this.#save({ ...task, state: 'failed', error: { code, message, hint }, updatedAtMs: this.#options.clock.now() });
  }

  /** The configuration of the tables by which the target was filled, as JSON; null: not known. */
  mapping(): string | null {
    return this.#options.store.mapping(this.#options.sink);
  }

  saveMapping(spec: string): void {
    this.#options.store.saveMapping(this.#options.sink, spec);
  }

  /** Where a sink begins that is not filled: where the log was (`head`) when it was first to run, however long its target could not be reached then. */
  beginning(head: Checkpoint): Checkpoint {
    const { store, sink } = this.#options;
    const kept = store.beginning(sink);
    if (kept !== null) return kept;
    store.saveBeginning(sink, head);
    return head;
  }

  /** The target has a checkpoint of its own now. */
  forgetBeginning(): void {
    this.#options.store.forgetBeginning(this.#options.sink);
  }

  #save(task: SinkTask): SinkTask {
    this.#options.store.saveTask(task);
    return task;
  }
}
