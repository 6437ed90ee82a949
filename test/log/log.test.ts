import { copyFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ChangeWriter, PART_BYTES } from '../../src/change/change-codec.ts';
import type { Change, Checkpoint } from '../../src/change/change.ts';
import { LogReader } from '../../src/log/log-reader.ts';
import { LogWriter } from '../../src/log/log-writer.ts';
import { TransactionBatch } from '../../src/log/transaction-batch.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { ITEMS, LoggedDatabase, NOTES, randomValue } from '../helpers/logged-database.ts';
import { Random } from '../helpers/random.ts';
import { encodeRecord } from '../helpers/record-encoder.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';

const HIVE = { path: '/hive' };
const open = (path: string): LogWriter => LogWriter.open({ path, durability: 'os', hive: HIVE });
const codeOf = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    if (error instanceof WaggleError) return error.code;
    throw error;
  }
  return 'no error';
};
const checkpointOf = (writer: LogWriter): Checkpoint => ({
  logId: writer.logId,
  term: writer.term,
  seq: writer.headSeq,
  txid: writer.headTxid,
  fill: null,
});
const plain = (change: Change): unknown =>
  change.op === 's' || change.op === 't'
    ? { op: change.op, seq: change.seq }
    : {
        op: change.op,
        seq: change.seq,
        table: change.table.name,
        rowid: (change.after ?? change.before)!.rowid,
        before: change.before?.record.toString('hex') ?? null,
        after: change.after?.record.toString('hex') ?? null,
      };

