/**
 * Changes as POST requests to one URL, in log order or, with several requests at a time, in order per row.
 *
 * Guarantees: at least once. The checkpoint stands in the sink's own state directory and moves when the receiver has accepted every
 * request of a batch; after a kill the last requests come again. `webhook-id` is the same for the same content, so that a receiver
 * can tell them; one that applies rows by their key need not. A request that is refused is sent again in halves until a single change
 * is found, which the error names.
 */
import { hash } from 'node:crypto';
import { join } from 'node:path';
import type { Checkpoint } from '../../src/change/change.ts';
import { type Batch, RowRefusedError, type Sink, type SinkChange, type SinkContext } from '../../src/pipeline/sink.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { readCheckpointFile, writeCheckpointFile } from '../jsonl/checkpoint-file.ts';
import { Acknowledged } from './acknowledged.ts';
import { type Body, type Format, type FormatName, type Limits, makeFormat } from './formats.ts';
import type { HttpSender } from './http-sender.ts';
import { stepsOf } from './lanes.ts';

export interface WebhookSinkOptions {
  readonly sender: HttpSender;
  readonly format: FormatName;
  /** Requests at the same time at most. */
  readonly concurrency: number;
  readonly limits: Limits;
  /** Tell emptied tables also in formats that know no such operation. */
  readonly truncate: boolean;
}

interface Live {
  readonly context: SinkContext;
  readonly path: string;
  readonly format: Format;
}

export class WebhookSink implements Sink {
  readonly wants = 'changes';
  readonly batchRows = 5000;
  readonly #options: WebhookSinkOptions;
  readonly #acknowledged = new Acknowledged();
  #live: Live | null = null;

  constructor(options: WebhookSinkOptions) {
    this.#options = options;
  }

  async open(context: SinkContext): Promise<Checkpoint | null> {
    await this.close();
    const { format, limits, truncate } = this.#options;
    const path = join(context.stateDir, 'checkpoint.json');
    const saved = await readCheckpointFile(path);
    this.#live = { context, path, format: makeFormat(format, { hive: context.hive, limits, truncate }) };
    return saved?.checkpoint ?? null;
  }

  async apply({ parts, checkpoint }: Batch): Promise<void> {
    const live = this.#live;
    if (live === null) throw new WaggleError('SINK_UNREACHABLE', `${this.#options.sender.label}: not open`);
    this.#acknowledged.begin(checkpoint.logId);
    for await (const part of parts()) {
      this.#tellLeftOut(live, part);
      const due = part.filter((change) => !this.#acknowledged.has(change));
      for (const lanes of stepsOf(due, this.#options.concurrency)) await this.#send(live, lanes, checkpoint.logId);
    }
    await writeCheckpointFile(live.path, { format: 1, sink: live.context.name, token: '', bytes: 0, checkpoint });
    this.#acknowledged.clear();
  }

  async close(): Promise<void> {
    this.#live = null;
  }

  /** The first lane that fails stops the others behind the request that they have under way. */
  async #send({ context, format }: Live, lanes: readonly SinkChange[][], logId: string): Promise<void> {
    const { sender } = this.#options;
    const failed = new AbortController();
    const run = async (lane: readonly SinkChange[]): Promise<void> => {
      for (const body of format(lane)) {
        if (failed.signal.aborted) return;
        try {
          await sender.send({ path: body.path, id: messageId(body, logId), body: body.text }, context.signal);
          this.#acknowledged.add(body.changes);
        } catch (error) {
          if (!(error instanceof WaggleError && error.code === 'SINK_ROW_REFUSED')) throw error;
          // Which of them the receiver does not like, only smaller requests tell.
          if (body.changes.length === 1) throw refusalOf(body.changes[0]!, error);
          const middle = body.changes.length >> 1;
          await run(body.changes.slice(0, middle));
          await run(body.changes.slice(middle));
        }
      }
    };
    const results = await Promise.allSettled(
      lanes.map(async (lane) => {
        try {
          await run(lane);
        } catch (error) {
          failed.abort();
          throw error;
        }
      }),
    );
    const first = results.find((result) => result.status === 'rejected');
    if (first !== undefined) throw first.reason;
  }

  #tellLeftOut({ context }: Live, part: readonly SinkChange[]): void {
    if (this.#options.format === 'envelope' || this.#options.truncate) return;
    for (const change of part) {
      if (change.op === 't')
        context.logger.warn(
          { table: change.table.name, seq: change.source.seq },
          'the table was emptied, which this format cannot tell the receiver',
        );
    }
  }
}

const refusalOf = (change: SinkChange, error: WaggleError): WaggleError =>
  change.op === 's' || change.op === 't' ? error : new RowRefusedError(change, `${error.message} (table ${change.table.name})`, { hint: error.hint });

/** Log, range and content: two messages of one name are one message. */
const messageId = ({ text, path, changes }: Body, logId: string): string => {
  const [first, last] = [changes[0]!.source.seq, changes.at(-1)!.source.seq];
  const digest = hash('sha256', path + text).slice(0, 16);
  return first === null || last === null ? `${logId}.fill.${digest}` : `${logId}.${first}-${last}.${digest}`;
};
