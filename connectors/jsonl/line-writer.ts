/** Changes as lines of JSON, gathered into blocks so that a write is not made for each line. */
import { EnvelopeEncoder } from '../../src/change/envelope.ts';
import type { Batch } from '../../src/pipeline/sink.ts';
import { VERSION } from '../../src/support/version.ts';

const BLOCK_CHARACTERS = 128 * 1024;

export class LineWriter {
  readonly #encoder: EnvelopeEncoder;
  readonly #write: (block: Buffer) => Promise<void>;

  /** `write` is awaited before the next block is made: a slow reader slows the batch, memory stays. */
  constructor(hive: string, write: (block: Buffer) => Promise<void>) {
    this.#encoder = new EnvelopeEncoder({ hive, version: VERSION });
    this.#write = write;
  }

  async writeBatch(batch: Batch): Promise<void> {
    let block = '';
    for await (const part of batch.parts()) {
      for (const change of part) {
        block += `${this.#encoder.encode(change)}\n`;
        if (block.length < BLOCK_CHARACTERS) continue;
        await this.#write(Buffer.from(block));
        block = '';
      }
    }
    if (block !== '') await this.#write(Buffer.from(block));
  }
}