describe('what was appended is read', () => {
  test('random transactions, also of many parts, from any seq', () => {
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        using directory = temporaryDirectory();
        using source = new LoggedDatabase(directory.path);
        const random = new Random(seed);
        const expected: { last: number; txid: string; changes: unknown[] }[] = [];
        let seq = 0;
        for (let batch = 0; batch < 8; batch += 1) {
          const transactions = Array.from({ length: random.int(5) }, () => {
            const writer = new ChangeWriter();
            const changes: unknown[] = [];
            const large = random.chance(0.1);
            const count = random.int(6) + (large ? 60 : 0);
            for (let index = 0; index < count; index += 1) {
              const table = random.pick([0, 2]);
              const record = encodeRecord([null, large ? Buffer.alloc(12_000, index) : randomValue(random), randomValue(random)]);
              const rowid = random.chance(0.2) ? -(2n ** 60n) - BigInt(random.int(100)) : random.int(1000);
              const before = encodeRecord([randomValue(random)]);
              const op = random.pick(['c', 'u', 'd'] as const);
              if (op === 'c') writer.create(table, rowid, record);
              else if (op === 'u') writer.update(table, { rowid, oldRowid: rowid, before, after: record });
              else writer.delete(table, rowid, before, false);
              seq += 1;
              changes.push({
                op,
                seq,
                table: [ITEMS.name, '', NOTES.name][table],
                rowid,
                before: op === 'c' ? null : before.toString('hex'),
                after: op === 'd' ? null : record.toString('hex'),
              });
            }
            const transaction = source.transaction(writer);
            expect(transaction.parts.length > 1).toBe(large);
            if (count > 0) expected.push({ last: seq, txid: `1:${transaction.frame}`, changes });
            return transaction;
          });
          source.append(transactions);
        }
        using reader = LogReader.open(source.logPath);
        expect(reader.head()).toEqual({ seq, txid: expected.at(-1)?.txid ?? '' });
        const after = random.int(seq + 1);
        const read: unknown[] = [];
        for (let at = after; ;) {
          const page = reader.transactionsAfter(at, { maxTransactions: 1 + random.int(3) });
          if (page.length === 0) break;
          for (const transaction of page) {
            read.push({ last: transaction.info.lastSeq, txid: transaction.info.txid, changes: [...transaction.changes()].flat().map(plain) });
            at = transaction.info.lastSeq;
          }
        }
        expect(read).toEqual(expected.filter(({ last }) => last > after));
      }),
      { numRuns: 40 },
    );
  });

  test('a large transaction is read part by part', () => {
    using directory = temporaryDirectory();
    using source = new LoggedDatabase(directory.path);
    const writer = new ChangeWriter();
    for (let index = 0; index < 300; index += 1) writer.create(0, index, Buffer.alloc(20_000));
    source.append([source.transaction(writer)]);
    using reader = LogReader.open(source.logPath);
    const [transaction] = reader.transactionsAfter(0);
    expect(transaction!.inlineBytes).toBe(0);
    const sizes = [...transaction!.changes()].map((part) => part.length * 20_000);
    expect(sizes.length).toBeGreaterThan(15);
    expect(Math.max(...sizes)).toBeLessThan(PART_BYTES * 1.2);
  });

  test('capture state and catalogs, with defaults that JSON does not know', () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, 'log.db');
    const columns = [2n ** 60n, Buffer.from([0, 255]), Infinity, -0, 'text', null].map((defaultValue, index) => ({
      ...ITEMS.columns[1]!,
      name: `c${index}`,
      defaultValue,
    }));
    const catalog = { version: 3, encoding: 'utf16le' as const, tables: [{ ...ITEMS, columns }] };
    const position = { epoch: 4, frame: 5, salt1: 4294967295, salt2: 0, checksum1: 1, checksum2: 4294967294 };
    {
      using writer = open(path);
      expect(writer.state()).toBeNull();
      writer.append({
        batchId: 9,
        position,
        sizePages: 77,
        catalogVersion: 3,
        catalogs: [catalog],
        transactions: new TransactionBatch(),
        clean: '{"size":1}',
      });
      expect(writer.headSeq).toBe(0);
    }
    using writer = open(path);
    expect(writer.state()).toEqual({ position, batchId: 9, catalogVersion: 3, sizePages: 77, clean: '{"size":1}' });
    expect(writer.catalog(3)).toEqual(catalog);
    expect(writer.catalog(4)).toBeNull();
    writer.append({ batchId: 10, position, sizePages: 77, catalogVersion: 3, catalogs: [], transactions: new TransactionBatch() });
    expect(writer.state()?.clean).toBeNull();
    using reader = LogReader.open(path);
    expect(reader.info().catalog).toEqual(catalog);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(`${path}-wal`).mode & 0o777).toBe(0o600);
  });

  test('an unchanged table is the same object in every version of the catalog', () => {
    using directory = temporaryDirectory();
    using source = new LoggedDatabase(directory.path);
    source.recreate('pairs');
    using reader = LogReader.open(source.logPath);
    const [first, second] = [reader.catalog(1), reader.catalog(2)];
    expect(second.tables[0]).toBe(first.tables[0]);
    expect(second.tables[1]).not.toBe(first.tables[1]);
  });
});

