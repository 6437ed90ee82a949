/** Changes for people on a terminal. The checkpoint is that of the JSON lines, so that `--state` means the same for both. */
import { once } from 'node:events';
import type { Writable } from 'node:stream';
import { readCheckpointFile, writeCheckpointFile } from '../../connectors/jsonl/checkpoint-file.ts';
import { join } from 'node:path';
import type { Checkpoint } from '../change/change.ts';
import type { Batch, Sink, SinkContext } from '../pipeline/sink.ts';
import { formatChange } from './format-change.ts';

export class TerminalSink implements Sink {
  readonly wants = 'changes';
  readonly #stream: Writable;
  #context: SinkContext | null = null;

  constructor(stream: Writable) {
    this.#stream = stream;
  }

  async open(context: SinkContext): Promise<Checkpoint | null> {
    this.#context = context;
    return (await readCheckpointFile(this.#path(context)))?.checkpoint ?? null;
  }

  async apply({ parts, checkpoint }: Batch): Promise<void> {
    const context = this.#context!;
    for await (const part of parts()) {
      const lines = part.map((change) => `${formatChange(change)}\n`).join('');
      if (!this.#stream.write(lines)) await once(this.#stream, 'drain');
    }
    await writeCheckpointFile(this.#path(context), { format: 1, sink: context.name, token: '', bytes: 0, checkpoint });
  }

  async close(): Promise<void> {
    this.#context = null;
  }

  #path(context: SinkContext): string {
    return join(context.stateDir, 'checkpoint.json');
  }
}
