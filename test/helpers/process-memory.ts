/** What the kernel says processes have used at most, in bytes. Linux. */
import { readFileSync } from 'node:fs';

const statusOf = (pid: number, field: 'VmHWM' | 'RssFile'): number => {
  const found = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  if (found === null) throw new Error(`/proc/${pid}/status has no ${field}`);
  return Number(found[1]) * 1024;
};

/**
 * The peaks of some Node processes, added up as if they came at the same time. The pages of the executable, which all of
 * them map (the smallest RssFile), stand in memory once and are counted once.
 */
export const peakMemoryBytes = (pids: readonly number[]): number => {
  const peaks = pids.map((pid) => statusOf(pid, 'VmHWM'));
  const shared = Math.min(...pids.map((pid) => statusOf(pid, 'RssFile')));
  return peaks.reduce((sum, peak) => sum + peak, 0) - shared * (pids.length - 1);
};

export const megabytes = (bytes: number): number => Math.round(bytes / 1024 ** 2);
