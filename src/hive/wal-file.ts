/** The live -wal file of a hive, as frames. Holds no lock; whether a frame is committed is not its business. */
import { closeSync, openSync } from 'node:fs';
import { FRAME_HEADER_BYTES, frameOffset, parseWalHeader, WAL_HEADER_BYTES, type WalHeader } from '../sqlite/wal.ts';
import { readFully } from '../support/file.ts';
import { systemErrorCode } from '../support/errors.ts';

/** Gives raw frames (24 header bytes and the page each) of one WAL generation by number. */
export interface FrameSource {
  /** Fills `into` with `count` frames from `firstFrame` on; false if they are not all there. */
  readFrames(firstFrame: number, count: number, into: Buffer): boolean;
}

export class WalFile implements FrameSource, Disposable {
  readonly #fd: number;
  readonly #pageSize: number;

  private constructor(fd: number, pageSize: number) {
    this.#fd = fd;
    this.#pageSize = pageSize;
  }

  /** Null if there is no -wal file at the moment. */
  static open(hivePath: string, pageSize: number): WalFile | null {
    try {
      return new WalFile(openSync(`${hivePath}-wal`, 'r'), pageSize);
    } catch (error) {
      if (systemErrorCode(error) === 'ENOENT') return null;
      throw error;
    }
  }

  /** Null if the file has no valid header (it is empty, or being written). */
  readHeader(): WalHeader | null {
    const bytes = Buffer.alloc(WAL_HEADER_BYTES);
    return readFully(this.#fd, bytes, WAL_HEADER_BYTES, 0) === WAL_HEADER_BYTES ? parseWalHeader(bytes) : null;
  }

  readFrames(firstFrame: number, count: number, into: Buffer): boolean {
    const bytes = count * (FRAME_HEADER_BYTES + this.#pageSize);
    return readFully(this.#fd, into, bytes, frameOffset(firstFrame, this.#pageSize)) === bytes;
  }

  /** The 24 header bytes of one frame. */
  readFrameHeader(frame: number, into: Buffer): boolean {
    return readFully(this.#fd, into, FRAME_HEADER_BYTES, frameOffset(frame, this.#pageSize)) === FRAME_HEADER_BYTES;
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
