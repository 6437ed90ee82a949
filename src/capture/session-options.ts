/** What a capture session is given. */
import type { TableFilter } from '../catalog/table-reader.ts';
import type { KeeperStats } from '../keeper/protocol.ts';
import type { LogWriter } from '../log/log-writer.ts';
import type { WaggleError } from '../support/errors.ts';
import type { CaptureOptions } from './protocol.ts';
import type { Replica } from './replica.ts';
import type { SpillFile } from './spill-file.ts';

export interface SessionOptions {
  readonly capture: CaptureOptions;
  readonly log: LogWriter;
  readonly captured: TableFilter;
  readonly spill: SpillFile;
  /** The replica of the session before, as of the log's head; null: it is read from disk. Closed when `begin` throws. */
  readonly replica: Replica | null;
  /** Somebody wants capture to end: nothing is waited for any more that may not come. */
  readonly isStopping: () => boolean;
  /** Something may have happened: frames, a message of the keeper. */
  readonly wake: () => void;
  readonly warn: (error: WaggleError) => void;
  readonly stats: (stats: KeeperStats) => void;
}
