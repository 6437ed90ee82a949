/**
 * The `waggle` command as a user starts it: a process of its own, its log lines (JSON on stderr), its end. WAGGLE_COMMAND
 * names another file to start, for example the launcher of the built package.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { resolve as resolvePath } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadConfig } from '../../src/config/load-config.ts';
import { endKeeper } from './end-keeper.ts';
import { until } from './until.ts';

const COMMAND = process.env['WAGGLE_COMMAND'] ?? fileURLToPath(new URL('../../src/cli/waggle.js', import.meta.url));

export interface LogLine {
  readonly level: number;
  readonly msg: string;
  readonly component?: string;
  readonly sink?: string;
  readonly code?: string;
  readonly hint?: string;
  readonly [field: string]: unknown;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface WaggleOptions {
  readonly cwd?: string | undefined;
  readonly env?: NodeJS.ProcessEnv | undefined;
}

export class WaggleProcess implements AsyncDisposable {
  readonly child: ChildProcess;
  readonly exited: Promise<Exit>;
  /** All that came on stdout and stderr so far. */
  stdout = '';
  stderr = '';
  #exit: Exit | null = null;
  /** Whose keeper may outlive the process. */
  readonly #stateDir: string | null;

  constructor(args: readonly string[], { cwd, env }: WaggleOptions = {}) {
    this.#stateDir = args[0] === 'run' ? stateDirOf(args, { cwd, env }) : null;
    this.child = spawn(process.execPath, [COMMAND, ...args], { cwd, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => (this.stdout += text));
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.stderr += text));
    this.exited = new Promise((resolve) => {
      this.child.once('close', (code, signal) => {
        this.#exit = { code, signal };
        resolve(this.#exit);
      });
    });
  }

  /** `waggle run -c config`. */
  static run(config: string, options: WaggleOptions = {}): WaggleProcess {
    return new WaggleProcess(['run', '-c', config], options);
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  get exit(): Exit | null {
    return this.#exit;
  }

  get lines(): LogLine[] {
    return this.stderr
      .split('\n')
      .filter((line) => line.startsWith('{') && line.endsWith('}'))
      .map((line) => JSON.parse(line) as LogLine);
  }

  /** The line with which capture began; it names the keeper's pid and how it began. */
  get ready(): LogLine | undefined {
    return this.lines.findLast((line) => line['keeper'] !== undefined && line['position'] !== undefined);
  }

  /** Waits for a log line; rejects when the process ends before. */
  async line(what: string, matches: (line: LogLine) => boolean, deadlineMs = 30_000): Promise<LogLine> {
    return until(
      `a log line: ${what}`,
      () => {
        const found = this.lines.find(matches);
        if (found === undefined && this.#exit !== null)
          throw new Error(`waggle ended (${this.#exit.signal ?? this.#exit.code}) before ${what}: ${this.stderr.slice(-3000)}`);
        return found;
      },
      { deadlineMs, told: () => this.stderr.slice(-3000) },
    );
  }

  /** Behind a kill everything is made durable first: on a disk that others write to at full speed that has taken half a minute. */
  async untilReady(): Promise<this> {
    await this.line('capture is ready', (line) => line['keeper'] !== undefined && line['position'] !== undefined, 120_000);
    return this;
  }

  /** Orderly end, as by Ctrl-C. */
  async stop(signal: 'SIGTERM' | 'SIGINT' = 'SIGTERM'): Promise<Exit> {
    this.child.kill(signal);
    return this.exited;
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.exited;
  }

  /** Nothing that `run` started lives on. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#exit === null) await this.kill();
    if (this.#stateDir !== null) await endKeeper(this.#stateDir);
  }
}

/** Null where the configuration is wrong: then nothing is started. */
const stateDirOf = (args: readonly string[], { cwd, env }: WaggleOptions): string | null => {
  const option = args.findIndex((arg) => arg === '-c' || arg === '--config');
  const config = resolvePath(cwd ?? '', option < 0 ? 'waggle.yaml' : args[option + 1]!);
  try {
    return loadConfig(config, { ...process.env, ...env }).state;
  } catch {
    return null;
  }
};
