/** What waggle costs while nothing happens: CPU time of daemon and keeper beside a hive that nobody writes. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';
import { endKeeper } from '../test/helpers/end-keeper.ts';

const WAGGLE = fileURLToPath(new URL('../src/cli/waggle.js', import.meta.url));
const SETTLE_MS = 5000;
const TICKS_PER_SECOND = 100;

export interface IdleResult {
  readonly seconds: number;
  /** Of all processes together. */
  readonly cpuSeconds: number;
  readonly rssBytes: number;
  readonly processes: number;
}

/** `waggle run` with one sink, left alone for some seconds after it has settled. Linux only: reads /proc. */
export const runIdle = async (seconds: number): Promise<IdleResult> => {
  const directory = mkdtempSync(join(tmpdir(), 'waggle-bench-'));
  const hive = join(directory, 'hive.sqlite');
  const config = join(directory, 'waggle.yaml');
  const db = new Database(hive);
  db.pragma('journal_mode = WAL');
  db.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, v); INSERT INTO t (v) VALUES (1), (2)');
  writeFileSync(config, 'hive: hive.sqlite\nstate: .waggle\nkeeper: { outlive: false }\nsinks:\n  copy: { type: sqlite, file: copy.sqlite }\n');
  const daemon = spawn(process.execPath, [WAGGLE, 'run', '-c', config], { stdio: 'ignore' });
  const exited = new Promise((resolve) => daemon.once('exit', resolve));
  try {
    await delay(SETTLE_MS);
    const pids = family(daemon.pid!);
    const before = ticks(pids);
    const started = performance.now();
    await delay(seconds * 1000);
    return {
      seconds: (performance.now() - started) / 1000,
      cpuSeconds: (ticks(pids) - before) / TICKS_PER_SECOND,
      rssBytes: pids.reduce((sum, pid) => sum + rss(pid), 0),
      processes: pids.length,
    };
  } finally {
    daemon.kill('SIGTERM');
    await exited;
    await endKeeper(join(directory, '.waggle'));
    db.close();
    rmSync(directory, { recursive: true, force: true });
  }
};

const stat = (pid: number): string[] => readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
const ticks = (pids: readonly number[]): number => pids.reduce((sum, pid) => sum + Number(stat(pid)[11]) + Number(stat(pid)[12]), 0);
const rss = (pid: number): number => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) * 1024;

/** A process and its children. */
const family = (pid: number): number[] => {
  const children = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((each) => {
      try {
        return Number(stat(each)[1]) === pid;
      } catch {
        // It has ended since.
        return false;
      }
    });
  return [pid, ...children.flatMap(family)];
};
