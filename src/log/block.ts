/**
 * The bytes of a block: some transactions that follow each other, each with its changes.
 *
 *     transaction    change count varint | epoch varint | frame varint | time of its commit, microseconds since 1970, varint
 *                    | length of its changes varint | changes (change-codec.ts)
 */
import { readVarint, varintEnd, writeVarint } from '../sqlite/varint.ts';

/** Bytes after which a block is closed. A single larger transaction makes a larger block. */
export const BLOCK_BYTES = 64 * 1024;

/** Five varints of numbers below 2^53. */
const HEAD_BYTES = 5 * 8;

/** What a block tells of one transaction. */
export interface BlockEntry {
  readonly changeCount: number;
  readonly epoch: number;
  readonly frame: number;
  readonly timestampUs: number;
}

/** Collects transactions into one buffer that serves block after block. */
export class BlockWriter {
  changeCount = 0;
  transactionCount = 0;
  #buffer: Buffer = Buffer.allocUnsafeSlow(2 * BLOCK_BYTES);
  #length = 0;

  get isFull(): boolean {
    return this.#length >= BLOCK_BYTES;
  }

  add(entry: BlockEntry, changes: Uint8Array): void {
    const needed = this.#length + HEAD_BYTES + changes.length;
    if (needed > this.#buffer.length) {
      const grown = Buffer.allocUnsafeSlow(needed);
      this.#buffer.copy(grown, 0, 0, this.#length);
      this.#buffer = grown;
    }
    const buffer = this.#buffer;
    let at = writeVarint(buffer, this.#length, entry.changeCount);
    at = writeVarint(buffer, at, entry.epoch);
    at = writeVarint(buffer, at, entry.frame);
    at = writeVarint(buffer, at, entry.timestampUs);
    at = writeVarint(buffer, at, changes.length);
    buffer.set(changes, at);
    this.#length = at + changes.length;
    this.changeCount += entry.changeCount;
    this.transactionCount += 1;
  }

  /** Valid until the next `add`. */
  bytes(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  clear(): void {
    this.#length = 0;
    this.changeCount = 0;
    this.transactionCount = 0;
  }
}

/** Walks a block's transactions in order. The fields are those of the current one. */
export class BlockCursor implements BlockEntry {
  changeCount = 0;
  epoch = 0;
  frame = 0;
  timestampUs = 0;
  readonly #block: Buffer;
  #changesAt = 0;
  #end = 0;

  constructor(block: Buffer) {
    this.#block = block;
  }

  /** False behind the last one. Throws a RangeError where the bytes end inside a transaction. */
  next(): boolean {
    const block = this.#block;
    if (this.#end >= block.length) return false;
    this.changeCount = readVarint(block, this.#end);
    this.epoch = readVarint(block, varintEnd);
    this.frame = readVarint(block, varintEnd);
    this.timestampUs = readVarint(block, varintEnd);
    const length = readVarint(block, varintEnd);
    this.#changesAt = varintEnd;
    this.#end = varintEnd + length;
    // A varint that ran off the block gives NaN, which fails here as well.
    if (!(this.#end <= block.length)) throw new RangeError('a block of the log ends inside a transaction');
    return true;
  }

  /** The current transaction's changes, a view of the block. */
  changes(): Buffer {
    return this.#block.subarray(this.#changesAt, this.#end);
  }
}
