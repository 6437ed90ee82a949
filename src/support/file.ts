/**
 * Small file operations that several places need, complete where Node's own can be short. Those that change a disk go through a
 * seam, where a test makes the N-th of them fail.
 */
import { closeSync, fdatasync, fdatasyncSync, fsyncSync, openSync, readSync, renameSync, unlinkSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';

export type FileOperation =
  | { readonly kind: 'write'; readonly fd: number; readonly bytes: Uint8Array; readonly position: number }
  | { readonly kind: 'create' | 'rename' | 'unlink'; readonly path: string }
  | { readonly kind: 'sync' };

/** For tests alone: called before each operation; what it throws, the operation throws instead of being done. */
export const fileSeam: { before: (operation: FileOperation) => void } = { before: () => {} };

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
  fileSeam.before({ kind: 'write', fd, bytes, position });
  let done = 0;
  while (done < bytes.length) done += writeSync(fd, bytes, done, bytes.length - done, position + done);
};

/** Opens a file for reading and writing, for its owner alone; what it held is gone. */
export const createFile = (path: string): number => {
  fileSeam.before({ kind: 'create', path });
  return openSync(path, 'w+', 0o600);
};

export const removeFile = (path: string): void => {
  fileSeam.before({ kind: 'unlink', path });
  unlinkSync(path);
};

export const renameFile = (from: string, to: string): void => {
  fileSeam.before({ kind: 'rename', path: to });
  renameSync(from, to);
};

/** Returns when what was written stands on the disk. */
export const syncData = (fd: number): void => {
  fileSeam.before({ kind: 'sync' });
  fdatasyncSync(fd);
};

const datasync = promisify(fdatasync);

/** The same without blocking the thread. */
export const syncDataAside = async (fd: number): Promise<void> => {
  fileSeam.before({ kind: 'sync' });
  await datasync(fd);
};

/** Makes new, renamed and unlinked names of a directory durable. */
export const syncDirectory = (directory: string): void => {
  fileSeam.before({ kind: 'sync' });
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
  const fd = createFile(temporary);
  try {
    writeFully(fd, bytes, 0);
    if (options.durable) syncData(fd);
  } finally {
    closeSync(fd);
  }
  renameFile(temporary, path);
  if (options.durable) syncDirectory(dirname(path));
};
