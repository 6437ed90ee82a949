/**
 * Events as lines of a file.
 *
 * Guarantees: after any crash the file is cut back to the last checkpoint before it grows again, so in the end each
 * event of the log stands in it once, in order. A line is never cut by a rotation, nor is a transaction.
 * A reader that follows the file can see an unfinished last line, and after a kill it may have read lines that are cut off
 * and written again: the same bytes at the same place (rows of a first fill excepted).
 * What others do with the file, also while it is open: if it was moved away or removed, a new one begins with the next
 * batch; if it was shortened or replaced, it goes on at its end. Each of these is a warning.
 */
import { randomUUID } from 'node:crypto';
import { type BigIntStats, constants } from 'node:fs';
import { type FileHandle, mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Checkpoint } from '../../src/change/change.ts';
import type { Batch, Sink, SinkContext } from '../../src/pipeline/sink.ts';
import { systemErrorCode, WaggleError } from '../../src/support/errors.ts';
import { type CheckpointFile, readCheckpointFile, writeCheckpointFile } from './checkpoint-file.ts';
import { toSinkError } from './errors.ts';
import { LineWriter } from './line-writer.ts';

export interface FileSinkOptions {
  readonly file: string;
  /** null: the file grows for ever. */
  readonly rotate: { readonly sizeBytes: number; readonly keep: number } | null;
}

interface Live {
  readonly context: SinkContext;
  readonly lines: LineWriter;
  handle: FileHandle;
  /** Where the next line goes. */
  end: number;
  checkpoint: Checkpoint | null;
}

export class FileSink implements Sink {
  readonly wants = 'changes';
  readonly #options: FileSinkOptions;
  readonly #sidecar: string;
  readonly #token = randomUUID();
  #held = false;
  #live: Live | null = null;

  constructor(options: FileSinkOptions) {
    this.#options = options;
    this.#sidecar = `${options.file}.waggle`;
  }

  async open(context: SinkContext): Promise<Checkpoint | null> {
    await this.close();
    const { file } = this.#options;
    let handle: FileHandle | null = null;
    try {
      await mkdir(dirname(file), { recursive: true });
      const saved = await readCheckpointFile(this.#sidecar);
      if (saved !== null && saved.sink !== context.name)
        throw new WaggleError('SINK_FENCED', `jsonl ${file}: the file belongs to the sink ${saved.sink}`, {
          hint: `Name another file, or delete ${this.#sidecar}.`,
        });
      if (saved !== null && this.#held && saved.token !== this.#token) throw this.#fenced(context);
      handle = await openData(file);
      const end = await cutBack(handle, saved, { file, context });
      const checkpoint = saved?.checkpoint ?? null;
      this.#live = {
        context,
        handle,
        end,
        checkpoint,
        lines: new LineWriter(context.hive, (block) => this.#write(block)),
      };
      await this.#save(this.#live);
      this.#held = true;
      return checkpoint;
    } catch (error) {
      this.#live = null;
      await handle?.close().catch(() => {});
      throw this.#failed(error);
    }
  }

  async apply(batch: Batch): Promise<void> {
    const live = this.#live;
    if (live === null) throw new WaggleError('SINK_UNREACHABLE', `jsonl ${this.#options.file}: not open`);
    try {
      await this.#checkToken(live.context);
      await this.#followPath(live);
      const { rotate } = this.#options;
      if (rotate !== null && live.end >= rotate.sizeBytes) await this.#rotate(live, rotate.keep);
      await live.lines.writeBatch(batch);
      await live.handle.datasync();
      // Not confirmed: the next try begins a new file with this batch.
      if (await isRemoved(live.handle, this.#options.file))
        throw new WaggleError('SINK_FAILED', `jsonl ${this.#options.file}: the file was removed while a batch was written to it`);
      await this.#checkToken(live.context);
      live.checkpoint = batch.checkpoint;
      await this.#save(live);
    } catch (error) {
      throw this.#failed(error);
    }
  }

  async close(): Promise<void> {
    const live = this.#live;
    this.#live = null;
    await live?.handle.close().catch(() => {});
  }

  async #write(block: Buffer): Promise<void> {
    const live = this.#live;
    if (live === null) throw new WaggleError('SINK_UNREACHABLE', `jsonl ${this.#options.file}: closed`);
    let written = 0;
    while (written < block.length) {
      const { bytesWritten } = await live.handle.write(block, written, block.length - written, live.end);
      written += bytesWritten;
      live.end += bytesWritten;
    }
  }

  #save({ context, end, checkpoint }: Live): Promise<void> {
    return writeCheckpointFile(this.#sidecar, { format: 1, sink: context.name, token: this.#token, bytes: end, checkpoint });
  }

  // The checkpoint says 0 bytes before the first line of the new file: a kill in between finds no file, or an empty one.
  async #rotate(live: Live, keep: number): Promise<void> {
    const { file } = this.#options;
    await rm(`${file}.${keep}`, { force: true });
    for (let number = keep - 1; number >= 1; number -= 1) await renameIfThere(`${file}.${number}`, `${file}.${number + 1}`);
    await renameIfThere(file, `${file}.1`);
    await live.handle.close();
    live.handle = await openData(file);
    live.end = 0;
    await this.#save(live);
  }

  /** The file under the path may be another one than the open one by now, or shorter: goes on with what is there. */
  async #followPath(live: Live): Promise<void> {
    const { file } = this.#options;
    const { context, checkpoint } = live;
    const there = await statIfThere(file);
    const same = await isSame(live.handle, there);
    if (same && there!.size >= BigInt(live.end)) return;
    context.logger.warn(
      { file, wrote: live.end, found: there === null ? null : Number(there.size), seq: (checkpoint?.seq ?? 0) + 1 },
      same
        ? 'the file was shortened while it was open; going on at its end'
        : 'the file was removed or replaced while it was open; the one under its name now begins with this seq',
    );
    if (!same) {
      await mkdir(dirname(file), { recursive: true });
      const handle = await openData(file);
      await live.handle.close();
      live.handle = handle;
    }
    live.end = await lineEnd(live.handle);
    // Before the first line, as in a rotation.
    await this.#save(live);
  }

  async #checkToken(context: SinkContext): Promise<void> {
    const saved = await readCheckpointFile(this.#sidecar);
    if (saved !== null && saved.token !== this.#token) throw this.#fenced(context);
  }

  #fenced(context: SinkContext): WaggleError {
    return new WaggleError('SINK_FENCED', `sink ${context.name}: another runner has taken it over`);
  }

  #failed(error: unknown): WaggleError {
    const failure = toSinkError(error, `jsonl ${this.#options.file}`);
    if (failure.code === 'SINK_FENCED') this.#held = false;
    return failure;
  }
}

