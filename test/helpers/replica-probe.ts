/**
 * Tail, diff and mirror on a hive whose only connection is in this process and never checkpoints: pages → changes, without
 * keeper, thread and log. (With other processes writing, this would be unsound: closing descriptors drops locks.)
 */
import { join } from 'node:path';
import { Replica } from '../../src/capture/replica.ts';
import { ChangeDecoder, partBytes } from '../../src/change/change-codec.ts';
import type { Change } from '../../src/change/change.ts';
import { HiveSnapshot } from '../../src/hive/hive-snapshot.ts';
import { WalIndexReader } from '../../src/hive/wal-index-reader.ts';
import { WalTail } from '../../src/hive/wal-tail.ts';
import type { WalTransaction } from '../../src/hive/wal-transaction.ts';
import { SCHEMA_TREE } from '../../src/catalog/schema.ts';
import { Mirror } from '../../src/mirror/mirror.ts';
import { PageMap, schemaTree } from '../../src/mirror/page-map.ts';

/** Tables whose names begin so are not captured. */
export const EXCLUDED = 'wr_';

export class ReplicaProbe implements AsyncDisposable {
  readonly replica: Replica;
  readonly tail: WalTail;
  #batchId = 1;
  #seq = 1;

  constructor(hive: string, directory: string, deleteAll: 'rows' | 'event' = 'rows') {
    using index = new WalIndexReader(hive);
    const header = index.read();
    if (typeof header === 'string') throw new Error(`wal-index is ${header}`);
    const place = { ...header, complete: false };
    using snapshot = HiveSnapshot.open(hive, place);
    const mirror = Mirror.create(
      {
        directory: join(directory, 'mirror'),
        pageSize: header.pageSize,
        durability: 'os',
        makeLogDurable: () => {},
        foldBytes: 2 * 1024 * 1024,
        cacheBytes: 64 * header.pageSize,
      },
      { sizePages: snapshot.sizePages, batchId: 1, page: (page) => snapshot.page(page) },
    );
    this.replica = Replica.read(mirror, { captured: (name) => !name.startsWith(EXCLUDED), known: null, firstVersion: 1, deleteAll });
    const { salt1, salt2, mxFrame } = header;
    const position = { epoch: 1, frame: mxFrame, salt1, salt2, checksum1: snapshot.checksum1, checksum2: snapshot.checksum2 };
    this.tail = new WalTail({ hive, pageSize: header.pageSize, position, generation: 1 });
  }

  /** The changes of each committed transaction since the last call. */
  async take(): Promise<Change[][]> {
    const result: Change[][] = [];
    for (const transaction of everyTransaction(this.tail, 1 << 20)) {
      const { changes, schema, previous } = this.replica.apply(transaction);
      this.#batchId += 1;
      if (!transaction.isResident)
        this.replica.mirror.commitLarge(this.#batchId, transaction.pages, (page) => transaction.image(page), transaction.sizePages);
      else this.replica.mirror.commit(this.#batchId);
      await this.replica.mirror.afterLogCommit();
      const firstSeq = this.#seq;
      this.#seq += changes.count;
      const info = {
        txid: `1:${transaction.frame}`,
        epoch: 1,
        frame: transaction.frame,
        firstSeq,
        lastSeq: this.#seq - 1,
        timestampUs: 0,
        origin: null,
        recovered: false,
      };
      const decoder = new ChangeDecoder({ transaction: info, catalog: schema.catalog, previousCatalog: previous.catalog });
      result.push(changes.parts().flatMap((part) => decoder.decode(Buffer.from(partBytes(part)))));
    }
    return result;
  }

  /** The map that grew transaction by transaction is the one that a walk of the mirror gives. */
  assertMap(): void {
    const { map, mirror, schema, usableSize } = this.replica;
    const walked = new PageMap(mirror.sizePages);
    const readPage = (page: number): Buffer => mirror.page(page);
    walked.addTree(schemaTree(SCHEMA_TREE), usableSize, mirror.sizePages, readPage);
    for (const entry of schema.tables) walked.addTree(entry, usableSize, mirror.sizePages, readPage);
    for (let page = 1; page < map.tree.length; page += 1) {
      const [tree, chain] = page < walked.tree.length ? [walked.tree[page], walked.chain[page]] : [0, 0];
      if (map.tree[page] !== tree || (tree !== 0 && map.chain[page] !== chain)) {
        throw new Error(
          `page ${page} of ${mirror.sizePages} is tree ${map.tree[page]}, chain ${map.chain[page]} in the map; a walk gives ${tree}, ${chain}`,
        );
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.tail[Symbol.dispose]();
    await this.replica.mirror[Symbol.asyncDispose]();
  }
}

/** Everything that is committed now, batch after batch. */
function* everyTransaction(tail: WalTail, maxBytes: number): Generator<WalTransaction, void, undefined> {
  for (let any = true; any;) {
    any = false;
    for (let transaction = tail.next(maxBytes); transaction !== null; transaction = tail.next(maxBytes)) {
      any = true;
      yield transaction;
    }
  }
}
