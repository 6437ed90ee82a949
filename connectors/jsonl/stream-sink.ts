/**
 * Events as lines on a stream (standard output). The checkpoint stands in the sink's own state directory and is written
 * when the whole batch has been handed to the system: after a kill the last events come again, with the same seq and
 * content, and none is missing.
 */
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import type { Checkpoint } from '../../src/change/change.ts';
import type { Batch, Sink, SinkContext } from '../../src/pipeline/sink.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { readCheckpointFile, writeCheckpointFile } from './checkpoint-file.ts';
import { toSinkError } from './errors.ts';
import { LineWriter } from './line-writer.ts';

export class StreamSink implements Sink {
  readonly wants = 'changes';
  readonly #stream: Writable;
  readonly #label: string;
  #live: { readonly context: SinkContext; readonly path: string; readonly lines: LineWriter } | null = null;

  constructor(stream: Writable, label: string) {
    this.#stream = stream;
    this.#label = label;
  }

  async open(context: SinkContext): Promise<Checkpoint | null> {
    await this.close();
    const path = join(context.stateDir, 'checkpoint.json');
    try {
      const saved = await readCheckpointFile(path);
      // The callback of each write tells its error; without a listener the same error would end the process, also after `close`.
      if (!this.#stream.listeners('error').includes(ignore)) this.#stream.on('error', ignore);
      this.#live = { context, path, lines: new LineWriter(context.hive, (block) => this.#write(block)) };
      return saved?.checkpoint ?? null;
    } catch (error) {
      throw toSinkError(error, this.#label);
    }
  }

  async apply(batch: Batch): Promise<void> {
    const live = this.#live;
    if (live === null) throw new WaggleError('SINK_UNREACHABLE', `${this.#label}: not open`);
    try {
      await live.lines.writeBatch(batch);
      await writeCheckpointFile(live.path, { format: 1, sink: live.context.name, token: '', bytes: 0, checkpoint: batch.checkpoint });
    } catch (error) {
      throw toSinkError(error, this.#label);
    }
  }

  /** The stream stays open: it is the process's. */
  async close(): Promise<void> {
    this.#live = null;
  }

  #write(block: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#stream.write(block, (error) => (error ? reject(error) : resolve()));
    });
  }
}

const ignore = (): void => {};
