/** System errors of files and pipes as codes of the closed list. */
import { type ErrorCode, systemErrorCode, WaggleError } from '../../src/support/errors.ts';

const CODES: Record<string, ErrorCode> = {
  ENOSPC: 'DISK_FULL',
  EDQUOT: 'DISK_FULL',
  EPIPE: 'SINK_CLOSED',
  ERR_STREAM_DESTROYED: 'SINK_CLOSED',
  ERR_STREAM_WRITE_AFTER_END: 'SINK_CLOSED',
  EACCES: 'SINK_DENIED',
  EPERM: 'SINK_DENIED',
  EROFS: 'SINK_DENIED',
  EISDIR: 'SINK_DENIED',
  ENOTDIR: 'SINK_DENIED',
  ENOENT: 'SINK_DENIED',
  EEXIST: 'SINK_DENIED',
};

export const toSinkError = (error: unknown, target: string): WaggleError => {
  if (error instanceof WaggleError) return error;
  const system = systemErrorCode(error);
  const code = (system === null ? undefined : CODES[system]) ?? 'SINK_FAILED';
  const hint =
    code === 'SINK_DENIED'
      ? { hint: 'Check the path and the rights of the file and its directory.' }
      : code === 'DISK_FULL'
        ? { hint: 'Free some space on the disk of this file; waggle goes on by itself.' }
        : {};
  const reason =
    code === 'SINK_CLOSED' ? 'its reader has gone' : `cannot be written (${system ?? (error instanceof Error ? error.message : 'unknown error')})`;
  return new WaggleError(code, `${target}: ${reason}`, { cause: error, ...hint });
};
