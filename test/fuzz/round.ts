/**
 * One round of the fuzz: a hive as the seed plans it, capture beside it as the daemon has it (a thread, and a keeper process), its
 * writers as processes, and then the log held against their accounts.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';
import { CaptureClient } from '../../src/capture/capture-client.ts';
import type { Row } from '../../src/change/row.ts';
import type { RowPlace } from '../../src/change/table.ts';
import { placeOfRow } from '../../src/pipeline/fill-cursor.ts';
import { LogReader } from '../../src/log/log-reader.ts';
import { until } from '../helpers/until.ts';
import type { Account } from './account.ts';
import { checkHistory, readAccounts } from './check-history.ts';
import type { HistoryModel } from './history-model.ts';
import { createDatabase, planRound, type RoundPlan } from './plan.ts';
import type { WriterAnswer, WriterOptions, WriterOrder } from './writer.ts';

export interface RoundOptions {
  readonly seed: number;
  /** Attempted by all writers together. */
  readonly transactions: number;
  /** The files stay also when nothing is wrong. */
  readonly keep?: boolean;
}

export interface RoundResult {
  readonly plan: RoundPlan;
  /** Transactions that were held against an account. */
  readonly transactions: number;
  readonly changes: number;
  readonly ops: Readonly<Record<string, number>>;
  readonly seconds: number;
}

const WRITER = fileURLToPath(new URL('./writer.ts', import.meta.url));
/** A round takes seconds; on a machine that five others use, minutes. */
const DEADLINE_MS = 900_000;

/** Throws an error that names what is wrong and where the round's files are; they stay then. */
export const runRound = async (options: RoundOptions): Promise<RoundResult> => {
  const directory = mkdtempSync(join(tmpdir(), `waggle-fuzz-${options.seed}-`));
  const plan = planRound(options.seed);
  writeFileSync(join(directory, 'plan.json'), JSON.stringify({ ...options, plan }, null, 2));
  try {
    const result = await new Round(directory, plan, options).run();
    if (options.keep === true) console.log(`files of seed ${options.seed}: ${directory}`);
    else rmSync(directory, { recursive: true, force: true });
    return result;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new Error(`seed ${options.seed} fails: ${message}\n  its files: ${directory}`, { cause: error });
  }
};

class Round {
  readonly #directory: string;
  readonly #plan: RoundPlan;
  readonly #options: RoundOptions;
  readonly #hive: string;
  readonly #state: string;
  readonly #warnings: string[] = [];
  #beginnings = 0;