describe('terms and checkpoints', () => {
  test('exact, unknown and pruned', () => {
    using directory = temporaryDirectory();
    using source = new LoggedDatabase(directory.path);
    const random = new Random(1);
    using reader = LogReader.open(source.logPath);
    const start = checkpointOf(source.writer);
    expect(reader.check(start)).toBe('exact');
    source.db.exec('INSERT INTO items VALUES (1, 1, 1)');
    for (let index = 0; index < 20; index += 1) source.commit(random, 5);
    const head = checkpointOf(source.writer);
    expect(reader.check(head)).toBe('exact');
    expect(reader.check({ ...head, txid: '1:1' })).toBe('unknown');
    expect(reader.check({ ...head, seq: head.seq + 1 })).toBe('unknown');
    expect(reader.check({ ...head, term: 'other' })).toBe('unknown');
    expect(reader.check({ ...head, logId: 'other' })).toBe('unknown');
    const [first] = reader.transactionsAfter(0, { maxTransactions: 1 });
    const middle = { ...head, seq: first!.info.lastSeq, txid: first!.info.txid };
    expect(source.writer.prune({ maxAgeMs: Infinity, maxBytes: 0, keepAfterSeq: middle.seq }).transactions).toBe(1);
    expect(reader.check(middle)).toBe('exact');
    expect(reader.check(start)).toBe('pruned');
    expect(codeOf(() => reader.transactionsAfter(0))).toBe('SINK_CHECKPOINT_UNKNOWN');
    expect(reader.transactionsAfter(middle.seq).length).toBeGreaterThan(0);
  });

  test('a new boot after a kill renews the term; older checkpoints count up to where it began', () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, 'log.db');
    const random = new Random(2);
    const source = new LoggedDatabase(directory.path);
    source.commit(random, 8);
    const early = checkpointOf(source.writer);
    // A kill, then a start of the machine: the files as they are now, with another boot id.
    source.writer.sync();
    for (const name of ['log.db', 'log.db-wal']) copyFileSync(join(directory.path, name), join(directory.path, `lost-${name}`));
    source.commit(random, 8);
    const late = checkpointOf(source.writer);
    source[Symbol.dispose]();
    for (const name of ['log.db', 'log.db-wal']) renameSync(join(directory.path, `lost-${name}`), join(directory.path, name));
    using writer = open(path);
    expect(writer.term).not.toBe(early.term);
    expect(writer.logId).toBe(early.logId);
    using reader = LogReader.open(path);
    expect(reader.check(early)).toBe('exact');
    expect(reader.check(late)).toBe('unknown');
  });

  test('the term stays after an orderly end, and after a kill on the same boot', () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, 'log.db');
    const first = open(path);
    const { term } = first;
    first.close();
    using second = open(path);
    expect(second.term).toBe(term);
    const setMeta = (key: string, value: unknown): void => {
      const db = new Database(path);
      db.prepare('UPDATE meta SET value = ? WHERE key = ?').run(value, key);
      db.close();
    };
    // As a killed writer leaves it.
    second.close();
    setMeta('closed', 0);
    const third = open(path);
    expect(third.term).toBe(term);
    third.close();
    setMeta('closed', 0);
    setMeta('boot_id', 'another boot');
    using fourth = open(path);
    expect(fourth.term).not.toBe(term);
  });

  test('reset begins another log and never uses a seq again', () => {
    using directory = temporaryDirectory();
    using source = new LoggedDatabase(directory.path);
    source.commit(new Random(3), 8);
    using reader = LogReader.open(source.logPath);
    const old = checkpointOf(source.writer);
    source.writer.reset();
    expect(source.writer.state()).toBeNull();
    expect(source.writer.logId).not.toBe(old.logId);
    expect(source.writer.headSeq).toBe(old.seq);
    expect(reader.check(old)).toBe('unknown');
    expect(codeOf(() => reader.transactionsAfter(old.seq))).toBe('SINK_CHECKPOINT_UNKNOWN');
    using again = LogReader.open(source.logPath);
    expect(again.check(checkpointOf(source.writer))).toBe('exact');
    source.append([], [source.catalog]);
    source.commit(new Random(4), 8);
    expect(again.transactionsAfter(old.seq)[0]!.info.firstSeq).toBe(old.seq + 1);
  });
});

