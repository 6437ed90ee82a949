/**
 * What capture and whoever started it say to each other. Capture runs in a thread of the daemon, or in a process of its
 * own (`watch`); the messages are the same, by structured clone.
 */
import type { Position } from '../change/change.ts';
import type { RowPlace, Table } from '../change/table.ts';
import type { KeeperSettings, KeeperStats } from '../keeper/protocol.ts';
import type { SerializedError } from '../support/errors.ts';

export interface CaptureOptions {
  /** Path of the hive; capture itself checks and resolves it (`resolveHive`). */
  readonly hive: string;
  /** State directory; exists and is locked by the caller. Capture owns `log.db`, `mirror/` and `spool/` in it. */
  readonly stateDir: string;
  readonly durability: 'os' | 'fsync';
  /** What to do when the mirror cannot be gone on with. */
  readonly onGap: 'snapshot' | 'fail';
  /** Captured tables; an exclusion wins. Names as in the hive, `*` stands for any characters. */
  readonly tables: { readonly include: readonly string[] | null; readonly exclude: readonly string[] };
  readonly maxWalBytes: number;
  readonly keeper: Pick<KeeperSettings, 'outlive' | 'spoolBytes' | 'patienceMs'>;
  /** What is told of a table that a transaction leaves without rows: a `d` for each of them (default), or one `t`. */
  readonly deleteAll?: 'rows' | 'event';
  readonly retention: { readonly maxAgeMs: number | null; readonly maxBytes: number | null };
  /** Size of the mirror's redo at which it is folded. Default: the mirror's. */
  readonly foldBytes?: number;
}

export type ToCapture =
  | { readonly type: 'rows'; readonly id: number; readonly table: string; readonly after: RowPlace | null; readonly maxBytes: number }
  /** Retention may remove what lies up to this seq; null: it is bound by nobody. */
  | { readonly type: 'keepAfter'; readonly seq: number | null }
  | { readonly type: 'stop' };

/** How capture began: with a first state, where it stood, or with a recovery diff. */
export type Beginning = 'first' | 'resumed' | 'recovered';

export type FromCapture =
  /** Comes again each time capture had to begin again (a gap). */
  | {
      readonly type: 'ready';
      readonly beginning: Beginning;
      readonly logId: string;
      readonly position: Position;
      readonly headSeq: number;
      readonly tables: number;
      readonly keeperPid: number;
    }
  | { readonly type: 'head'; readonly seq: number }
  | { readonly type: 'rows'; readonly id: number; readonly chunk: EncodedRows | null; readonly error: SerializedError | null }
  | { readonly type: 'warning'; readonly error: SerializedError }
  | { readonly type: 'keeper'; readonly stats: KeeperStats }
  | { readonly type: 'failed'; readonly error: SerializedError }
  | { readonly type: 'stopped' };

/** Rows of one table as changes of op c (change-codec). */
export interface EncodedRows {
  readonly table: Table;
  readonly encoding: 'utf8' | 'utf16le' | 'utf16be';
  readonly parts: readonly Uint8Array[];
  readonly asOf: { readonly seq: number; readonly txid: string };
  readonly done: boolean;
  readonly share: number;
}