  constructor(directory: string, plan: RoundPlan, options: RoundOptions) {
    this.#directory = directory;
    this.#plan = plan;
    this.#options = options;
    this.#hive = join(directory, 'hive.sqlite');
    this.#state = join(directory, 'state');
    mkdirSync(this.#state);
  }

  async run(): Promise<RoundResult> {
    const start = performance.now();
    createDatabase(this.#hive, this.#plan);
    const each = Math.ceil(this.#options.transactions / this.#plan.writers.length);
    await using writers = new Writers(
      this.#plan.writers.map((_, writer) => ({ plan: this.#plan, writer, file: this.#hive, accounts: this.#accounts(writer), transactions: each })),
    );
    const firstOrder = await writers.first.do('setup');
    const capture = this.#startCapture();
    const failed = capture.ended.then((error) => {
      throw error ?? new Error('capture ended');
    });
    // Looked at by the races alone; after the orderly stop it rejects as well.
    failed.catch(() => {});
    try {
      await Promise.race([capture.ready, failed]);
      const catalog = this.#catalog();
      await Promise.race([Promise.all(writers.all.map((writer) => writer.do('run'))), failed]);
      const lastOrder = await writers.first.do('finish');
      await Promise.race([
        until('the log to hold the last transaction', () => this.#lastLoggedOrder() === lastOrder, { deadlineMs: DEADLINE_MS }),
        failed,
      ]);
      const mirrored = await this.#mirroredRows(capture);
      const error = await capture.stop();
      if (error !== null) throw error;
      const accounts = this.#plan.writers.map((_, writer) => readAccounts(this.#accounts(writer)));
      const checked = checkHistory({ log: join(this.#state, 'log.db'), catalog, accounts, firstOrder, lastOrder });
      const last = accounts[0]!.findLast((line): line is Account => 'order' in line && line.order === lastOrder)!;
      this.#compareMirror(checked.model, mirrored, last);
      assert.deepEqual(this.#warnings, [], 'warnings of capture');
      assert.equal(this.#beginnings, 1, 'capture began once');
      await writers[Symbol.asyncDispose]();
      this.#checkHive();
      const { transactions, changes, ops } = checked;
      return { plan: this.#plan, transactions, changes, ops, seconds: (performance.now() - start) / 1000 };
    } finally {
      await capture.stop();
    }
  }

  #startCapture(): CaptureClient {
    return CaptureClient.inThread(
      {
        hive: this.#hive,
        stateDir: this.#state,
        durability: 'os',
        keeper: { outlive: false, spoolBytes: 1e9, patienceMs: 0 },
        onGap: 'fail',
        tables: { include: null, exclude: ['excluded*'] },
        maxWalBytes: this.#plan.maxWalBytes,
        retention: { maxAgeMs: null, maxBytes: null },
      },
      { onWarning: (error) => void this.#warnings.push(`${error.code}: ${error.message}`), onReady: () => void (this.#beginnings += 1) },
    );
  }

  #accounts(writer: number): string {
    return join(this.#directory, `accounts-${writer}.ndjson`);
  }

  #catalog(): NonNullable<ReturnType<LogReader['info']>['catalog']> {
    using reader = LogReader.open(join(this.#state, 'log.db'));
    const { catalog, head } = reader.info();
    assert.equal(head.seq, 0, 'a log without transactions');
    return catalog!;
  }

  /** -1: the last transaction did not count. */
  #lastLoggedOrder(): number {
    using reader = LogReader.open(join(this.#state, 'log.db'));
    const { seq } = reader.head();
    if (seq === 0) return -1;
    for (const changes of reader
      .transactionsAfter(seq - 1)
      .at(-1)!
      .changes())
      for (const change of changes) if (change.op === 'u' && change.table.name === 'fuzz_order') return Number(change.after!.values()[1]);
    return -1;
  }

  async #mirroredRows(capture: CaptureClient): Promise<Map<string, Row[]>> {
    using reader = LogReader.open(join(this.#state, 'log.db'));
    const rows = new Map<string, Row[]>();
    for (const { name } of reader.info().catalog!.tables) {
      const all: Row[] = [];
      for (let after: RowPlace | null = null; ;) {
        const chunk = await capture.readRows(name, after, 64 * 1024);
        assert(chunk !== null, `the mirror has no table ${name}`);
        all.push(...chunk.rows);
        if (chunk.done) break;
        after = placeOfRow(chunk.rows.at(-1)!);
      }
      rows.set(name, all);
    }
    return rows;
  }

  /** The mirror's rows, their rowids too, are what SQLite told last. */
  #compareMirror(model: HistoryModel, mirrored: ReadonlyMap<string, Row[]>, last: Account): void {
    assert.deepEqual([...mirrored.keys()].toSorted(), last.tables.map((table) => table.name).toSorted(), 'tables of the mirror');
    for (const table of last.tables) {
      const rows = mirrored.get(table.name)!;
      assert.equal(rows.length, table.rows, `rows of table ${table.name} in the mirror`);
      assert.equal(model.sumOf(rows), table.sum, `content of table ${table.name} in the mirror`);
      if (table.rowidSum !== -1) assert.equal(model.sumOf(rows, true), table.rowidSum, `rowids of table ${table.name} in the mirror`);
    }
  }

  /** Whatever capture did to the file beside the application left it whole. */
  #checkHive(): void {
    const db = new Database(this.#hive);
    try {
      assert.equal(db.pragma('integrity_check', { simple: true }), 'ok', 'integrity_check of the hive');
    } finally {
      db.close();
    }
  }
}

/** The writers' processes. They end with the round. */
class Writers implements AsyncDisposable {
  readonly all: readonly WriterProcess[];

  constructor(options: readonly WriterOptions[]) {
    this.all = options.map((each) => new WriterProcess(each));
  }

  get first(): WriterProcess {
    return this.all[0]!;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.all.map((writer) => writer.end()));
  }
}

class WriterProcess {
  readonly #child: ChildProcess;
  readonly #exited: Promise<string>;

  constructor(options: WriterOptions) {
    this.#child = fork(WRITER, [JSON.stringify(options)], { execArgv: [] });
    this.#exited = new Promise((resolve) => void this.#child.once('exit', (code, signal) => resolve(signal ?? `exit status ${code}`)));
  }

  /** Resolves with the order of its last transaction (0: none was committed). */
  async do(order: WriterOrder): Promise<number> {
    const answered = new Promise<WriterAnswer>((resolve) => void this.#child.once('message', (message) => resolve(message as WriterAnswer)));
    const deadline = AbortSignal.timeout(DEADLINE_MS);
    const late = new Promise<never>((_, reject) =>
      deadline.addEventListener('abort', () => reject(new Error(`a writer did not ${order} in ${DEADLINE_MS} ms`))),
    );
    late.catch(() => {});
    this.#child.send(order);
    const died = this.#exited.then((how) => {
      throw new Error(`a writer died: ${how}`);
    });
    died.catch(() => {});
    const answer = await Promise.race([answered, late, died]);
    if ('failed' in answer) throw new Error(`a writer failed: ${answer.failed}`);
    return answer.order;
  }

  async end(): Promise<void> {
    if (this.#child.connected) this.#child.disconnect();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 5000);
    await this.#exited;
    clearTimeout(timer);
  }
}
