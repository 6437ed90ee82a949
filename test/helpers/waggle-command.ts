/** A `waggle` command that ends by itself, as a user starts it; and what every error of it must look like. */
import { spawnSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { ErrorCode } from '../../src/support/errors.ts';

export const LAUNCHER = join(import.meta.dirname, '..', '..', 'src', 'cli', 'waggle.js');

export interface CommandResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  readonly cwd?: string;
  /** Run as this user and group id (needs root). */
  readonly uid?: number;
  readonly nodeOptions?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
}

export const waggle = (args: readonly string[], { cwd, uid, nodeOptions = [], env = {} }: CommandOptions = {}): CommandResult =>
  spawnSync(process.execPath, [...nodeOptions, LAUNCHER, ...args], {
    cwd,
    encoding: 'utf8',
    timeout: 20_000,
    env: { ...process.env, ...env },
    ...(uid !== undefined && { uid, gid: uid }),
  });

/** Exactly one line with the code and one line with the hint, the right exit status, no trace, nothing on stdout. */
export const expectOneLine = (result: CommandResult, code: ErrorCode, status: 1 | 2, message: string | RegExp = ''): void => {
  expect(result.stderr).toMatch(new RegExp(`^waggle: [^\\n]+ \\[${code}\\]\\n  [^\\n]+\\n$`));
  expect(result.stderr).toMatch(message);
  expect(result).toMatchObject({ status, stdout: '' });
};

/** The bytes of a hive and of what stands beside it, to compare before and after. */
export const hiveBytes = (path: string): Record<string, string | null> =>
  Object.fromEntries(['', '-wal', '-shm', '-journal'].map((suffix) => [suffix, bytesOf(path + suffix)]));

const bytesOf = (path: string): string | null =>
  statSync(path, { throwIfNoEntry: false })?.isFile() === true ? readFileSync(path).toString('base64') : null;
