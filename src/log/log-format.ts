/**
 * The log's file: one SQLite database in WAL mode.
 *
 *     meta          what the file is: format, hive, durability, boot id and file identity of the last writer
 *     state         one row: the head of the log, the position it stands at, and what lies before its first transaction
 *     terms         each term and the head at which it began
 *     catalogs      versions of the schema as JSON
 *     blocks        a row for one or more transactions that follow each other and share what the columns `origin` …
 *                   `previous_catalog_version` say; `data` holds them (block.ts). `epoch`, `frame` and `timestamp_us` are the
 *                   last one's. A large transaction is a block of its own whose changes stand in `parts`. last_seq is the rowid,
 *                   so the table is appended at its end. (Measured: a row costs 2 µs, and where transactions come at full speed
 *                   a block holds hundreds; 20 % faster and smaller than WITHOUT ROWID; 4096-byte pages are faster than 8192.)
 *     parts         the parts of large transactions: ids first_part … first_part + part_count - 1
 *
 * seq has no gap: the first seq of a block is last_seq - change_count + 1 and follows the last_seq before it.
 * `base_seq`, `base_txid` are the last transaction that is no longer stored (0 and '' in a log that has all).
 */

/** Version of this layout. A file of another version is refused with STATE_FORMAT. */
export const LOG_FORMAT = 2;

export const LOG_SCHEMA = `
  CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
  CREATE TABLE state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    log_id TEXT NOT NULL,
    term TEXT NOT NULL,
    head_seq INTEGER NOT NULL,
    head_txid TEXT NOT NULL,
    base_seq INTEGER NOT NULL,
    base_txid TEXT NOT NULL,
    next_part INTEGER NOT NULL,
    batch_id INTEGER,
    epoch INTEGER, frame INTEGER, salt1 INTEGER, salt2 INTEGER, checksum1 INTEGER, checksum2 INTEGER,
    catalog_version INTEGER,
    size_pages INTEGER,
    clean TEXT
  );
  CREATE TABLE terms (ordinal INTEGER PRIMARY KEY, term TEXT NOT NULL UNIQUE, start_seq INTEGER NOT NULL);
  CREATE TABLE catalogs (version INTEGER PRIMARY KEY, json TEXT NOT NULL);
  CREATE TABLE blocks (
    last_seq INTEGER PRIMARY KEY,
    change_count INTEGER NOT NULL,
    transaction_count INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    frame INTEGER NOT NULL,
    timestamp_us INTEGER NOT NULL,
    origin TEXT,
    recovered INTEGER NOT NULL,
    catalog_version INTEGER NOT NULL,
    previous_catalog_version INTEGER,
    part_count INTEGER NOT NULL,
    first_part INTEGER,
    data BLOB
  );
  CREATE INDEX blocks_parts ON blocks (first_part) WHERE first_part IS NOT NULL;
  CREATE TABLE parts (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
`;

/** The `state` row. */
export interface StateRow {
  readonly log_id: string;
  readonly term: string;
  readonly head_seq: number;
  readonly head_txid: string;
  readonly base_seq: number;
  readonly base_txid: string;
  readonly next_part: number;
  readonly batch_id: number | null;
  readonly epoch: number | null;
  readonly frame: number | null;
  readonly salt1: number | null;
  readonly salt2: number | null;
  readonly checksum1: number | null;
  readonly checksum2: number | null;
  readonly catalog_version: number | null;
  readonly size_pages: number | null;
  readonly clean: string | null;
}
