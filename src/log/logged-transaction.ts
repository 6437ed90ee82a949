/** A transaction of the log, read. Its changes are decoded when somebody iterates, part by part. */
import { type Change, type TransactionInfo } from '../change/change.ts';
import { ChangeDecoder } from '../change/change-codec.ts';
import type { Catalog } from '../change/table.ts';
import { WaggleError } from '../support/errors.ts';

export interface LoggedTransactionOptions {
  readonly info: TransactionInfo;
  readonly catalog: Catalog;
  readonly previousCatalog: Catalog;
  readonly partCount: number;
  /** Bytes of changes that were read with the transaction (and are in memory); 0 where parts are read one by one. */
  readonly inlineBytes: number;
  /** The part's bytes, 0-based. Throws when the transaction left the log since. */
  readonly readPart: (index: number) => Buffer;
}

export class LoggedTransaction {
  readonly info: TransactionInfo;
  /** Schema after the transaction. */
  readonly catalog: Catalog;
  /** Schema before it; the same object where it changed none. */
  readonly previousCatalog: Catalog;
  readonly partCount: number;
  /** Bytes of changes that it holds in memory; a large transaction holds none. */
  readonly inlineBytes: number;
  readonly #readPart: (index: number) => Buffer;

  constructor(options: LoggedTransactionOptions) {
    this.info = options.info;
    this.catalog = options.catalog;
    this.previousCatalog = options.previousCatalog;
    this.partCount = options.partCount;
    this.inlineBytes = options.inlineBytes;
    this.#readPart = options.readPart;
  }

  get changeCount(): number {
    return this.info.lastSeq - this.info.firstSeq + 1;
  }

  /**
   * The changes in order, an array a part (some thousand changes, about 256 KB of rows or one larger row). Can be
   * called again. Holds no lock and no read transaction between parts; throws SINK_CHECKPOINT_UNKNOWN when retention
   * removed the transaction meanwhile, STATE_CORRUPT when its parts contradict its count.
   */
  *changes(): Generator<Change[], void, undefined> {
    const { info, catalog, previousCatalog } = this;
    const decoder = new ChangeDecoder({ transaction: info, catalog, previousCatalog });
    let count = 0;
    for (let index = 0; index < this.partCount; index += 1) {
      const changes = decoder.decode(this.#readPart(index));
      count += changes.length;
      yield changes;
    }
    if (count !== this.changeCount) {
      throw new WaggleError('STATE_CORRUPT', `transaction ${info.txid} of the log holds ${count} changes instead of ${this.changeCount}`);
    }
  }
}
