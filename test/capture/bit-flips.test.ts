/**
 * Damage anywhere in a hive's three files, or in the mirror: capture gives what SQLite gives, or stops with one coded error. Never a
 * bare RangeError or TypeError, never another row in silence, never memory that a damaged length asks for.
 *
 *     WAGGLE_BIT_FLIPS=50000 WAGGLE_SEED=7 npx vitest run test/capture/bit-flips.test.ts
 *     WAGGLE_SEED=7 WAGGLE_CASE=178 npx vitest run test/capture/bit-flips.test.ts -t 'at rest'
 *
 * Without WAGGLE_SEED the seed is today's; it is printed, and every failure names its case.
 */
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { findChangedPages, mirrorSnapshot, requirePages } from '../../src/capture/recovery.ts';
import { Replica } from '../../src/capture/replica.ts';
import { ChangeDecoder, partBytes } from '../../src/change/change-codec.ts';
import type { Row } from '../../src/change/row.ts';
import type { Table } from '../../src/change/table.ts';
import { resolveHive } from '../../src/hive/hive-file.ts';
import { HiveSnapshot, type SnapshotPlace } from '../../src/hive/hive-snapshot.ts';
import { WalIndexReader } from '../../src/hive/wal-index-reader.ts';
import { WalTail } from '../../src/hive/wal-tail.ts';
import { Mirror, type MirrorOptions } from '../../src/mirror/mirror.ts';
import { PageCorruption } from '../../src/sqlite/btree-page.ts';
import { type RecordEncoding, RecordError } from '../../src/sqlite/record.ts';
import { WaggleError } from '../../src/support/errors.ts';
import {
  damage,
  HIVE_PARTS,
  type HiveBytes,
  type HivePart,
  type HiveRows,
  integrityOf,
  makeHive,
  openWriter,
  readHiveBytes,
  readRows,
  SHAPES,
  type SoundHive,
  textOf,
  TRANSACTIONS,
  writeHiveBytes,
} from '../helpers/damaged-hives.ts';
import { Random } from '../helpers/random.ts';
import { replicaRows } from '../helpers/replica-rows.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';

const COUNT = Number(process.env['WAGGLE_BIT_FLIPS'] ?? 2400);
const SEED = Number(process.env['WAGGLE_SEED'] ?? Math.floor(Date.now() / 86_400_000));
const CASE = process.env['WAGGLE_CASE'];
/** More than any page, chunk or record of these hives needs. */
const MOST_BYTES = 64 * 1024 * 1024;

const directory = temporaryDirectory();
const file = join(directory.path, 'db.sqlite');
let hives: SoundHive[] = [];
beforeAll(() => {
  hives = SHAPES.map((shape) => makeHive(shape, directory.path));
});
afterAll(() => directory[Symbol.dispose]());

const captured = (): boolean => true;

/** What the keeper would say when capture begins. */
const placeOf = (path: string): SnapshotPlace => {
  using index = new WalIndexReader(path);
  const header = index.read();
  // The keeper lets SQLite repair it, or waits.
  if (typeof header === 'string') throw new WaggleError('HIVE_CORRUPT', `the wal-index is ${header}`);
  return { ...header, complete: false };
};

const mirrorOptions = (pageSize: number): MirrorOptions => ({
  directory: join(directory.path, 'mirror'),
  pageSize,
  durability: 'os',
  makeLogDurable: () => {},
  foldBytes: 64 * 1024,
  cacheBytes: 1,
});

/** Capture of one hive without keeper, thread and log. */
class Reader implements AsyncDisposable {
  readonly mirror: Mirror;
  readonly replica: Replica;
  readonly tail: WalTail;
  /** Rows of each table by what the changes say, as a bag: the key's uniqueness may be what is damaged. */
  readonly told = new Map<string, Map<string, number>>();
  /** Their rows got other columns on the way: random-transactions.test.ts follows those. */
  readonly altered = new Set<string>();
  #batchId = 1;

  constructor(path: string) {
    resolveHive(path);
    const place = placeOf(path);
    using snapshot = HiveSnapshot.open(path, place);
    this.mirror = mirrorSnapshot(snapshot, mirrorOptions(snapshot.header.pageSize), 1);
    this.replica = Replica.read(this.mirror, { captured, known: null, firstVersion: 1 });
    requirePages(this.replica.map, snapshot);
    for (const [table, rows] of ownRows(this.replica)) if (!(rows instanceof Error)) for (const row of rows) this.#tell(table, row, 1);
    const { salt1, salt2, mxFrame } = place;
    const position = { epoch: 1, frame: mxFrame, salt1, salt2, checksum1: snapshot.checksum1, checksum2: snapshot.checksum2 };
    this.tail = new WalTail({ hive: path, pageSize: snapshot.header.pageSize, position, generation: 1 });
  }

