/**
 * What disk-shim.c writes down, one record an operation; numbers little-endian:
 *
 *     0 kind u8   1 inode u64   9 number u64 (offset, length or token)   17 time of the file in ns u64
 *     25 length of data u32   29 length of the other path u32   33 data (or path), other path
 */
import { relative } from 'node:path';

export type DiskOperation =
  /** A name and an empty file, or (`open`) a name that stood there. Directories are opened, too. */
  | { readonly kind: 'create' | 'open' | 'unlink' | 'mkdir' | 'rmdir'; readonly inode: number; readonly path: string }
  | { readonly kind: 'rename'; readonly inode: number; readonly path: string; readonly to: string }
  | { readonly kind: 'write'; readonly inode: number; readonly offset: number; readonly data: Buffer; readonly timeNs: bigint }
  | { readonly kind: 'truncate'; readonly inode: number; readonly length: number; readonly timeNs: bigint }
  /** What was written to the file before `syncBegin` is on the disk at `syncEnd`. */
  | { readonly kind: 'syncBegin' | 'syncEnd'; readonly inode: number; readonly token: bigint };

const KINDS = ['', 'create', 'write', 'truncate', 'syncBegin', 'syncEnd', 'rename', 'unlink', 'mkdir', 'rmdir', 'open'] as const;
const HEAD_BYTES = 33;

/** All operations in their order; paths are relative to `dir`. A record that a kill cut off ends it. */
export const parseTrace = (bytes: Buffer, dir: string): DiskOperation[] => {
  const operations: DiskOperation[] = [];
  for (let at = 0; at + HEAD_BYTES <= bytes.length;) {
    const kind = KINDS[bytes[at]!]!;
    const inode = Number(bytes.readBigUInt64LE(at + 1));
    const number = bytes.readBigUInt64LE(at + 9);
    const timeNs = bytes.readBigUInt64LE(at + 17);
    const length = bytes.readUInt32LE(at + 25);
    const otherLength = bytes.readUInt32LE(at + 29);
    const data = bytes.subarray(at + HEAD_BYTES, at + HEAD_BYTES + length);
    const other = bytes.subarray(at + HEAD_BYTES + length, at + HEAD_BYTES + length + otherLength);
    at += HEAD_BYTES + length + otherLength;
    if (at > bytes.length) break;
    const path = (text: Buffer): string => relative(dir, text.toString());
    switch (kind) {
      case 'write':
        operations.push({ kind, inode, offset: Number(number), data, timeNs });
        break;
      case 'truncate':
        operations.push({ kind, inode, length: Number(number), timeNs });
        break;
      case 'syncBegin':
      case 'syncEnd':
        operations.push({ kind, inode, token: number });
        break;
      case 'rename':
        operations.push({ kind, inode, path: path(data), to: path(other) });
        break;
      case 'create':
      case 'open':
      case 'unlink':
      case 'mkdir':
      case 'rmdir':
        operations.push({ kind, inode, path: path(data) });
        break;
      case '':
        throw new Error('not a trace');
    }
  }
  return operations;
};
