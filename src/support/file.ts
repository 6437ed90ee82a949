/** Small file operations that several places need, complete where Node's own can be short. */
import { closeSync, fdatasyncSync, fsyncSync, openSync, readSync, renameSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';

/** Reads until `length` bytes are there or the file ends; returns the number read. */
export const readFully = (fd: number, buffer: Buffer, length: number, position: number): number => {
  let filled = 0;
  while (filled < length) {
    const count = readSync(fd, buffer, filled, length - filled, position + filled);
    if (count === 0) break;
    filled += count;
  }
  return filled;
};

/** Writes all of `bytes`; a short write is gone on with. */
export const writeFully = (fd: number, bytes: Uint8Array, position: number): void => {
  let done = 0;
  while (done < bytes.length) done += writeSync(fd, bytes, done, bytes.length - done, position + done);
};

/** Makes new, renamed and unlinked names of a directory durable. */
export const syncDirectory = (directory: string): void => {
  const fd = openSync(directory, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
};

/** Replaces a file by one with this content; whoever reads sees the old or the new one, whole. */
export const replaceFile = (path: string, bytes: Uint8Array, options: { durable: boolean }): void => {
  const temporary = `${path}.new`;
  const fd = openSync(temporary, 'w', 0o600);
  try {
    writeFully(fd, bytes, 0);
    if (options.durable) fdatasyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(temporary, path);
  if (options.durable) syncDirectory(dirname(path));
};
