/**
 * What a publisher knows of itself, `publisher.json` in the sink's own state directory:
 *
 *     {"format":1,"id":"…","checkpoint":{"logId":…,"term":…,"seq":…,"txid":…,"fill":…},"topics":["main.accounts",…]}
 *
 * `id`: random, a part of the transactional id. Whoever runs on a copy of the state directory has the same one, and fences. `checkpoint`: one that Kafka
 * has acknowledged, though not always the last; null: none yet. Only an alarm: what counts stands in Kafka. `topics`: those with rows that have been there.
 */
import { randomUUID } from 'node:crypto';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Checkpoint } from '../../src/change/change.ts';
import { systemErrorCode, WaggleError } from '../../src/support/errors.ts';

export const checkpointSchema = z.object({
  logId: z.string(),
  term: z.string(),
  seq: z.int(),
  txid: z.string(),
  fill: z.string().nullable(),
});

const schema = z.object({ format: z.literal(1), id: z.string().min(1), checkpoint: checkpointSchema.nullable(), topics: z.array(z.string()) });

/** How often a moved checkpoint is written, at most. */
const SAVE_EVERY_MS = 1000;

export class PublisherFile {
  readonly id: string;
  readonly topics: Set<string>;
  readonly #path: string;
  #checkpoint: Checkpoint | null;
  #saved: string | null;
  #savedAtMs = Number.NEGATIVE_INFINITY;

  private constructor(path: string, content: z.infer<typeof schema>, saved: string | null) {
    this.#path = path;
    this.id = content.id;
    this.topics = new Set(content.topics);
    this.#checkpoint = content.checkpoint;
    this.#saved = saved;
  }

  /** Of this sink; a new one where there is none. Throws STATE_CORRUPT for a file that is something else. */
  static async open(stateDir: string): Promise<PublisherFile> {
    const path = join(stateDir, 'publisher.json');
    const text = await readIfThere(path);
    if (text === null) {
      const file = new PublisherFile(path, { format: 1, id: randomUUID(), checkpoint: null, topics: [] }, null);
      await file.save();
      return file;
    }
    const result = schema.safeParse(parseJson(text));
    if (!result.success)
      throw new WaggleError('STATE_CORRUPT', `${path}: this is not a file of waggle`, {
        hint: 'Move the file away: the sink then goes on from the checkpoint that stands in Kafka.',
      });
    return new PublisherFile(path, result.data, text);
  }

  get checkpoint(): Checkpoint | null {
    return this.#checkpoint;
  }

  async acknowledge(checkpoint: Checkpoint): Promise<void> {
    const first = this.#checkpoint === null;
    this.#checkpoint = checkpoint;
    if (first || Date.now() - this.#savedAtMs >= SAVE_EVERY_MS) await this.save();
  }

  /** Replaced whole. Not flushed: a machine that loses power starts with an older alarm. */
  async save(): Promise<void> {
    const text = JSON.stringify({ format: 1, id: this.id, checkpoint: this.#checkpoint, topics: [...this.topics] });
    if (text === this.#saved) return;
    await writeFile(`${this.#path}.tmp`, text, { mode: 0o600 });
    await rename(`${this.#path}.tmp`, this.#path);
    this.#saved = text;
    this.#savedAtMs = Date.now();
  }
}

const readIfThere = async (path: string): Promise<string | null> => {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return null;
    throw error;
  }
};

const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
};
