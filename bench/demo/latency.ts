/** commit → sink: a probe commits rows with their time in them, and somebody who reads the copy sees them arrive. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';
import { quantile } from './progress.ts';

const PROBE = fileURLToPath(new URL('./latency-probe.ts', import.meta.url));
const DEADLINE_MS = 20_000;

export interface Latency {
  readonly commits: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

export const measureLatency = async (hive: string, copy: string, commits: number, intervalMs: number): Promise<Latency> => {
  const database = new Database(copy, { readonly: true });
  try {
    const child = spawn(process.execPath, [PROBE, hive, String(commits), String(intervalMs)], { stdio: ['ignore', 'ignore', 'inherit'] });
    const exited = once(child, 'exit');
    const arrived = watchCopy(database, commits, DEADLINE_MS + commits * intervalMs);
    const [code] = (await exited) as [number | null];
    if (code !== 0) throw new Error(`the latency probe ended with ${code}`);
    const latencies = await arrived;
    return { commits, p50Ms: quantile(latencies, 0.5), p99Ms: quantile(latencies, 0.99), maxMs: Math.max(...latencies) };
  } finally {
    database.close();
  }
};

/** Looks about once a millisecond whether somebody committed to the copy, and reads only then. */
const watchCopy = async (database: Database.Database, commits: number, deadlineMs: number): Promise<number[]> => {
  const latencies: number[] = [];
  let last = 0;
  let version = -1;
  const deadline = performance.now() + deadlineMs;
  while (last < commits) {
    if (performance.now() > deadline) throw new Error(`${commits - last} of ${commits} rows of the latency probe have not arrived in the copy`);
    await delay(1);
    const now: unknown = database.pragma('data_version', { simple: true });
    if (now === version) continue;
    version = Number(now);
    const seenAt = performance.timeOrigin + performance.now();
    for (const { id, committedAt } of newRows(database, last)) {
      latencies.push(seenAt - committedAt);
      last = id;
    }
  }
  return latencies;
};

const newRows = (database: Database.Database, last: number): { id: number; committedAt: number }[] => {
  const isThere = database.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'latency_probe'").get() !== undefined;
  if (!isThere) return [];
  return database
    .prepare<[number], { id: number; committedAt: number }>('SELECT id, committed_at AS committedAt FROM latency_probe WHERE id > ? ORDER BY id')
    .all(last);
};