  async take(path: string): Promise<void> {
    // As the keeper tells of the first frame of a WAL that was empty.
    if (this.tail.position.frame === 0) this.tail.generationBegun(1, placeOf(path));
    for (let next = this.tail.next(1 << 20); next !== null; next = this.tail.next(1 << 20)) {
      this.apply(this.replica.apply(next));
      this.#batchId += 1;
      if (next.isResident) this.mirror.commit(this.#batchId);
      else this.mirror.commitLarge(this.#batchId, next.pages, (page) => next.image(page), next.sizePages);
      await this.mirror.afterLogCommit();
    }
  }

  apply({ changes, schema, previous }: ReturnType<Replica['apply']>): void {
    const info = { txid: '1:1', epoch: 1, frame: 1, firstSeq: 1, lastSeq: changes.count, timestampUs: 0, origin: null, recovered: false };
    const decoder = new ChangeDecoder({ transaction: info, catalog: schema.catalog, previousCatalog: previous.catalog });
    for (const change of changes.parts().flatMap((part) => decoder.decode(partBytes(part)))) {
      if (change.op === 't') this.told.set(change.table.name, new Map());
      else if (change.op === 's') this.altered.add(change.previous === null ? '' : change.name);
      else {
        if (change.before !== null) this.#tell(change.table.name, rowText(change.before), -1);
        if (change.after !== null) this.#tell(change.table.name, rowText(change.after), 1);
      }
    }
  }

  #tell(table: string, row: string, count: number): void {
    const rows = this.told.get(table) ?? new Map<string, number>();
    rows.set(row, (rows.get(row) ?? 0) + count);
    if (rows.get(row) === 0) rows.delete(row);
    this.told.set(table, rows);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.tail[Symbol.dispose]();
    await this.mirror[Symbol.asyncDispose]();
  }
}

const rowText = (row: Row): string => row.values('bigint').map(textOf).join('|');

const ownRows = (replica: Replica): HiveRows => new Map(replica.schema.tables.map(({ table }) => [table.name, rowsOf(replica, table)]));

const rowsOf = (replica: Replica, table: Table): string[] | Error => {
  try {
    return replicaRows(replica, table.name).rows.map(rowText);
  } catch (error) {
    // What a capture thread turns into HIVE_CORRUPT.
    if (error instanceof PageCorruption || error instanceof RecordError) return error;
    throw error;
  }
};

interface Judgement {
  readonly integrity: string;
  /** Null where SQLite cannot read the schema. */
  readonly rows: HiveRows | null;
}

/** What SQLite says, on a connection that has nothing in its cache. */
const judge = (path: string, encoding: RecordEncoding): Judgement => {
  let db: Database.Database | null = null;
  try {
    db = openWriter(path);
    const rows = readRows(db, encoding);
    return { integrity: integrityOf(db), rows };
  } catch (error) {
    if (!(error instanceof Database.SqliteError)) throw error;
    return { integrity: error.message, rows: null };
  } finally {
    db?.close();
  }
};

const same = (a: readonly string[] | Error | undefined, b: readonly string[] | Error | undefined): boolean =>
  Array.isArray(a) && Array.isArray(b) && a.length === b.length && a.every((row, index) => row === b[index]);

/**
 * Where we refuse what SQLite's check passes over, and why: the format's own rules are broken, and what SQLite makes of it is chance.
 * - a record with more columns than the table, or of reserved types: SQLite looks at no column that it is not asked for
 * - a file that ends inside a page of a table: SQLite reads zeros there
 * - the file's header, where a frame of page 1 stands above it: it is what tells that the file may be captured at all
 */
const STRICTER = /record|serial type|it was cut off|is not a SQLite database|is not in WAL mode/;

/** Throws where a row of ours is neither what SQLite reads nor what the undamaged hive holds. */
const compare = (ours: HiveRows, { rows, integrity }: Judgement, sound: HiveRows): string => {
  let outcome = integrity === 'ok' ? 'sound for SQLite, equal' : 'corrupt for SQLite, equal';
  for (const [table, own] of ours) {
    if (own instanceof Error) {
      if (integrity === 'ok' && !STRICTER.test(own.message)) throw new Error(`${table}: SQLite finds nothing, we ${own.message}`);
      outcome = 'HIVE_CORRUPT in a table';
    } else if (!same(own, rows?.get(table)) && !same(own, sound.get(table))) {
      const theirs = rows?.get(table);
      const at = Array.isArray(theirs) ? own.findIndex((row, index) => row !== theirs[index]) : -1;
      const said = Array.isArray(theirs) ? `${theirs.length} rows, ${theirs[at]?.slice(0, 200)}` : String(theirs);
      throw new Error(`${table}: other rows than SQLite (${integrity}): ${own.length} rows, ${own[at]?.slice(0, 200)}; SQLite: ${said}`);
    }
  }
  if (rows !== null && integrity === 'ok') {
    for (const table of rows.keys()) if (!ours.has(table)) throw new Error(`table ${table} is missing`);
  }
  return outcome;
};

const CODES = new Set([
  'HIVE_CORRUPT',
  'HIVE_NOT_A_DATABASE',
  'HIVE_NOT_WAL',
  'HIVE_EMPTY',
  'HIVE_PAGE_SIZE_CHANGED',
  'CATALOG_UNREADABLE',
  'PIN_LOST',
]);

/** Outcome of the work, or the code of its error; anything else is a fault, and so is an error where SQLite (`judged`) finds nothing. */
const coded = async (work: () => Promise<string>, judged: Judgement | null = null): Promise<string> => {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof WaggleError) || !CODES.has(error.code)) throw error;
    const isSound = judged?.integrity === 'ok' && judged.rows !== null && [...judged.rows.values()].every(Array.isArray);
    if (isSound && !STRICTER.test(error.message)) throw new Error(`SQLite finds nothing, we ${error.code} ${error.message}`, { cause: error });
    return isSound ? `${error.code}, stricter than SQLite` : error.code;
  }
};

