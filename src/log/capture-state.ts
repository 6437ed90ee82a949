/** Where capture stands, as the log keeps it: moved in the same SQLite transaction as the changes up to there. */
import type { Position } from '../change/change.ts';
import type { StateRow } from './log-format.ts';

export interface CaptureState {
  readonly position: Position;
  /** Id of the batch of the mirror's redo that belongs to the position. Grows. */
  readonly batchId: number;
  /** Version of the catalog as of the position. */
  readonly catalogVersion: number;
  /** Size of the hive in pages as of the position. */
  readonly sizePages: number;
  /** Capture's own note (JSON) of the position; null as soon as anything was appended after it. */
  readonly clean: string | null;
}

/** The capture state of a `state` row; null before the first batch of a log. */
export const captureStateOf = (row: StateRow): CaptureState | null =>
  row.batch_id === null
    ? null
    : {
        position: {
          epoch: row.epoch ?? 0,
          frame: row.frame ?? 0,
          salt1: row.salt1 ?? 0,
          salt2: row.salt2 ?? 0,
          checksum1: row.checksum1 ?? 0,
          checksum2: row.checksum2 ?? 0,
        },
        batchId: row.batch_id,
        catalogVersion: row.catalog_version ?? 0,
        sizePages: row.size_pages ?? 0,
        clean: row.clean,
      };
