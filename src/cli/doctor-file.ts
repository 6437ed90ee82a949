/** What can be told about a hive without SQLite: the file, its header, its neighbours, who has it open. */
import { existsSync, globSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { DatabaseHeader } from '../sqlite/database-header.ts';
import { resolveHive } from '../hive/hive-file.ts';
import { type ErrorCode, WaggleError } from '../support/errors.ts';
import { formatSize } from '../support/units.ts';

export interface Finding {
  /** `problem`: capture would refuse or fail. `note`: worth knowing. */
  readonly kind: 'ok' | 'note' | 'problem';
  readonly text: string;
  readonly mend?: string;
  readonly code?: ErrorCode;
}

export interface ExaminedFile {
  readonly findings: readonly Finding[];
  /** Resolved path; null where SQLite must not open the file. */
  readonly hive: string | null;
}

/** SQLite's fix of the WAL-reset bug. */
const FIXED_VERSION = 3_051_003;
const LARGE_WAL_BYTES = 16_000_000;

/** Reads; changes nothing, and opens nothing through SQLite. */
export const examineFile = (path: string): ExaminedFile => {
  try {
    const hive = resolveHive(path);
    const { header, sizeBytes } = hive;
    return {
      findings: [
        { kind: 'ok', text: `${path} is a SQLite database in WAL mode on a local file system, ${formatSize(sizeBytes)}` },
        { kind: 'ok', text: describeHeader(header) },
        ...versionFindings(header),
        ...neighbourFindings(hive.path),
        ...userFindings(hive.path),
      ],
      // Whoever opens it now rolls the journal back: that is for the application to do.
      hive: existsSync(`${hive.path}-journal`) ? null : hive.path,
    };
  } catch (error) {
    if (!(error instanceof WaggleError)) throw error;
    return { findings: [{ kind: 'problem', text: error.message, mend: error.hint, code: error.code }], hive: null };
  }
};

const describeHeader = ({ pageSize, usableSize, autoVacuum, encoding }: DatabaseHeader): string =>
  `pages of ${pageSize} bytes (${pageSize - usableSize} reserved), ${encoding}, auto_vacuum ${autoVacuum ? 'on' : 'off'}`;

const versionFindings = ({ sqliteVersion }: DatabaseHeader): Finding[] => {
  const name = `${Math.trunc(sqliteVersion / 1e6)}.${Math.trunc(sqliteVersion / 1000) % 1000}.${sqliteVersion % 1000}`;
  if (sqliteVersion === 0) return [];
  if (sqliteVersion >= FIXED_VERSION) return [{ kind: 'ok', text: `last written by SQLite ${name}` }];
  return [
    {
      kind: 'note',
      text: `last written by SQLite ${name}, which can corrupt a database when two processes checkpoint at the same instant (WAL-reset bug)`,
      mend: 'Use SQLite 3.51.3 or newer in the application.',
    },
  ];
};

const neighbourFindings = (hive: string): Finding[] => {
  const findings: Finding[] = [];
  const walBytes = statSync(`${hive}-wal`, { throwIfNoEntry: false })?.size;
  if (walBytes === undefined) findings.push({ kind: 'ok', text: 'no WAL file: nobody has the database open' });
  else if (walBytes <= LARGE_WAL_BYTES) findings.push({ kind: 'ok', text: `the WAL has ${formatSize(walBytes)}` });
  else
    findings.push({
      kind: 'note',
      text: `the WAL has ${formatSize(walBytes)}: a reader of the application that never ends, or no checkpoint`,
      mend: 'End long read transactions.',
    });
  if (existsSync(`${hive}-journal`)) {
    findings.push({
      kind: 'note',
      text: 'a rollback journal lies beside the database: a program died in a transaction',
      mend: 'Open the database once with the application.',
    });
  }
  const name = basename(hive);
  if ([`.${name}-litestream`, `${name}-litestream`].some((directory) => existsSync(join(dirname(hive), directory)))) {
    findings.push({
      kind: 'note',
      text: 'Litestream replicates this database: it checkpoints too, and its read lock can keep the WAL from starting over',
    });
  }
  return findings;
};

/** Processes that have the file open, where /proc tells. */
const userFindings = (hive: string): Finding[] => {
  if (process.platform !== 'linux') return [];
  const users = globSync('/proc/[0-9]*/fd/*').filter((link) => linkTarget(link) === hive);
  const pids = [...new Set(users.map((link) => Number(link.split('/')[2])))].filter((pid) => pid !== process.pid);
  if (pids.length === 0) return [{ kind: 'ok', text: 'no process that can be seen from here has it open' }];
  return [{ kind: 'ok', text: `open in ${pids.map((pid) => `${commandName(pid)} (pid ${pid})`).join(', ')}` }];
};

const linkTarget = (link: string): string | null => {
  try {
    return readlinkSync(link);
  } catch {
    return null; // The process ended, or belongs to somebody else.
  }
};

const commandName = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return 'a process';
  }
};
