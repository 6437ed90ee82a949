/** Where the demo's files stand, and the configuration of its daemon: what a user would write. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hiveIn } from '../../test/helpers/hive-application.ts';

export class Workspace implements Disposable {
  readonly dir = mkdtempSync(join(tmpdir(), 'waggle-demo-'));
  readonly app = join(this.dir, 'app');
  readonly hive = hiveIn(this.app);
  readonly config = join(this.dir, 'waggle.yaml');
  readonly state = join(this.dir, '.waggle');
  readonly log = join(this.state, 'log.db');
  readonly copy = join(this.dir, 'copy.sqlite');
  readonly pg = join(this.dir, 'pg');
  readonly jsonl = join(this.dir, 'changes.jsonl');
  /** Of the real Postgres, when DATABASE_URL names one: a schema that only this demo uses. */
  readonly schema = `waggle_demo_${process.pid}`;
  readonly databaseUrl = process.env['DATABASE_URL'] ?? null;
  /** Names of the sinks. */
  readonly sinks: readonly string[];
  readonly #oracles: string[] = [];

  constructor() {
    const sinks: Record<string, string> = {
      copy: '{ type: sqlite, file: copy.sqlite, batch: { delay: 1ms } }',
      local: '{ type: pglite, dir: pg }',
      changes: '{ type: jsonl, file: changes.jsonl }',
    };
    if (this.databaseUrl !== null) sinks['server'] = `{ type: postgres, url: "\${DATABASE_URL}", schema: ${this.schema} }`;
    this.sinks = Object.keys(sinks);
    const lines = [
      'hive: app/databases/main/db.sqlite',
      'state: .waggle',
      // The whole log is compared in the end.
      'retention: { size: 100GB }',
      'sinks:',
      ...Object.entries(sinks).map(([name, sink]) => `  ${name}: ${sink}`),
    ];
    writeFileSync(this.config, `${lines.join('\n')}\n`);
  }

  /** The file of the next life's oracle. */
  nextOracle(): string {
    const path = join(this.dir, `oracle-${this.#oracles.length}.ndjson`);
    this.#oracles.push(path);
    return path;
  }

  /** Of all lives so far, in order. */
  get oracles(): readonly string[] {
    return this.#oracles;
  }

  [Symbol.dispose](): void {
    rmSync(this.dir, { recursive: true, force: true });
  }
}
