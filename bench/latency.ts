/**
 * Commit → line on the stdout of `waggle tail`, at 50 commits a second, the real command in a process of its own; and beside it,
 * in turns with it, a bare program that only watches the file and prints a line for each commit. The row carries the time of
 * its commit; both clocks are the machine's.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';
import { WalIndexReader } from '../src/hive/wal-index-reader.ts';

const WAGGLE = fileURLToPath(new URL('../src/cli/waggle.js', import.meta.url));
const PROBE = fileURLToPath(new URL('./watch-probe.ts', import.meta.url));
const COMMIT_EVERY_MS = 20;

export interface Latencies {
  /** Milliseconds, sorted. */
  readonly tail: readonly number[];
  readonly probe: readonly number[];
}

export const runLatency = async (commits: number, rounds: number): Promise<Latencies> => {
  const tail: number[] = [];
  const probe: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    tail.push(...(await measure((hive) => [WAGGLE, 'tail', hive], commits)));
    probe.push(...(await measure((hive) => [PROBE, hive], commits, 'frames')));
  }
  return { tail: tail.sort((a, b) => a - b), probe: probe.sort((a, b) => a - b) };
};

/**
 * Milliseconds from just before each commit to its line. `commits`: one line each. `frames`: a line names the newest frame, so that commits
 * which are seen together have one line.
 */
const measure = async (command: (hive: string) => string[], commits: number, lineOf: 'commits' | 'frames' = 'commits'): Promise<number[]> => {
  const directory = mkdtempSync(join(tmpdir(), 'waggle-bench-'));
  const hive = join(directory, 'hive.sqlite');
  const db = new Database(hive);
  db.pragma('journal_mode = WAL');
  db.pragma('synchronous = NORMAL');
  db.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, at REAL)');
  const insert = db.prepare('INSERT INTO t (at) VALUES (?)');
  const reader = spawn(process.execPath, command(hive), { stdio: ['ignore', 'pipe', 'pipe'] });
  try {
    await untilReady(reader);
    const latencies: number[] = [];
    /** By the number of the commit, or of its last frame. */
    const committedAt = new Map<number, number>();
    let last = Infinity;
    using index = new WalIndexReader(hive);
    const lines = createInterface({ input: reader.stdout });
    const done = new Promise<void>((resolve) => {
      lines.on('line', (line) => {
        const now = performance.now();
        const commit = lineOf === 'commits' ? latencies.length + 1 : Number(line);
        const at = committedAt.get(commit);
        if (at !== undefined) latencies.push(now - at);
        if (commit >= last) resolve();
      });
    });
    for (let count = 1; count <= commits; count += 1) {
      await new Promise((resolve) => setTimeout(resolve, COMMIT_EVERY_MS));
      const now = performance.now();
      insert.run(now);
      const header = index.read();
      if (typeof header !== 'object') throw new Error('the wal-index is not whole');
      const commit = lineOf === 'commits' ? count : header.mxFrame;
      committedAt.set(commit, now);
      if (count === commits) last = commit;
    }
    await done;
    return latencies;
  } finally {
    const exited = new Promise((resolve) => reader.once('exit', resolve));
    reader.kill('SIGTERM');
    await exited;
    db.close();
    rmSync(directory, { recursive: true, force: true });
  }
};

const untilReady = (reader: ChildProcess): Promise<void> =>
  new Promise((resolve, reject) => {
    reader.stderr?.once('data', () => resolve());
    reader.once('exit', (code) => reject(new Error(`${reader.spawnargs.at(-2)} ended with ${code}`)));
  });
