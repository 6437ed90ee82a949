/**
 * Every error that Waggle shows to a user, in one closed list. Each code's entry is its manual: what it means, what
 * to do (`hint`), with which exit status a command ends, and whether trying again without a change can help.
 */

interface ErrorKind {
  /** What the user can do about it. One line, imperative. */
  readonly hint: string;
  /** 1: something is wrong with the world. 2: the command line or the configuration is wrong. */
  readonly exitStatus: 1 | 2;
  /** True when the same operation may succeed later without anybody doing anything. */
  readonly retryable: boolean;
}

const kind = (hint: string, options: { exitStatus?: 1 | 2; retryable?: boolean } = {}): ErrorKind => ({
  hint,
  exitStatus: options.exitStatus ?? 1,
  retryable: options.retryable ?? false,
});

export const ERROR_KINDS = {
  // --- the hive file -------------------------------------------------------------------------------------------
  /** There is no file at the hive's path. */
  HIVE_MISSING: kind('Check the path; Blade keeps its file at .blade/state/databases/<id>/db.sqlite.'),
  /** The hive's path is a directory, a socket or something else that is not a regular file. */
  HIVE_NOT_A_FILE: kind('Name the database file itself, for example .blade/state/databases/main/db.sqlite.'),
  /** The file has zero bytes: SQLite has not written to it yet. */
  HIVE_EMPTY: kind('Start the application once so that it creates its tables, then start waggle.'),
  /** The file does not begin with SQLite's magic string, or its header is damaged. */
  HIVE_NOT_A_DATABASE: kind('Check that the path names a SQLite 3 database and that it is not encrypted.'),
  /** The process may not read (and for the locks: write) the file or its directory. */
  HIVE_NO_PERMISSION: kind('Run waggle as a user that may read and write the file and its directory.'),
  /** The database uses a rollback journal; there is no write-ahead log to read. */
  HIVE_NOT_WAL: kind('Run `PRAGMA journal_mode=WAL` once in the database, or let waggle do it with --enable-wal.'),
  /** The file lies where locks or shared memory do not reach the application (network or bind mount, hard link). */
  HIVE_LOCKS_NOT_SHARED: kind(
    "Run waggle on the machine (and in the container) of the application, on a local file system, by the file's only name.",
  ),
  /** The application holds the database exclusively (`locking_mode=EXCLUSIVE`) or for longer than waggle waits. */
  HIVE_LOCKED: kind('Do not use locking_mode=EXCLUSIVE in the application; waggle tries again by itself.', { retryable: true }),
  /** Another file took the hive's place (restore, copy). */
  HIVE_REPLACED: kind('Nothing to do: waggle starts again on the new file and records the difference as one recovered transaction.', {
    retryable: true,
  }),
  /** A page or record of the hive contradicts the file format. */
  HIVE_CORRUPT: kind('Run `PRAGMA integrity_check` on the database and restore a backup if it reports an error.'),
  /** Page size or reserved bytes changed in the middle of a WAL, which SQLite does not do. (Between two starts they may: the tables are compared.) */
  HIVE_PAGE_SIZE_CHANGED: kind('Move the state directory away and start again; sinks are filled anew.'),
  /** The rows of a captured WITHOUT ROWID table stand in the order of a collation that only the application has. */
  COLLATION_UNKNOWN: kind('Exclude the table under `tables: { exclude: [...] }`.'),
  /** SQLite itself refuses a CREATE statement of the hive's schema (for example for an unknown function). */
  CATALOG_UNREADABLE: kind('Exclude the table, or report the statement.'),
  /** The hive has more than one file that could be meant. */
  HIVE_AMBIGUOUS: kind('Name the file you mean.', { exitStatus: 2 }),
  /** The WAL was reset while nothing held it: single transactions since then are known only by their net effect. */
  PIN_LOST: kind('Nothing to do: the net effect is recorded as one recovered transaction.', { retryable: true }),

  // --- the state directory -------------------------------------------------------------------------------------
  /** The state directory cannot be created, read or written. */
  STATE_UNUSABLE: kind('Check the owner and the rights of the state directory (waggle keeps it at mode 0700).'),
  /** Another daemon uses this state directory. */
  STATE_IN_USE: kind('Stop the other daemon first, or use another state directory.'),
  /** The state directory belongs to another hive. */
  STATE_OTHER_HIVE: kind('Use one state directory for each hive.'),
  /** The state directory was written by another version of waggle that this one cannot read. */
  STATE_FORMAT: kind('Use the version that wrote it, or move the state directory away and start again.'),
  /** A file of the state directory contradicts itself. */
  STATE_CORRUPT: kind('Move the state directory away and start again; sinks are reconciled.'),
  /** No space is left under the state directory. */
  DISK_FULL: kind('Free some space; waggle goes on by itself where it stopped.', { retryable: true }),
  /** There is no state directory yet where `status` looks for it. */
  STATE_MISSING: kind('Start the daemon first (`waggle run`), or name the configuration with -c.'),

  // --- processes of waggle itself ------------------------------------------------------------------------------
  /** The keeper process ended without being asked to. */
  KEEPER_DIED: kind('Nothing to do: waggle starts it again. If it keeps dying, read its last lines in the log.', { retryable: true }),
  /** `waggle pause` was called: nothing of waggle touches the hive. */
  CAPTURE_PAUSED: kind('Run `waggle resume` when the application is done; what happened meanwhile can come as one recovered transaction.', {
    retryable: true,
  }),
  /** The capture thread has ended. Retryable for a sink that was reading rows from it: an orderly end is no fault of the sink. */
  CAPTURE_DIED: kind('Run with --verbose and report the trace.', { retryable: true }),

  // --- configuration and command line --------------------------------------------------------------------------
  /** The configuration file cannot be found or read. */
  CONFIG_MISSING: kind('Write one with `waggle init`, or name it with -c.', { exitStatus: 2 }),
  /** The configuration is not valid YAML or says something that waggle does not understand. */
  CONFIG_INVALID: kind('Mend the line that is named.', { exitStatus: 2 }),
  /** The command line cannot be understood. */
  USAGE: kind('See `waggle --help`.', { exitStatus: 2 }),
  /** The running Node is older than waggle needs. */
  NODE_TOO_OLD: kind('Install Node 24 or newer.', { exitStatus: 2 }),
  /** A file that would be overwritten exists. */
  FILE_EXISTS: kind('Move it away first, or use --force.', { exitStatus: 2 }),

  // --- events --------------------------------------------------------------------------------------------------
  /** A record that was to be read as an event is something else. */
  EVENT_INVALID: kind('Read only the topics of tables and `<prefix>.schema` with `parseChange`.'),

  // --- sinks ---------------------------------------------------------------------------------------------------
  /** The sink's server cannot be reached, or the connection was cut. */
  SINK_UNREACHABLE: kind('Check that the server runs and that the address is right; waggle keeps trying.', { retryable: true }),
  /** The server refuses the user, the password or a right that is needed. */
  SINK_DENIED: kind('Check user, password and rights (CREATE on the schema, INSERT, UPDATE, DELETE).'),
  /** The target refuses a row for what is in it. */
  SINK_ROW_REFUSED: kind(
    'Change the column in the target, or exclude the column or table, then start waggle again; it goes on with that row. `on_error: dead_letter` lets the others pass.',
  ),
  /** So many rows were refused that it is no longer about single rows. */
  SINK_DEAD_LETTERS_FULL: kind('See why with `waggle dead-letters list`, mend it, then retry or discard them and start waggle again.'),
  /** There is no dead letter, sink or table of that name. */
  NOT_FOUND: kind('See the names with `waggle status`.', { exitStatus: 2 }),
  /** The target of this sink cannot be read back (a file, a webhook). */
  SINK_NOT_READABLE: kind('Only sinks into databases can be verified.', { exitStatus: 2 }),
  /** A target table does not fit (column of another type, missing unique index). */
  SINK_TABLE_MISFIT: kind('Let waggle create the table, or make its key columns the primary key.'),
  /** The sink's checkpoint is not in the log (other log, restored target, or retention went past it). */
  SINK_CHECKPOINT_UNKNOWN: kind('Nothing to do: the sink is filled again from the mirror.', { retryable: true }),
  /** The target had acknowledged a checkpoint and does not have it any more: somebody deleted it, and perhaps more than it. */
  SINK_CHECKPOINT_LOST: kind('Find out who deleted it; see the message for how to begin again.'),
  /** The server is overloaded, deadlocked or restarting. */
  SINK_BUSY: kind('Nothing to do: waggle tries again.', { retryable: true }),
  /** Another runner writes with this sink's name into the same target. */
  SINK_FENCED: kind('Run only one daemon per sink name and target.'),
  /** What the sink wrote into (file, pipe) was closed by its reader. */
  SINK_CLOSED: kind('Start the reader again.'),
  /** A sink failed in a way that its connector does not know. */
  SINK_FAILED: kind('Read the message of the target; waggle keeps trying.', { retryable: true }),
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof ERROR_KINDS;

export interface WaggleErrorOptions {
  readonly cause?: unknown;
  /** Replaces the list's hint where the place knows better. */
  readonly hint?: string;
  /** The other side asked not to be tried again for so long. */
  readonly retryAfterMs?: number;
}

/** An error with a code of the closed list. `message` is one line and never holds row values or secrets. */
export class WaggleError extends Error {
  override readonly name = 'WaggleError';
  readonly code: ErrorCode;
  readonly hint: string;
  readonly retryable: boolean;
  readonly exitStatus: 1 | 2;
  /** 0: nobody asked for a pause. */
  readonly retryAfterMs: number;

  constructor(code: ErrorCode, message: string, options: WaggleErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    const entry: ErrorKind = ERROR_KINDS[code];
    this.code = code;
    this.hint = options.hint ?? entry.hint;
    this.retryable = entry.retryable;
    this.exitStatus = entry.exitStatus;
    this.retryAfterMs = options.retryAfterMs ?? 0;
  }

  /** For crossing a thread or process boundary; `fromJSON` is the way back. */
  toJSON(): SerializedError {
    return { code: this.code, message: this.message, hint: this.hint, stack: this.stack ?? null };
  }

  static fromJSON(error: SerializedError): WaggleError {
    const result = new WaggleError(error.code, error.message, { hint: error.hint });
    if (error.stack !== null) result.stack = error.stack;
    return result;
  }
}

export interface SerializedError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string;
  readonly stack: string | null;
}

/** The `code` of a Node system error ('ENOENT', 'EACCES', …), or null. */
export const systemErrorCode = (error: unknown): string | null =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : null;
