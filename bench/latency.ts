/**
 * Commit → line on the stdout of `waggle tail`, at 50 commits a second, the real command in a process of its own. The row
 * carries the time of its commit; both clocks are the machine's.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';

const WAGGLE = fileURLToPath(new URL('../src/cli/waggle.js', import.meta.url));
const COMMIT_EVERY_MS = 20;

/** Latencies in milliseconds, sorted. */
export const runLatency = async (commits: number): Promise<number[]> => {
  const directory = mkdtempSync(join(tmpdir(), 'waggle-bench-'));
  const hive = join(directory, 'hive.sqlite');
  const db = new Database(hive);
  db.pragma('journal_mode = WAL');
  db.pragma('synchronous = NORMAL');
  db.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, at REAL)');
  const insert = db.prepare('INSERT INTO t (at) VALUES (?)');
  const tail = spawn(process.execPath, [WAGGLE, 'tail', hive], { stdio: ['ignore', 'pipe', 'pipe'] });
  try {
    await new Promise<void>((resolve, reject) => {
      tail.stderr.once('data', () => resolve());
      tail.once('exit', (code) => reject(new Error(`tail ended with ${code}`)));
    });
    const latencies: number[] = [];
    const lines = createInterface({ input: tail.stdout });
    const done = new Promise<void>((resolve) => {
      lines.on('line', (line) => {
        const now = performance.timeOrigin + performance.now();
        const { after } = JSON.parse(line) as { after: { at: number } };
        latencies.push(now - after.at);
        if (latencies.length === commits) resolve();
      });
    });
    for (let count = 0; count < commits; count += 1) {
      await new Promise((resolve) => setTimeout(resolve, COMMIT_EVERY_MS));
      insert.run(performance.timeOrigin + performance.now());
    }
    await done;
    return latencies.sort((a, b) => a - b);
  } finally {
    const exited = new Promise((resolve) => tail.once('exit', resolve));
    tail.kill('SIGTERM');
    await exited;
    db.close();
    rmSync(directory, { recursive: true, force: true });
  }
};
