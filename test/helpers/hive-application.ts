/**
 * The application: real Hive in a process of its own (`test/hive/make-hive.mjs`), with its oracle. Each run is one life of
 * the application; how it ends (`stop`, `exit`, `kill`, or killed from outside in the middle) is part of the test.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SCRIPT = fileURLToPath(new URL('../hive/make-hive.mjs', import.meta.url));

export interface ApplicationRun {
  /** Directory of the application's state; the hive is `hiveIn(dir)`. */
  readonly dir: string;
  readonly ops: number;
  readonly seed: number;
  /** Transactions per second at most; without it as fast as it can. */
  readonly rate?: number;
  readonly ddlAt?: number;
  readonly snapshotEvery?: number;
  readonly oracle?: string;
  readonly exit?: 'stop' | 'exit' | 'kill';
}

/** What make-hive tells at its end; a killed run tells nothing. */
export interface ApplicationReport {
  readonly seconds: number;
  readonly integrity: string;
  readonly counts: Readonly<Record<string, number>>;
  readonly rows: Readonly<Record<string, number>>;
}

export const hiveIn = (dir: string): string => join(dir, 'databases', 'main', 'db.sqlite');

export class HiveApplication implements AsyncDisposable {
  /** Null: it was killed before its end. Rejects if it failed by itself. */
  readonly ended: Promise<ApplicationReport | null>;
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  /** Its metadata.json and what stood in it before this life. */
  readonly #metadata: { readonly path: string; readonly before: string };
  #killed = false;

  private constructor(run: ApplicationRun) {
    mkdirSync(run.dir, { recursive: true });
    const path = join(dirname(hiveIn(run.dir)), 'metadata.json');
    this.#metadata = { path, before: existsSync(path) ? readFileSync(path, 'utf8') : '' };
    const child = spawn(process.execPath, ['--no-warnings', SCRIPT, ...argumentsOf(run)], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    let output = '';
    let errors = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text));
    const exited = Promise.withResolvers<void>();
    this.#exited = exited.promise;
    const ended = Promise.withResolvers<ApplicationReport | null>();
    this.ended = ended.promise;
    this.ended.catch(() => {});
    child.once('error', ended.reject);
    child.once('close', (code, signal) => {
      exited.resolve();
      if (output.trimEnd().endsWith('}')) ended.resolve(JSON.parse(output) as ApplicationReport);
      else if (this.#killed) ended.resolve(null);
      else ended.reject(new Error(`the application ended with ${signal ?? code}: ${errors.slice(-2000)}`));
    });
  }

  static start(run: ApplicationRun): HiveApplication {
    return new HiveApplication(run);
  }

  /** One whole life. */
  static async run(run: ApplicationRun): Promise<ApplicationReport> {
    const report = await new HiveApplication(run).ended;
    if (report === null) throw new Error('the application was killed');
    return report;
  }

  get isRunning(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** SIGKILL wherever it stands. */
  async kill(): Promise<void> {
    this.#killed = true;
    this.#child.kill('SIGKILL');
    await this.#exited;
    mendMetadata(this.#metadata);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.isRunning) await this.kill();
  }
}

const argumentsOf = ({ dir, ops, seed, rate, ddlAt, snapshotEvery, oracle, exit }: ApplicationRun): string[] => {
  const options: [string, string | number | undefined][] = [
    ['dir', dir],
    ['ops', ops],
    ['seed', seed],
    ['rate', rate],
    ['ddl-at', ddlAt],
    ['snapshot-every', snapshotEvery],
    ['oracle', oracle],
    ['exit', exit],
  ];
  return options.flatMap(([name, value]) => (value === undefined ? [] : [`--${name}`, String(value)]));
};

/**
 * Hive rewrites its metadata.json in place with each statement that writes; killed in between it cannot open its own
 * database any more (hive 2.1.13). That is Hive's to mend and no part of what is tested here.
 */
const mendMetadata = ({ path, before }: { path: string; before: string }): void => {
  try {
    JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    writeFileSync(path, before);
  }
};
