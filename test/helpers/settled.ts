/** When everything that is committed in the hive has reached the log, and everything in the log the sinks. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { WalIndexReader } from '../../src/hive/wal-index-reader.ts';
import { LogReader } from '../../src/log/log-reader.ts';
import type { SinkStatus } from '../../src/pipeline/sink-status.ts';
import { SinkStore } from '../../src/pipeline/sink-store.ts';
import type { WalIndexHeader } from '../../src/sqlite/wal-index.ts';
import { until } from './until.ts';

export interface Place {
  readonly hive: string;
  readonly stateDir: string;
  /** Names of the sinks that must have caught up. */
  readonly sinks: readonly string[];
}

/** Of a running or a stopped daemon; empty before its first start. */
export const sinkStatuses = (stateDir: string): SinkStatus[] => {
  try {
    using store = SinkStore.openForReading(join(stateDir, 'sinks.db'));
    return store.list();
  } catch {
    return [];
  }
};

export const sinkStatus = (stateDir: string, name: string): SinkStatus | undefined => sinkStatuses(stateDir).find((status) => status.name === name);

/** Seq of the log's head; null while there is no log. */
export const logHead = (stateDir: string): number | null => {
  try {
    using reader = LogReader.open(join(stateDir, 'log.db'));
    return reader.head().seq;
  } catch {
    return null;
  }
};

/** The log stands at the last commit that the wal-index tells of; or the WAL is empty, and so is the spool, to which the keeper may have moved what it held. */
export const isCaptured = ({ hive, stateDir }: Place): boolean => {
  const header = walIndex(hive);
  if (header === 'torn') return false;
  if (header === null || header.mxFrame === 0) return !isSpooled(stateDir);
  using reader = LogReader.open(join(stateDir, 'log.db'));
  const position = reader.info().state?.position;
  return position?.frame === header.mxFrame && position.salt1 === header.salt1 && position.salt2 === header.salt2;
};

const isSpooled = (stateDir: string): boolean => {
  const spool = join(stateDir, 'spool');
  return existsSync(spool) && readdirSync(spool).some((name) => name.endsWith('.frames'));
};

/** Null: there is no WAL. */
const walIndex = (hive: string): WalIndexHeader | 'torn' | null => {
  if (!existsSync(`${hive}-shm`)) return null;
  using index = new WalIndexReader(hive);
  const state = index.read();
  return state === 'uninitialised' ? null : state;
};

/** Waits until both hold. Writing must have ended. */
export const untilSettled = async (place: Place, deadlineMs = 60_000): Promise<void> => {
  const behind = (): string => JSON.stringify({ head: logHead(place.stateDir), sinks: sinkStatuses(place.stateDir) }, null, 1);
  await until(
    'everything to be captured and applied',
    () => {
      if (logHead(place.stateDir) === null || !isCaptured(place)) return false;
      // Read behind it: the head of before would be the checkpoint's, too.
      const head = logHead(place.stateDir);
      return place.sinks.every((name) => {
        const status = sinkStatus(place.stateDir, name);
        return status?.checkpoint?.seq === head && status.fill === null && (status.state === 'streaming' || status.state === 'closed');
      });
    },
    { deadlineMs, everyMs: 100, told: behind },
  );
};
