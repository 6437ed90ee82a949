/**
 * Flipped bits: a database or a transaction with random damage must end in HIVE_CORRUPT (or be none that matters), never in
 * another error, in a hang, or in memory that a damaged length asks for.
 *
 *     WAGGLE_CORRUPTIONS=5000 npx vitest run test/capture/corruption.test.ts
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { expect, it } from 'vitest';
import { type PageSet, Replica } from '../../src/capture/replica.ts';
import { ChangeDecoder, partBytes } from '../../src/change/change-codec.ts';
import { Mirror } from '../../src/mirror/mirror.ts';
import { PageCorruption } from '../../src/sqlite/btree-page.ts';
import { RecordError } from '../../src/sqlite/record.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { Random } from '../helpers/random.ts';
import { replicaRows } from '../helpers/replica-rows.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';

const COUNT = Number(process.env['WAGGLE_CORRUPTIONS'] ?? 800);
const PAGE_SIZE = 512;
const SCHEMA = `CREATE TABLE a (id INTEGER PRIMARY KEY, v, w); CREATE TABLE k (id TEXT PRIMARY KEY, v); CREATE TABLE blobs (id INTEGER PRIMARY KEY, v BLOB)`;
const FILL = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120)`;

/** The database before and after some transactions, as pages. */
const historyOf = (path: string): Buffer[] => {
  const file = join(path, 'db.sqlite');
  const db = new Database(file);
  db.pragma(`page_size = ${PAGE_SIZE}`);
  db.exec(SCHEMA);
  db.exec(
    `INSERT INTO a ${FILL} SELECT i * 3, 'value ' || i, i * 1.5 FROM n; INSERT INTO k ${FILL} SELECT 'key' || i, i FROM n; INSERT INTO blobs ${FILL} SELECT i, randomblob(i * 60) FROM n WHERE i % 9 = 0`,
  );
  const states = [readFileSync(file)];
  const step = (sql: string): void => {
    db.exec(sql);
    states.push(readFileSync(file));
  };
  step("UPDATE a SET v = 'other' WHERE id % 4 = 0; UPDATE blobs SET v = randomblob(length(v)) WHERE id = 54");
  step("DELETE FROM a WHERE id BETWEEN 50 AND 250; REPLACE INTO k SELECT 'key' || v, 'new' FROM k WHERE v < 20");
  step(`INSERT INTO a ${FILL} SELECT i * 3 + 1, zeroblob(i), NULL FROM n; DELETE FROM blobs WHERE id > 50`);
  step('ALTER TABLE a ADD COLUMN x DEFAULT 5; CREATE TABLE z (v); INSERT INTO z SELECT v FROM k');
  db.close();
  return states;
};

const pagesOf = (before: Buffer, after: Buffer): PageSet => {
  const images = new Map<number, Buffer>();
  const sizePages = after.length / PAGE_SIZE;
  for (let page = 1; page <= sizePages; page += 1) {
    const range = [(page - 1) * PAGE_SIZE, page * PAGE_SIZE] as const;
    // Aligned as the frames of a WAL are.
    if (!after.subarray(...range).equals(before.subarray(...range))) images.set(page, Buffer.from(new Uint8Array(after.subarray(...range)).buffer));
  }
  return { sizePages, pages: [...images.keys()], isResident: true, has: (page) => images.has(page), image: (page) => images.get(page)! };
};

const damage = (random: Random, pages: readonly Buffer[]): void => {
  for (let count = random.pick([1, 1, 1, 2, 5]); count > 0; count -= 1) {
    const page = random.pick(pages);
    // Headers and cell pointers are the interesting places.
    const at = random.chance(0.6) ? random.int(40) : random.int(page.length);
    switch (random.int(4)) {
      case 0:
        page[at] = page[at]! ^ (1 << random.int(8));
        break;
      case 1:
        page[at] = random.pick([0, 1, 0x7f, 0x80, 0xff]);
        break;
      case 2:
        page.fill(random.pick([0, 0xff]), at, Math.min(page.length, at + random.int(20)));
        break;
      default:
        page.writeUInt32BE(random.int(400), Math.min(at, page.length - 4));
    }
  }
};

const mirrorOf = (directory: string, state: Buffer): Mirror =>
  Mirror.create(
    { directory: join(directory, 'mirror'), pageSize: PAGE_SIZE, durability: 'os', makeLogDurable: () => {}, cacheBytes: 1 << 20 },
    { sizePages: state.length / PAGE_SIZE, batchId: 1, page: (page) => state.subarray((page - 1) * PAGE_SIZE, page * PAGE_SIZE) },
  );

