/** Starts the keeper process. Its first connection is a pipe; what it writes on stderr (a crash of Node) goes to its log. */
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync, readFileSync, statSync } from 'node:fs';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { keeperLogPath } from './keeper-log.ts';
import type { KeeperOptions } from './protocol.ts';

const ENTRY = fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? './main.ts' : './main.js', import.meta.url));
/** It allocates little and lives long. */
const NODE_FLAGS = ['--max-semi-space-size=1', '--max-old-space-size=64'];
/** From the sources Node loads a compiler into each process (35 MB) unless it finds what it compiled before. */
const COMPILE_CACHE = ENTRY.endsWith('.ts') ? fileURLToPath(new URL('../../.cache/keeper', import.meta.url)) : null;
const STDERR_CHARS = 2000;

export interface KeeperProcess {
  readonly child: ChildProcess;
  readonly pipe: Socket;
  /** What it wrote since its start, at most the last characters. */
  stderr(): string;
}

/** `entry`: another main file (tests). */
export const startKeeper = (options: KeeperOptions, entry: string = ENTRY): KeeperProcess => {
  const logPath = keeperLogPath(options.spoolDir);
  const log = openSync(logPath, 'a', 0o600);
  try {
    const before = statSync(logPath).size;
    const child = spawn(process.execPath, [...NODE_FLAGS, entry, JSON.stringify(options)], {
      // A session of its own: what ends the daemon's session or terminal does not end the keeper.
      detached: options.outlive,
      cwd: '/',
      env: environment(),
      stdio: ['ignore', log, log, 'pipe'],
    });
    // It must not keep a daemon alive that has let go of it; the pipe does while it is open.
    child.unref();
    const stderr = (): string => {
      try {
        return readFileSync(logPath).subarray(before).toString().slice(-STDERR_CHARS).trim();
      } catch {
        // Removed with the state directory.
        return '';
      }
    };
    return { child, pipe: child.stdio[3] as Socket, stderr };
  } finally {
    closeSync(log);
  }
};

/** Without the daemon's NODE_OPTIONS: an inspector port can be had once, and loaders are the daemon's business. */
const environment = (): NodeJS.ProcessEnv => {
  const { NODE_OPTIONS: _, ...env } = process.env;
  return COMPILE_CACHE === null ? env : { NODE_COMPILE_CACHE: COMPILE_CACHE, ...env };
};
