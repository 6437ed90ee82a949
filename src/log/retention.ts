/** Which blocks of transactions may leave the log, and how: in small steps, so that capture never waits long. */
import type Database from 'better-sqlite3';
import type { StateRow } from './log-format.ts';

export interface PruneLimits {
  /** Remove blocks whose newest transaction is older than this. */
  readonly maxAgeMs: number;
  /** Remove the oldest while the stored data is larger than this. */
  readonly maxBytes: number;
  /** Never remove transactions behind this seq (what the slowest enabled sink has applied); Infinity: no sink counts. */
  readonly keepAfterSeq: number;
  /** Injected by tests; milliseconds since 1970. */
  readonly nowMs?: number;
}

export interface PruneResult {
  readonly transactions: number;
  /** There is more that the limits allow to remove. */
  readonly more: boolean;
}

interface Candidate {
  readonly last_seq: number;
  readonly epoch: number;
  readonly frame: number;
  readonly timestamp_us: number;
  readonly transaction_count: number;
  readonly bytes: number;
}

const STEP_BLOCKS = 2000;
const STEP_BYTES = 8 * 1024 * 1024;
const STEP_PARTS = 32;
const SHRINK_PAGES = 512;
const SHRINK_FREE_BYTES = 32 * 1024 * 1024;

export class Retention {
  readonly #database: Database.Database;

  constructor(database: Database.Database) {
    this.#database = database;
  }

  /** One step, inside the writer's transaction. `base`: the state row's fields that changed. `frames`: a guess. */
  prune(limits: PruneLimits, row: StateRow): PruneResult & { readonly base: Pick<StateRow, 'base_seq' | 'base_txid'>; readonly frames: number } {
    const before = { base_seq: row.base_seq, base_txid: row.base_txid };
    const oldestUs = ((limits.nowMs ?? Date.now()) - limits.maxAgeMs) * 1000;
    let surplusBytes = this.#usedBytes() - limits.maxBytes;
    let removedBytes = 0;
    let last: Candidate | null = null;
    let blocks = 0;
    let transactions = 0;
    let more = false;
    for (const candidate of this.#oldest(Math.min(limits.keepAfterSeq, row.head_seq - 1))) {
      if (candidate.timestamp_us >= oldestUs && surplusBytes <= 0) break;
      if (blocks === STEP_BLOCKS || removedBytes >= STEP_BYTES) {
        more = true;
        break;
      }
      last = candidate;
      removedBytes += candidate.bytes;
      surplusBytes -= candidate.bytes;
      blocks += 1;
      transactions += candidate.transaction_count;
    }
    const base = last === null ? before : { base_seq: last.last_seq, base_txid: `${last.epoch}:${last.frame}` };
    if (last !== null) this.#remove(base);
    const parts = this.#removeOrphans(row);
    return { transactions, more: more || parts === STEP_PARTS, base, frames: Math.ceil(blocks / 8) + parts + 4 };
  }

  /** Gives free pages back to the file system, some at a time, where they are many. Outside any transaction. */
  shrink(): void {
    const free = this.#pragma('freelist_count');
    if (free * this.#pragma('page_size') < SHRINK_FREE_BYTES || free * 2 < this.#pragma('page_count')) return;
    this.#database.pragma(`incremental_vacuum(${SHRINK_PAGES})`);
  }

  #oldest(maxSeq: number): Iterable<Candidate> {
    // length() of a BLOB does not read it. The parts of a large transaction are full, but for the last.
    const statement = this.#database.prepare<[number], Candidate>(
      `SELECT last_seq, epoch, frame, timestamp_us, transaction_count,
              64 + coalesce(length(data), (SELECT sum(length(p.data)) FROM parts p WHERE p.id >= first_part AND p.id < first_part + part_count)) AS bytes
       FROM blocks WHERE last_seq <= ? ORDER BY last_seq LIMIT ${STEP_BLOCKS + 1}`,
    );
    return statement.all(Math.max(0, maxSeq));
  }

  #remove(base: Pick<StateRow, 'base_seq' | 'base_txid'>): void {
    const database = this.#database;
    database.prepare('DELETE FROM blocks WHERE last_seq <= ?').run(base.base_seq);
    database.prepare('UPDATE state SET base_seq = ?, base_txid = ?').run(base.base_seq, base.base_txid);
    // Versions grow with seq, so the oldest block that stays names the oldest version that is needed.
    database.exec(
      `DELETE FROM catalogs WHERE version <
         (SELECT coalesce(previous_catalog_version, catalog_version) FROM blocks ORDER BY last_seq LIMIT 1)`,
    );
  }

  /** Parts whose transaction is gone. In steps of their own: freeing a blob reads every page of it. */
  #removeOrphans(row: StateRow): number {
    const kept = this.#database.prepare<[], { id: number | null }>('SELECT min(first_part) AS id FROM blocks WHERE first_part IS NOT NULL').get();
    return this.#database
      .prepare(`DELETE FROM parts WHERE id IN (SELECT id FROM parts WHERE id < ? ORDER BY id LIMIT ${STEP_PARTS})`)
      .run(kept?.id ?? row.next_part).changes;
  }

  #usedBytes(): number {
    return (this.#pragma('page_count') - this.#pragma('freelist_count')) * this.#pragma('page_size');
  }

  #pragma(name: 'page_count' | 'freelist_count' | 'page_size'): number {
    return Number(this.#database.pragma(name, { simple: true }));
  }
}