const damagedHive = (random: Random, bytes: HiveBytes, parts: readonly HivePart[], pageSize: number): HiveBytes => {
  const result = { ...bytes };
  for (const part of parts) {
    result[part] = damage(
      random,
      bytes[part],
      part === 'wal' ? { unit: pageSize + 24, from: random.chance(0.1) ? 0 : 32 } : { unit: part === 'shm' ? 136 : pageSize },
    );
  }
  return result;
};

const forget = (): void => {
  for (const suffix of ['', '-wal', '-shm', '-journal']) rmSync(file + suffix, { force: true });
};

const PARTS: readonly (readonly HivePart[])[] = [['db'], ['db'], ['db'], ['wal'], ['wal'], ['db', 'wal'], ['shm'], HIVE_PARTS];

/** Read at rest, then followed while SQLite goes on writing where it still can. */
const atRest = async (random: Random, sound: SoundHive): Promise<string> => {
  const at = random.int(sound.states.length);
  writeHiveBytes(file, damagedHive(random, sound.states[at]!, random.pick(PARTS), sound.shape.pageSize));
  // The application (and the keeper): without it there is no wal-index.
  const writer = openWriterOr(file);
  if (writer === null) return coded(async () => (resolveHive(file), 'SQLite cannot open it'));
  let reader: Reader | null = null;
  try {
    const judged = judge(file, sound.shape.encoding);
    const first = await coded(async () => {
      reader = new Reader(file);
      return compare(ownRows(reader.replica), judged, sound.rows[at]!);
    }, judged);
    if (reader === null || first === 'HIVE_CORRUPT in a table') return first;
    const steps = TRANSACTIONS.slice(random.int(TRANSACTIONS.length)).slice(0, 3);
    return `${first}; ${await coded(() => follow(reader!, writer, steps))}`;
  } finally {
    await (reader as Reader | null)?.[Symbol.asyncDispose]();
    writer.close();
  }
};

const follow = async (reader: Reader, writer: Database.Database, steps: readonly string[]): Promise<string> => {
  for (const sql of steps) if (tryExec(writer, sql)) await reader.take(file);
  const outcome = compare(ownRows(reader.replica), judge(file, reader.replica.schema.catalog.encoding), new Map());
  compareTold(reader);
  return `followed: ${outcome}`;
};

