/** A connection in a process of its own (closing descriptors in this one must not drop its locks): runs SQL lines, answers each. */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';

const SCRIPT = `
import Database from 'better-sqlite3';
import { createInterface } from 'node:readline';
const db = new Database(process.argv[1]);
for await (const line of createInterface({ input: process.stdin })) {
  try { db.exec(JSON.parse(line)); console.log('ok'); } catch (error) { console.log(error.message); }
}
db.close();`;

export class WalWriter implements AsyncDisposable {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: Interface;

  constructor(path: string) {
    this.#child = spawn(process.execPath, ['--input-type=module', '-e', SCRIPT, path], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface({ input: this.#child.stdout });
  }

  async exec(sql: string): Promise<void> {
    this.#child.stdin.write(`${JSON.stringify(sql)}\n`);
    const [answer] = (await once(this.#lines, 'line')) as [string];
    if (answer !== 'ok') throw new Error(answer);
  }

  /** As an application dies: nothing is checkpointed, the WAL stays. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, 'exit');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.stdin.end();
    await once(this.#child, 'exit');
  }
}