const openData = async (file: string): Promise<FileHandle> => {
  // NONBLOCK: a pipe without a reader would block here for ever.
  const handle = await open(file, constants.O_RDWR | constants.O_CREAT | constants.O_NONBLOCK, 0o600);
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  throw new WaggleError('SINK_DENIED', `jsonl ${file}: it is not a regular file`, { hint: 'Use `stdout: true` for pipes.' });
};

/** Cuts what was written after the checkpoint. Tells where to go on: always at the beginning of a line. */
const cutBack = async (
  handle: FileHandle,
  saved: CheckpointFile | null,
  { file, context }: { file: string; context: SinkContext },
): Promise<number> => {
  const bytes = saved?.bytes ?? null;
  const seq = saved?.checkpoint?.seq;
  const { size } = await handle.stat();
  if (bytes !== null && size >= bytes && (await endsLine(handle, bytes))) {
    if (size > bytes) await handle.truncate(bytes);
    return bytes;
  }
  if (bytes !== null && size > 0)
    context.logger.warn({ file, size, expected: bytes }, 'the file is not the one that the checkpoint was written for; going on at its end');
  else if (bytes !== null)
    context.logger.warn(
      { file, expected: bytes, seq: (seq ?? 0) + 1 },
      'the file is missing or empty, but the checkpoint was written for a longer one; a new file begins with this seq',
    );
  return lineEnd(handle);
};

/** Where a line can begin behind all there is. */
const lineEnd = async (handle: FileHandle): Promise<number> => {
  const { size } = await handle.stat();
  if (await endsLine(handle, size)) return size;
  await handle.write('\n', size);
  return size + 1;
};

/** An inode that is open is not given to another file. */
const isSame = async (handle: FileHandle, there: BigIntStats | null): Promise<boolean> => {
  if (there === null) return false;
  const { ino, dev } = await handle.stat({ bigint: true });
  return ino === there.ino && dev === there.dev;
};

/** By the path, too: not every file system counts names. */
const isRemoved = async (handle: FileHandle, file: string): Promise<boolean> =>
  (await handle.stat()).nlink === 0 && !(await isSame(handle, await statIfThere(file)));

const statIfThere = async (file: string): Promise<BigIntStats | null> => {
  try {
    return await stat(file, { bigint: true });
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return null;
    throw error;
  }
};

const endsLine = async (handle: FileHandle, position: number): Promise<boolean> => {
  if (position === 0) return true;
  const { buffer } = await handle.read(Buffer.alloc(1), 0, 1, position - 1);
  return buffer[0] === 0x0a;
};

const renameIfThere = async (from: string, to: string): Promise<void> => {
  try {
    await rename(from, to);
  } catch (error) {
    if (systemErrorCode(error) !== 'ENOENT') throw error;
  }
};
