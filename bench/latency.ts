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
    probe.push(...(await measure((hive) => [PROBE, hive], commits)));
  }
  return { tail: tail.sort((a, b) => a - b), probe: probe.sort((a, b) => a - b) };
};

/** Milliseconds from just before each commit to its line, one line a commit. */
const measure = async (command: (hive: string) => string[], commits: number): Promise<number[]> => {
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
    const committedAt: number[] = [];
    const lines = createInterface({ input: reader.stdout });
    const done = new Promise<void>((resolve) => {
      lines.on('line', () => {
        latencies.push(performance.now() - committedAt[latencies.length]!);
        if (latencies.length === commits) resolve();
      });
    });
    for (let count = 0; count < commits; count += 1) {
      await new Promise((resolve) => setTimeout(resolve, COMMIT_EVERY_MS));
      const now = performance.now();
      committedAt.push(now);
      insert.run(now);
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