const attempt = (work: () => void): string => {
  try {
    work();
    return 'fine';
  } catch (error) {
    if (error instanceof WaggleError) return error.code;
    if (error instanceof PageCorruption || error instanceof RecordError) return 'HIVE_CORRUPT (not wrapped)';
    throw error;
  }
};

/** Decodes everything, as a sink would: what came through must be readable. */
const decodeAll = (replica: Replica, set: PageSet): void => {
  const { changes, schema, previous } = replica.apply(set);
  const info = { txid: '1:1', epoch: 1, frame: 1, firstSeq: 1, lastSeq: changes.count, timestampUs: 0, origin: null, recovered: false };
  const decoder = new ChangeDecoder({ transaction: info, catalog: schema.catalog, previousCatalog: previous.catalog });
  for (const part of changes.parts()) {
    for (const change of decoder.decode(partBytes(part))) {
      if (change.op === 's' || change.op === 't') continue;
      change.before?.values();
      change.after?.values();
    }
  }
};

const readAll = (replica: Replica): void => {
  for (const { table } of replica.schema.tables) {
    for (const row of replicaRows(replica, table.name).rows) row.values();
  }
};

const ALLOWED = new Set(['fine', 'HIVE_CORRUPT', 'HIVE_PAGE_SIZE_CHANGED', 'CATALOG_UNREADABLE', 'COLLATION_UNKNOWN']);

it(`${COUNT} damaged transactions and databases`, { timeout: 300_000 }, async () => {
  using directory = temporaryDirectory();
  const history = historyOf(directory.path);
  const outcomes = new Map<string, number>();
  for (let seed = 1; seed <= COUNT; seed += 1) {
    const random = new Random(seed);
    const at = random.int(history.length - 1);
    const before = Buffer.from(history[at]!);
    const inTransaction = random.chance(0.6);
    if (!inTransaction) damage(random, [before.subarray(random.int(before.length / PAGE_SIZE) * PAGE_SIZE).subarray(0, PAGE_SIZE)]);
    const set = pagesOf(before, history[at + 1]!);
    if (inTransaction)
      damage(
        random,
        set.pages.map((page) => set.image(page)),
      );
    const mirror = mirrorOf(directory.path, before);
    const started = performance.now();
    let outcome: string;
    try {
      outcome = attempt(() => {
        const replica = Replica.read(mirror, { captured: () => true, known: null, firstVersion: 1 });
        const rows = attempt(() => readAll(replica));
        // The capture thread turns what reading the mirror throws into HIVE_CORRUPT.
        if (!ALLOWED.has(rows) && !rows.startsWith('HIVE_CORRUPT')) throw new Error(rows);
        decodeAll(replica, set);
        attempt(() => readAll(replica));
      });
    } catch (error) {
      throw new Error(`seed ${seed}: ${error instanceof Error ? error.stack : String(error)}`, { cause: error });
    } finally {
      await mirror[Symbol.asyncDispose]();
    }
    expect(ALLOWED, `seed ${seed}`).toContain(outcome);
    expect(performance.now() - started, `seed ${seed} takes too long`).toBeLessThan(3000);
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  console.log(Object.fromEntries(outcomes));
  expect(outcomes.get('HIVE_CORRUPT')).toBeGreaterThan(COUNT / 10);
});

it.each([
  ['a leaf compared with itself', "UPDATE t SET v = 'other' WHERE id = 3"],
  ['leaves that are merged', 'ALTER TABLE t ADD COLUMN w DEFAULT 1'],
])('rowids out of order in %s are HIVE_CORRUPT: a row would be told as created and then as deleted', async (_, sql) => {
  using directory = temporaryDirectory();
  const file = join(directory.path, 'db.sqlite');
  const db = new Database(file);
  db.pragma(`page_size = ${PAGE_SIZE}`);
  db.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')");
  const before = readFileSync(file);
  db.exec(sql);
  db.close();
  const after = readFileSync(file);
  // The cell pointers of the first two rows.
  after
    .subarray(PAGE_SIZE + 8, PAGE_SIZE + 12)
    .swap32()
    .swap16();
  await using mirror = mirrorOf(directory.path, before);
  const replica = Replica.read(mirror, { captured: () => true, known: null, firstVersion: 1 });
  expect(attempt(() => decodeAll(replica, pagesOf(before, after)))).toBe('HIVE_CORRUPT');
});
