/** A hive, a configuration and the daemon on it: what an end-to-end test starts from. Everything in one temporary directory. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { endKeeper } from './end-keeper.ts';
import { hiveIn } from './hive-application.ts';
import { withMongo } from './mongo-rows.ts';
import { withMysql } from './mysql-text.ts';
import { difference, type Difference, readSqliteRows, readSqliteRowsLike } from './row-sets.ts';
import { withPglite, withPostgres } from './postgres-text.ts';
import { type Place, untilSettled } from './settled.ts';
import { WaggleProcess, type WaggleOptions } from './waggle-process.ts';

export interface SceneOptions {
  /** By name, as flow YAML: `{ type: sqlite, file: copy.sqlite }`. */
  readonly sinks?: Readonly<Record<string, string>>;
  /** Further lines of the configuration. */
  readonly lines?: readonly string[];
  /** Default: where make-hive puts it in `app`. */
  readonly hive?: string;
  readonly state?: string;
}

/** The long forms write more than the default 1 GB, and prove the log from its first change. */
const RETENTION = 'retention: { size: 100GB }';

export class DaemonScene implements AsyncDisposable {
  readonly dir = mkdtempSync(join(tmpdir(), 'waggle-scene-'));
  readonly app = join(this.dir, 'app');
  readonly hive: string;
  readonly state: string;
  readonly log: string;
  readonly config = join(this.dir, 'waggle.yaml');
  readonly sinks: readonly string[];
  readonly #daemons: WaggleProcess[] = [];

  constructor({ sinks = {}, lines = [], hive, state }: SceneOptions = {}) {
    this.hive = hive === undefined ? hiveIn(this.app) : join(this.dir, hive);
    this.state = state ?? join(this.dir, 'state');
    this.log = join(this.state, 'log.db');
    this.sinks = Object.keys(sinks);
    const list = Object.entries(sinks).map(([name, sink]) => `  ${name}: ${sink}`);
    writeFileSync(
      this.config,
      [`hive: ${this.hive}`, `state: ${this.state}`, RETENTION, ...lines, list.length === 0 ? 'sinks: {}' : 'sinks:', ...list, ''].join('\n'),
    );
  }

  path(...parts: string[]): string {
    return join(this.dir, ...parts);
  }

  /** `waggle run`, not necessarily ready yet. */
  start(options: WaggleOptions = {}): WaggleProcess {
    const daemon = WaggleProcess.run(this.config, options);
    this.#daemons.push(daemon);
    return daemon;
  }

  async startReady(options: WaggleOptions = {}): Promise<WaggleProcess> {
    return this.start(options).untilReady();
  }

  place(sinks: readonly string[] = this.sinks): Place {
    return { hive: this.hive, stateDir: this.state, sinks };
  }

  settled(sinks?: readonly string[], deadlineMs?: number): Promise<void> {
    return untilSettled(this.place(sinks), deadlineMs);
  }

  /** Every row of the hive beside a SQLite copy; daemon and application have ended, or are idle. */
  compareCopy(file: string): Difference {
    const exact = readSqliteRows(this.hive, 'exact');
    return difference(exact, readSqliteRowsLike(file, exact, 'exact'));
  }

  async comparePglite(dir: string): Promise<Difference> {
    const text = readSqliteRows(this.hive, 'text');
    return difference(text, await withPglite(dir, text));
  }

  async comparePostgres(url: string, schema = 'public'): Promise<Difference> {
    const text = readSqliteRows(this.hive, 'text');
    return difference(text, await withPostgres(url, schema, text));
  }

  /** The keeper that outlives its daemon, by SIGKILL. */
  endKeeper(): Promise<void> {
    return endKeeper(this.state);
  }

  async compareMysql(url: string): Promise<Difference> {
    const text = readSqliteRows(this.hive, 'text');
    return difference(text, await withMysql(url, text));
  }

  async compareMongo(url: string): Promise<Difference> {
    const exact = readSqliteRows(this.hive, 'exact');
    return difference(exact, await withMongo(url, exact));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // All first: a keeper that ends with its daemon does not end before it.
    for (const daemon of this.#daemons) if (daemon.exit === null) await daemon.kill();
    await endKeeper(this.state);
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** What `difference` gives where nothing differs. */
export const EQUAL = { missing: 0, surplus: 0, first: null };