const openWriterOr = (path: string): Database.Database | null => {
  let writer: Database.Database | null = null;
  try {
    writer = openWriter(path);
    writer.pragma('user_version');
    return writer;
  } catch (error) {
    writer?.close();
    if (!(error instanceof Database.SqliteError)) throw error;
    return null;
  }
};

const tryExec = (writer: Database.Database, sql: string): boolean => {
  try {
    writer.exec(`BEGIN; ${sql}; COMMIT`);
    return true;
  } catch (error) {
    if (!(error instanceof Database.SqliteError)) throw error;
    if (writer.inTransaction) writer.exec('ROLLBACK');
    return false;
  }
};

/** Whoever took the changes has the rows that the mirror has. */
const compareTold = (reader: Reader): void => {
  for (const [table, rows] of ownRows(reader.replica)) {
    const told = reader.told.get(table);
    if (rows instanceof Error || told === undefined || reader.altered.has(table)) continue;
    const left = new Map(told);
    for (const row of rows) {
      const count = (left.get(row) ?? 0) - 1;
      if (count === 0) left.delete(row);
      else left.set(row, count);
    }
    if (left.size > 0)
      throw new Error(
        `${table}: the changes give other rows: ${[...left]
          .slice(0, 2)
          .map(([row, count]) => `${count} × ${row.slice(0, 200)}`)
          .join('; ')}`,
      );
  }
};

/** Damaged under a living application: behind the first state, in frames that are taken next, in the wal-index, in the file. */
const whileLive = async (random: Random, sound: SoundHive): Promise<string> => {
  const at = random.int(sound.states.length - 1);
  writeHiveBytes(file, sound.states[at]!);
  const writer = openWriter(file);
  try {
    writer.pragma('user_version');
    await using reader = new Reader(file);
    const before = readHiveBytes(file);
    const steps = 1 + random.int(TRANSACTIONS.length - at);
    for (const sql of TRANSACTIONS.slice(at, at + steps)) writer.exec(`BEGIN; ${sql}; COMMIT`);
    const after = readHiveBytes(file);
    const part = random.pick(['wal', 'wal', 'wal', 'shm', 'db'] as const);
    const range = { db: { unit: sound.shape.pageSize }, wal: { unit: sound.shape.pageSize + 24, from: before.wal.length }, shm: { unit: 136 } }[part];
    const bytes = damage(random, after[part], range);
    // Which page a frame holds, the tail believes the frame: as long as the wal-index vouches for the last one, checksums are not followed.
    if (part === 'wal') restoreFrameHeaders(bytes, after.wal, sound.shape.pageSize);
    // In place: SQLite has the wal-index mapped, and a mapped file that is cut off kills its process.
    if (part !== 'shm' || bytes.length === after.shm.length)
      writeFileSync(file + { db: '', wal: '-wal', shm: '-shm' }[part], bytes, part === 'shm' ? { flag: 'r+' } : {});
    return await coded(async () => {
      await reader.take(file);
      const own = ownRows(reader.replica);
      const isBehind = !reader.tail.isCaughtUp();
      const judged = judge(file, sound.shape.encoding);
      // A wal-index that makes no sense is waited for: what was taken is an earlier state, whole.
      const state = isBehind ? sound.rows.slice(at, at + steps).find((rows) => sameRows(own, rows)) : undefined;
      compareTold(reader);
      return state === undefined ? `${compare(own, judged, sound.rows[at + steps]!)}, live` : 'waits';
    });
  } finally {
    writer.close();
  }
};

const restoreFrameHeaders = (bytes: Buffer, from: Buffer, pageSize: number): void => {
  for (let at = 32; at + 24 <= bytes.length; at += 24 + pageSize) from.copy(bytes, at, at, at + 24);
};

const sameRows = (a: HiveRows, b: HiveRows): boolean => [...a].every(([table, rows]) => same(rows, b.get(table)));

/** The mirror is sound, the hive was damaged while nobody looked. */
const recovering = async (random: Random, sound: SoundHive): Promise<string> => {
  const from = random.int(sound.states.length);
  const to = random.int(sound.states.length);
  writeHiveBytes(file, sound.states[from]!);
  const writer = openWriter(file);
  writer.pragma('user_version');
  const reader = new Reader(file);
  writer.close();
  try {
    forget();
    writeHiveBytes(file, damagedHive(random, sound.states[to]!, random.pick(PARTS), sound.shape.pageSize));
    const again = openWriterOr(file);
    if (again === null) return 'SQLite cannot open it';
    try {
      const judged = judge(file, sound.shape.encoding);
      return await coded(async () => {
        const outcome = compare(
          recover(reader.replica, (changes) => reader.apply(changes)),
          judged,
          sound.rows[to]!,
        );
        compareTold(reader);
        return `${outcome}, recovered`;
      }, judged);
    } finally {
      again.close();
    }
  } finally {
    await reader[Symbol.asyncDispose]();
  }
};