describe('retention', () => {
  test('by age, by size, never past the slowest sink, in steps, and the file shrinks', () => {
    using directory = temporaryDirectory();
    using source = new LoggedDatabase(directory.path);
    for (let index = 0; index < 500; index += 1) {
      const writer = new ChangeWriter();
      writer.create(0, index, Buffer.alloc(150_000));
      writer.create(0, index, Buffer.alloc(150_000));
      source.append([source.transaction(writer, { timestampUs: index * 1_000_000 })]);
    }
    const { writer } = source;
    const nowMs = 500_000;
    expect(writer.prune({ maxAgeMs: nowMs, maxBytes: Infinity, keepAfterSeq: Infinity, nowMs })).toEqual({ transactions: 0, more: false });
    expect(writer.prune({ maxAgeMs: 0, maxBytes: 0, keepAfterSeq: 0, nowMs })).toEqual({ transactions: 0, more: false });
    writer.prune({ maxAgeMs: 490_000, maxBytes: Infinity, keepAfterSeq: Infinity, nowMs });
    expect(writer.firstSeq).toBe(21);
    const pruneAll = (maxBytes: number, keepAfterSeq: number): number => {
      let calls = 1;
      while (writer.prune({ maxAgeMs: nowMs, maxBytes, keepAfterSeq, nowMs }).more) calls += 1;
      return calls;
    };
    expect(pruneAll(0, 100)).toBeGreaterThan(1);
    expect(writer.firstSeq).toBe(101);
    pruneAll(10_000_000, Infinity);
    const kept = (1000 - writer.firstSeq) * 150_000;
    expect(kept).toBeGreaterThan(8_000_000);
    expect(kept).toBeLessThan(11_000_000);
    pruneAll(0, Infinity);
    expect(writer.firstSeq).toBe(999);
    using reader = LogReader.open(source.logPath);
    expect([...reader.transactionsAfter(998)[0]!.changes()].flat().length).toBe(2);
    for (let index = 0; index < 100; index += 1) pruneAll(0, Infinity);
    writer.idle();
    expect(statSync(source.logPath).size).toBeLessThan(60_000_000);
  });

  test('a reader of a large transaction that retention removes is told', () => {
    using directory = temporaryDirectory();
    using source = new LoggedDatabase(directory.path);
    const writer = new ChangeWriter();
    for (let index = 0; index < 40; index += 1) writer.create(0, index, Buffer.alloc(30_000));
    source.append([source.transaction(writer)]);
    source.commit(new Random(1), 9);
    using reader = LogReader.open(source.logPath);
    const parts = reader.transactionsAfter(0)[0]!.changes();
    parts.next();
    while (source.writer.prune({ maxAgeMs: Infinity, maxBytes: 0, keepAfterSeq: Infinity }).more);
    expect(codeOf(() => parts.next())).toBe('SINK_CHECKPOINT_UNKNOWN');
  });

  test("a reader between two calls does not keep the log's WAL from being started over", () => {
    using directory = temporaryDirectory();
    using source = new LoggedDatabase(directory.path);
    using reader = LogReader.open(source.logPath);
    let seq = 0;
    for (let index = 0; index < 300; index += 1) {
      const writer = new ChangeWriter();
      writer.create(0, index, Buffer.alloc(240_000));
      source.append([source.transaction(writer)]);
      seq = reader.transactionsAfter(seq)[0]!.info.lastSeq;
    }
    expect(statSync(`${source.logPath}-wal`).size).toBeLessThan(25_000_000);
  });
});

describe('bad files', () => {
  test('each has its code', () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, 'log.db');
    expect(codeOf(() => LogReader.open(path))).toBe('STATE_MISSING');
    open(path).close();
    expect(codeOf(() => LogWriter.open({ path, durability: 'os', hive: { path: '/other' } }))).toBe('STATE_OTHER_HIVE');
    const db = new Database(path);
    db.prepare("UPDATE meta SET value = 99 WHERE key = 'format'").run();
    db.close();
    expect(codeOf(() => open(path))).toBe('STATE_FORMAT');
    expect(codeOf(() => LogReader.open(path))).toBe('STATE_FORMAT');
    const garbage = join(directory.path, 'garbage.db');
    writeFileSync(garbage, Buffer.alloc(8192, 1));
    expect(codeOf(() => open(garbage))).toBe('STATE_CORRUPT');
    expect(codeOf(() => LogReader.open(garbage))).toBe('STATE_CORRUPT');
    expect(codeOf(() => open(join(directory.path, 'missing', 'log.db')))).toBe('STATE_UNUSABLE');
    expect(codeOf(() => open(directory.path))).toBe('STATE_UNUSABLE');
    const foreign = join(directory.path, 'foreign.db');
    new Database(foreign).exec('CREATE TABLE t (a)').close();
    expect(codeOf(() => open(foreign))).toBe('STATE_CORRUPT');
  });

  test('a second writer is noticed', () => {
    using directory = temporaryDirectory();
    using source = new LoggedDatabase(directory.path);
    const other = open(source.logPath);
    other.append({
      batchId: 100,
      position: source.writer.state()!.position,
      sizePages: 1,
      catalogVersion: 1,
      catalogs: [],
      transactions: new TransactionBatch(),
    });
    expect(codeOf(() => source.append([]))).toBe('STATE_IN_USE');
    other.close();
  });
});
