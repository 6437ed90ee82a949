/**
 * Transactions on their way into the log, encoded at once as the blocks that they will be (log-format.ts): whoever found the
 * changes can use its buffers again, and a thousand small transactions leave no thousand objects behind.
 */
import { type Part, partBytes } from '../change/change-codec.ts';
import { BlockWriter } from './block.ts';

/** One committed transaction as capture hands it over. */
export interface LogTransaction {
  readonly epoch: number;
  readonly frame: number;
  /** When the commit was seen, microseconds since 1970. */
  readonly timestampUs: number;
  readonly origin: string | null;
  readonly recovered: boolean;
  /** Changes in `parts`. 0: the transaction is not stored. */
  readonly changeCount: number;
  /** As `ChangeWriter.parts()` gives them. Copied, but for spilled ones, which must stay valid until they are in the log. */
  readonly parts: readonly Part[];
  readonly catalogVersion: number;
  /** Differs from `catalogVersion` where the transaction changed the schema. */
  readonly previousCatalogVersion: number;
}

/** A row of the table `blocks`, but for its place. */
export interface Block {
  /** Of its transactions together. */
  readonly changeCount: number;
  readonly transactionCount: number;
  /** Its last transaction; what stands here and not in `data` holds for all of them. */
  readonly last: Omit<LogTransaction, 'changeCount' | 'parts'>;
  /** The transactions themselves; null: there is one, and its changes are `parts`. */
  readonly data: Buffer | null;
  readonly parts: readonly Part[];
}

export class TransactionBatch {
  #blocks: Block[] = [];
  readonly #open = new BlockWriter();
  /** The last transaction of the open block. */
  #last: LogTransaction | null = null;

  static of(...transactions: readonly LogTransaction[]): TransactionBatch {
    const batch = new TransactionBatch();
    for (const transaction of transactions) batch.add(transaction);
    return batch;
  }

  add(transaction: LogTransaction): void {
    const { changeCount, parts } = transaction;
    if (changeCount === 0) return;
    if (this.#last !== null && (this.#open.isFull || parts.length > 1 || !canShareBlock(this.#last, transaction))) this.#close();
    if (parts.length > 1) {
      const copied = parts.map((part) => (Buffer.isBuffer(part) ? Buffer.from(part) : part));
      this.#blocks.push({ changeCount, transactionCount: 1, last: transaction, data: null, parts: copied });
      return;
    }
    this.#open.add(transaction, partBytes(parts[0]!));
    this.#last = transaction;
  }

  blocks(): readonly Block[] {
    this.#close();
    return this.#blocks;
  }

  clear(): void {
    this.#blocks = [];
    this.#open.clear();
    this.#last = null;
  }

  #close(): void {
    if (this.#last === null) return;
    const { changeCount, transactionCount } = this.#open;
    this.#blocks.push({ changeCount, transactionCount, last: this.#last, data: Buffer.from(this.#open.bytes()), parts: [] });
    this.#open.clear();
    this.#last = null;
  }
}

/** Everything that a block says once is the same for both. */
const canShareBlock = (a: LogTransaction, b: LogTransaction): boolean =>
  a.catalogVersion === b.catalogVersion &&
  a.previousCatalogVersion === b.previousCatalogVersion &&
  a.origin === b.origin &&
  a.recovered === b.recovered;
