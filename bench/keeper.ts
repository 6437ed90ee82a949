/**
 * What the keeper costs the application: the writer's speed with and without it, in turns, for the shapes of the
 * architecture's "Numbers", with a reader that only reads the frames and reports them as drained.
 *
 *     node bench/keeper.ts [seconds a run] [rounds] [shape …]
 */
import { closeSync, mkdirSync, mkdtempSync, openSync, readSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KeeperClient } from '../src/keeper/keeper-client.ts';
import type { FromKeeper, KeeperStats } from '../src/keeper/protocol.ts';
import { frameOffset } from '../src/sqlite/wal.ts';
import { WAL_INDEX_HEADER_BYTES, parseWalIndexHeader } from '../src/sqlite/wal-index.ts';
import type { WriterOptions } from '../test/helpers/counting-writer.ts';
import { WriterProcess } from '../test/helpers/writer-process.ts';

const SHAPES: Record<string, Pick<WriterOptions, 'shape' | 'rowsPerTransaction' | 'pauseMs'>> = {
  'inserts, 1000 a transaction': { shape: 'insert', rowsPerTransaction: 1000, pauseMs: 0 },
  'inserts, 1 a transaction': { shape: 'insert', rowsPerTransaction: 1, pauseMs: 0 },
  'random updates, 100 a transaction': { shape: 'update', rowsPerTransaction: 100, pauseMs: 0 },
  'inserts, 100 a transaction, 5 ms pause': { shape: 'insert', rowsPerTransaction: 100, pauseMs: 5 },
};

/** Reads every frame and says so at once: the lightest possible capture. */
class PromptReader {
  stats: KeeperStats | null = null;
  maxWalBytes = 0;
  error: string | null = null;
  readonly client: KeeperClient;
  readonly #hive: string;
  readonly #buffer = Buffer.alloc(4 << 20);
  #index = -1;
  #wal = -1;
  #generation = 1;
  #salts: { salt1: number; salt2: number } | null = null;
  #frame = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(hive: string, spoolDir: string) {
    this.#hive = hive;
    this.client = KeeperClient.start({ hive, spoolDir, maxWalBytes: 16 << 20, taken: null, onMessage: (message) => this.#receive(message) });
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.client.stop();
    if (this.#index >= 0) closeSync(this.#index);
    if (this.#wal >= 0) closeSync(this.#wal);
  }

  #receive(message: FromKeeper): void {
    if (message.type === 'ready') {
      this.#index = openSync(`${this.#hive}-shm`, 'r');
      this.#wal = openSync(`${this.#hive}-wal`, 'r');
      if (message.mxFrame > 0) this.#salts = message;
      this.#timer = setInterval(() => this.#read(), 1);
      this.client.release();
    } else if (message.type === 'begun') {
      this.#salts = message;
    } else if (message.type === 'generation') {
      this.#generation = message.generation + 1;
      this.#salts = null;
      this.#frame = 0;
    } else if (message.type === 'stats') {
      this.stats = message.stats;
    } else if (message.type === 'gap' || message.type === 'failed') {
      this.error = message.error.message;
    }
  }

  #read(): void {
    const bytes = Buffer.alloc(WAL_INDEX_HEADER_BYTES);
    readSync(this.#index, bytes, 0, bytes.length, 0);
    const header = parseWalIndexHeader(bytes);
    if (typeof header !== 'object' || this.#salts?.salt1 !== header.salt1 || this.#salts.salt2 !== header.salt2 || header.mxFrame === this.#frame)
      return;
    const end = frameOffset(header.mxFrame + 1, header.pageSize);
    this.maxWalBytes = Math.max(this.maxWalBytes, end);
    for (let at = frameOffset(this.#frame + 1, header.pageSize); at < end; at += this.#buffer.length)
      readSync(this.#wal, this.#buffer, 0, Math.min(this.#buffer.length, end - at), at);
    this.#frame = header.mxFrame;
    this.client.drained(this.#generation, this.#frame);
  }
}

interface Run {
  readonly rowsPerSecond: number;
  readonly maxCommitMs: number;
  readonly walBytes: number;
  readonly stats: KeeperStats | null;
}

const run = async (shape: Pick<WriterOptions, 'shape' | 'rowsPerTransaction' | 'pauseMs'>, seconds: number, withKeeper: boolean): Promise<Run> => {
  const dir = mkdtempSync(join(tmpdir(), 'waggle-bench-'));
  const hive = join(dir, 'hive.db');
  mkdirSync(join(dir, 'spool'));
  try {
    await using writer = new WriterProcess({ hive, ...shape });
    while (writer.transactions === 0) await delay(5);
    const reader = withKeeper ? new PromptReader(hive, join(dir, 'spool')) : null;
    await delay(500);
    // Both sides are measured between two progress messages, after the keeper has started.
    const before = await writer.mark();
    await delay(seconds * 1000);
    const after = await writer.mark();
    const walBytes = Math.max(reader?.maxWalBytes ?? 0, statSync(`${hive}-wal`).size);
    await writer.stop();
    await reader?.stop();
    if (reader?.error) throw new Error(reader.error);
    return {
      rowsPerSecond: ((after.rows - before.rows) / (after.atMs - before.atMs)) * 1000,
      maxCommitMs: after.maxCommitMs,
      walBytes,
      stats: reader?.stats ?? null,
    };
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
};

const delay = (delayMs: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, delayMs));
const median = (values: number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN;
const mb = (bytes: number): string => (bytes / 1048576).toFixed(1);

const seconds = Number(process.argv[2] ?? 3);
const rounds = Number(process.argv[3] ?? 5);
const wanted = process.argv.slice(4);

for (const [name, shape] of Object.entries(SHAPES)) {
  if (wanted.length > 0 && !wanted.some((part) => name.includes(part))) continue;
  const ratios: number[] = [];
  const without: Run[] = [];
  const withKeeper: Run[] = [];
  for (let round = 0; round < rounds; round++) {
    // In turns, and the order swapped each time, so that a machine that slows down favours neither side.
    const pair: [Run, Run] =
      round % 2 === 0
        ? [await run(shape, seconds, false), await run(shape, seconds, true)]
        : (([first, second]: [Run, Run]): [Run, Run] => [second, first])([await run(shape, seconds, true), await run(shape, seconds, false)]);
    without.push(pair[0]);
    withKeeper.push(pair[1]);
    ratios.push(pair[1].rowsPerSecond / pair[0].rowsPerSecond);
  }
  const show = (runs: Run[]): string =>
    `${Math.round(median(runs.map((each) => each.rowsPerSecond)))} rows/s, longest commit ${median(runs.map((each) => each.maxCommitMs)).toFixed(1)} ms, WAL ${mb(Math.max(...runs.map((each) => each.walBytes)))} MB`;
  console.log(`${name}: ratio ${median(ratios).toFixed(2)} (${ratios.map((ratio) => ratio.toFixed(2)).join(' ')})`);
  console.log(`  without  ${show(without)}`);
  console.log(`  with     ${show(withKeeper)}`);
  const { stats } = withKeeper.at(-1) ?? { stats: null };
  if (stats !== null)
    console.log(
      `  hand-overs ${stats.handOvers}, barriers ${stats.barriers} (p50 ${(stats.barrierMs?.p50 ?? 0).toFixed(2)}, longest ${(stats.barrierMs?.max ?? 0).toFixed(1)} ms, missed ${stats.barrierMisses}, stolen ${stats.stolen}), spooled ${mb(stats.spooledBytes)} MB`,
    );
}