const recover = (replica: Replica, told: (changes: ReturnType<Replica['apply']>) => void): HiveRows => {
  resolveHive(file);
  using snapshot = HiveSnapshot.open(file, placeOf(file));
  const set = findChangedPages(replica.mirror, snapshot);
  told(replica.apply(set));
  requirePages(replica.map, snapshot);
  replica.mirror.commitLarge(100, set.pages, set.image, set.sizePages);
  return ownRows(replica);
};

/** The hive is sound, a file of the mirror is not: found, or mended by the comparison. */
const withDamagedMirror = async (random: Random, sound: SoundHive): Promise<string> => {
  const from = random.int(sound.states.length - 2);
  const to = from + 1 + random.int(sound.states.length - from - 1);
  writeHiveBytes(file, sound.states[from]!);
  const writer = openWriter(file);
  try {
    writer.pragma('user_version');
    const first = new Reader(file);
    let catalog;
    try {
      tryExec(writer, TRANSACTIONS[from]!);
      await first.take(file);
      catalog = first.replica.schema.catalog;
    } finally {
      await first[Symbol.asyncDispose]();
    }
    for (const sql of TRANSACTIONS.slice(from + 1, to)) writer.exec(`BEGIN; ${sql}; COMMIT`);
    const options = mirrorOptions(sound.shape.pageSize);
    const name = random.pick(['pages', 'pages', ...readdirSync(options.directory)]);
    const path = join(options.directory, name);
    writeFileSync(path, damage(random, readFileSync(path), { unit: sound.shape.pageSize }));
    return await coded(async () => {
      const mirror = Mirror.open(options, 2);
      if (!(mirror instanceof Mirror)) return 'mirror: invalid';
      try {
        const replica = Replica.read(mirror, { captured, known: catalog, firstVersion: 1 });
        return `mirror: ${compare(
          recover(replica, () => {}),
          judge(file, sound.shape.encoding),
          sound.rows[to]!,
        )}`;
      } catch (error) {
        if (error instanceof WaggleError && error.code === 'STATE_CORRUPT') return 'mirror: STATE_CORRUPT';
        throw error;
      } finally {
        await mirror[Symbol.asyncDispose]();
      }
    });
  } finally {
    writer.close();
  }
};

const MODES = {
  'at rest': atRest,
  'while live': whileLive,
  'hive damaged, mirror sound': recovering,
  'mirror damaged, hive sound': withDamagedMirror,
};
const SHARES: Record<keyof typeof MODES, number> = {
  'at rest': 0.5,
  'while live': 0.25,
  'hive damaged, mirror sound': 0.125,
  'mirror damaged, hive sound': 0.125,
};

describe(`${COUNT} damaged hives, seed ${SEED}`, () => {
  it.each(Object.keys(MODES) as (keyof typeof MODES)[])('%s', { timeout: 60_000 + COUNT * 500 }, async (mode) => {
    const outcomes = new Map<string, number>();
    let most = 0;
    using allocations = vi.spyOn(Buffer, 'allocUnsafe');
    const count = Math.ceil(COUNT * SHARES[mode]);
    for (let number = CASE === undefined ? 0 : Number(CASE); number < (CASE === undefined ? count : Number(CASE) + 1); number += 1) {
      const seed = (SEED * 100_003 + number) >>> 0;
      const random = new Random(seed);
      const sound = random.pick(hives);
      forget();
      mkdirSync(join(directory.path, 'mirror'), { recursive: true });
      try {
        const outcome = await MODES[mode](random, sound);
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      } catch (error) {
        throw new Error(`case ${number} (${sound.shape.name}): ${error instanceof Error ? error.stack : String(error)}`, { cause: error });
      }
      for (const [bytes] of allocations.mock.calls) most = Math.max(most, bytes);
      allocations.mockClear();
    }
    console.log(mode, Object.fromEntries(outcomes), `largest buffer ${most}`);
    expect(most).toBeLessThan(MOST_BYTES);
  });
});
