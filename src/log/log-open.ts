/** Opening the log's file for writing: what it is, whose it is, and whether its tail can be trusted. */
import { randomUUID } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import Database from 'better-sqlite3';
import { WaggleError } from '../support/errors.ts';
import { LOG_FORMAT, LOG_SCHEMA, type StateRow } from './log-format.ts';

export interface LogFileOptions {
  readonly path: string;
  readonly durability: 'os' | 'fsync';
  readonly hive: { readonly path: string };
  readonly busyTimeoutMs: number;
}

/** The opened file and its state row; `closed` is taken back durably before this returns. */
export const openLogFile = (options: LogFileOptions): { database: Database.Database; row: StateRow } => {
  const { path } = options;
  // Created by hand for its mode; SQLite gives -wal and -shm the same. Never opened by hand while it may be in use:
  // closing a descriptor drops all POSIX locks that the process has on the file.
  if (!existsSync(path)) closeSync(openSync(path, 'a', 0o600));
  const database = new Database(path, { timeout: options.busyTimeoutMs });
  try {
    // Only a new file takes these two.
    database.pragma('page_size = 4096');
    database.pragma('auto_vacuum = INCREMENTAL');
    database.pragma('journal_mode = WAL');
    database.pragma('wal_autocheckpoint = 0');
    // Appends touch the end of the file only; better-sqlite3's 16 MB would fill up with a large transaction.
    database.pragma('cache_size = -2000');
    database.pragma('synchronous = FULL');
    const row = database.transaction(() => prepareFile(database, options)).immediate();
    syncDirectory(path);
    // NORMAL: commits wait for no disk, and a power loss takes back whole appends, newest first.
    if (options.durability === 'os') database.pragma('synchronous = NORMAL');
    return { database, row };
  } catch (error) {
    database.close();
    throw error;
  }
};

const prepareFile = (database: Database.Database, options: LogFileOptions): StateRow => {
  const tables = database.prepare<[], { name: string }>("SELECT name FROM sqlite_schema WHERE type = 'table'").all();
  if (tables.length === 0) createLog(database, options);
  const meta = readMeta(database, options.path);
  if (meta.get('hive') !== options.hive.path) {
    throw new WaggleError('STATE_OTHER_HIVE', `${options.path} belongs to the hive ${String(meta.get('hive'))}, not to ${options.hive.path}`);
  }
  const bootId = readBootId();
  const identity = fileIdentity(options.path);
  const sameFile = meta.get('file') === identity;
  const proven = sameFile && (meta.get('closed') === 1 || (bootId !== null && meta.get('boot_id') === bootId));
  if (!proven) renewTerm(database);
  writeMeta(database, { boot_id: bootId, file: identity, closed: 0 });
  const row = database.prepare<[], StateRow>('SELECT * FROM state').get();
  if (row === undefined) throw new WaggleError('STATE_CORRUPT', `${options.path} has no state row`);
  return row;
};

const createLog = (database: Database.Database, options: LogFileOptions): void => {
  const term = randomUUID();
  database.exec(LOG_SCHEMA);
  database
    .prepare("INSERT INTO state (id, log_id, term, head_seq, head_txid, base_seq, base_txid, next_part) VALUES (1, ?, ?, 0, '', 0, '', 1)")
    .run(randomUUID(), term);
  database.prepare('INSERT INTO terms (term, start_seq) VALUES (?, 0)').run(term);
  writeMeta(database, {
    format: LOG_FORMAT,
    hive: options.hive.path,
    boot_id: readBootId(),
    file: fileIdentity(options.path),
    closed: 1,
  });
};

/** Checkpoints of older terms stay valid up to the head of now: what the log still has is a prefix of what it had. */
const renewTerm = (database: Database.Database): void => {
  const term = randomUUID();
  database.prepare('INSERT INTO terms (term, start_seq) SELECT ?, head_seq FROM state').run(term);
  database.prepare('UPDATE state SET term = ?').run(term);
};

/** The file's meta; throws where it is not a log, or not one of this format. */
export const readMeta = (database: Database.Database, path: string): Map<string, unknown> => {
  const isLog = database.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'meta'").get();
  if (isLog === undefined) throw new WaggleError('STATE_CORRUPT', `${path} is not a log of waggle`);
  const rows = database.prepare<[], { key: string; value: unknown }>('SELECT key, value FROM meta').all();
  const meta = new Map(rows.map((row) => [row.key, row.value]));
  if (meta.get('format') !== LOG_FORMAT) {
    throw new WaggleError('STATE_FORMAT', `${path} has format ${String(meta.get('format'))}; this waggle reads format ${LOG_FORMAT}`);
  }
  return meta;
};

const writeMeta = (database: Database.Database, values: Record<string, string | number | null>): void => {
  const statement = database.prepare('INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)');
  for (const [key, value] of Object.entries(values)) statement.run(key, value);
};

/** Changes when the file is replaced by a copy (restored state directory), not when it is written. */
const fileIdentity = (path: string): string => {
  const { dev, ino, birthtimeNs } = statSync(path, { bigint: true });
  return `${dev}:${ino}:${birthtimeNs}`;
};

/** Differs after each start of the machine; null where the system does not tell. */
const readBootId = (): string | null => {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return null;
  }
};

/** Makes a new file's name in its directory durable. */
const syncDirectory = (path: string): void => {
  const descriptor = openSync(dirname(path), 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
};
