import { join } from 'node:path';
import Database from 'better-sqlite3';
import { expect, it } from 'vitest';
import { WalIndexReader } from '../../src/hive/wal-index-reader.ts';
import { ReplicaProbe } from '../helpers/replica-probe.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';

// The position once stayed where the tail had begun: every kill then looked like a gap.
it('moves its position with the last transaction, also after a start inside a generation', async () => {
  using directory = temporaryDirectory();
  const file = join(directory.path, 'db.sqlite');
  const db = new Database(file);
  db.pragma('journal_mode = WAL');
  db.pragma('wal_autocheckpoint = 0');
  db.exec('CREATE TABLE t (x); INSERT INTO t VALUES (1)');
  await using probe = new ReplicaProbe(file, directory.path);
  const start = probe.tail.position;
  expect(start.frame).toBeGreaterThan(0);
  db.exec('INSERT INTO t VALUES (2); INSERT INTO t VALUES (3)');
  await probe.take();
  using index = new WalIndexReader(file);
  const header = index.read();
  if (typeof header === 'string') throw new Error(header);
  const { salt1, salt2, checksum1, checksum2 } = header;
  expect(probe.tail.position).toEqual({ epoch: 1, frame: header.mxFrame, salt1, salt2, checksum1, checksum2 });
  expect(header.mxFrame).toBeGreaterThan(start.frame);
  db.close();
});
