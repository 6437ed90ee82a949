/** Parts of one large transaction between diff and log, in a file without a name: it goes with the process. */
import { closeSync, ftruncateSync, openSync, unlinkSync } from 'node:fs';
import type { PartSpill, SpilledPart } from '../change/change-codec.ts';
import { readFully, writeFully } from '../support/file.ts';

export class SpillFile implements PartSpill, Disposable {
  readonly #fd: number;
  #sizeBytes = 0;
  #scratch: Buffer = Buffer.alloc(0);

  constructor(path: string) {
    this.#fd = openSync(path, 'w+', 0o600);
    unlinkSync(path);
  }

  write(part: Buffer): SpilledPart {
    const offset = this.#sizeBytes;
    const { length } = part;
    writeFully(this.#fd, part, offset);
    this.#sizeBytes += length;
    return {
      length,
      read: () => {
        if (this.#scratch.length < length) this.#scratch = Buffer.allocUnsafeSlow(length);
        const bytes = this.#scratch.subarray(0, length);
        if (readFully(this.#fd, bytes, length, offset) !== length) throw new Error('a spilled part has gone');
        return bytes;
      },
    };
  }

  /** Everything that was put aside is in the log. */
  clear(): void {
    if (this.#sizeBytes === 0) return;
    this.#sizeBytes = 0;
    ftruncateSync(this.#fd, 0);
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
