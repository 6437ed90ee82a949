/** Reads the wal-index header of a live hive: 136 bytes with one pread, no lock. */
import { closeSync, openSync, readSync } from 'node:fs';
import { parseWalIndexHeader, WAL_INDEX_HEADER_BYTES, type WalIndexState } from '../sqlite/wal-index.ts';

/**
 * Never to be used in a process that holds SQLite locks on the hive: closing any descriptor of -shm drops all POSIX
 * locks of the process. Capture's process holds none; the keeper has descriptors of its own.
 */
export class WalIndexReader implements Disposable {
  readonly #fd: number;
  readonly #bytes = Buffer.alloc(WAL_INDEX_HEADER_BYTES);

  constructor(hivePath: string) {
    this.#fd = openSync(`${hivePath}-shm`, 'r');
  }

  read(): WalIndexState {
    const count = readSync(this.#fd, this.#bytes, 0, WAL_INDEX_HEADER_BYTES, 0);
    return parseWalIndexHeader(count === WAL_INDEX_HEADER_BYTES ? this.#bytes : this.#bytes.subarray(0, count));
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
