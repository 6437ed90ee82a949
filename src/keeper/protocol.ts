/**
 * What capture and the keeper say to each other: one JSON message at a time over the channel of the child process.
 *
 * The keeper numbers the WAL generations that it sees from 1 (`generation`); only it can tell whether one ended under
 * its pin (`armed`), so capture takes the end of a generation from it alone.
 *
 *     capture ──► keeper    drained, hold, release, stop
 *     keeper  ──► capture   ready, begun, generation, spooled, snapshot, gap, stats, warning, failed, stopped
 *
 * **Over a restart.** Generation numbers count from 1 anew in each keeper; what joins the old to the new are salts.
 * Capture keeps its position as (salts, frame). From `ready` it goes on like this, and takes a recovery diff if a step fails:
 *
 * 1. Walk `leftover` in order from the position: a segment of the position's salts whose frames go beyond it is read
 *    from the next frame on; a segment of other salts is reached when its `previous` names the position's salts with
 *    `lastFrame` = the position's frame (then the position becomes its salts, frame 0, and it must start at frame 1).
 * 2. Then generation 1 is reached if its salts are the position's and its mxFrame ≥ the position's frame, or if
 *    `ready.previous` names the position's salts with `lastFrame` = the position's frame (go on at frame 1).
 *
 * The first `drained` for generation 1 (frame 0 will do when it is empty) lets the keeper unlink what was left over of
 * earlier generations; leftovers of generation 1's salts go as soon as `drained` covers them.
 */
import type { SerializedError } from '../support/errors.ts';
import type { EndedGeneration, SpoolSegment } from './spool.ts';

/** How the keeper process is started: `argv[2]` holds this as JSON. */
export interface KeeperOptions {
  /** Resolved path of the hive. */
  readonly hive: string;
  /** Directory for spool segments; exists. */
  readonly spoolDir: string;
  /** Spool and ledger survive a power loss (durability `fsync`). Default: no. */
  readonly durable?: boolean;
  /** Above this size of the WAL a barrier is allowed against a writer without pauses. */
  readonly maxWalBytes: number;
  /**
   * What capture has durably taken before: frames of the generation with these salts up to `frame`. Null: nothing.
   * If the hive still has that generation and the first pin lands on slot 0, the keeper spools what follows `frame`
   * inside the start barrier.
   */
  readonly taken: { readonly salt1: number; readonly salt2: number; readonly frame: number } | null;
}

export type ToKeeper =
  /** Frames of `generation` up to `frame` are durably in the log; spool segments up to there may be unlinked. */
  | { readonly type: 'drained'; readonly generation: number; readonly frame: number }
  /** Keep the pin where it is (capture copies the database file); answered by `snapshot`. */
  | { readonly type: 'hold' }
  /** Ends `hold`. */
  | { readonly type: 'release' }
  /** Orderly end: answer with `stopped` after the connections are closed. */
  | { readonly type: 'stop' };

export type FromKeeper =
  /**
   * First pin taken. Generation 1 is the WAL as found: frames 1..mxFrame of these salts are committed and held (in the
   * WAL or, from `spooledFrom` on, also in the spool). mxFrame 0: the WAL is empty and salts mean nothing yet.
   * The keeper starts in the state of `hold` and hands nothing over until `release`.
   */
  | {
      readonly type: 'ready';
      readonly pid: number;
      readonly salt1: number;
      readonly salt2: number;
      readonly mxFrame: number;
      /** Everything up to mxFrame stands in the database file, and the pin freezes that file (slot 0). */
      readonly complete: boolean;
      /**
       * False: frames after `taken.frame` were lost or could not be spooled although the hive seemed to have `taken`'s
       * generation: take a recovery diff. True promises that every frame after `taken.frame` up to mxFrame can be read.
       */
      readonly proven: boolean;
      /** Sound segments of keepers before, oldest first. Torn ones have been removed. */
      readonly leftover: readonly SpoolSegment[];
      /** Generation 1 directly follows this one, provably; null: not known. */
      readonly previous: EndedGeneration | null;
    }
  /**
   * The first frame of `generation` (2 and later) was seen; it has these salts. Comes after `generation` of the one before
   * and before anything else of this one. Only the keeper can say this: a WAL with other salts might be two generations on.
   * When generation 1 was found empty, it comes for generation 1 too.
   */
  | { readonly type: 'begun'; readonly generation: number; readonly salt1: number; readonly salt2: number }
  /**
   * Generation `generation` has ended at `lastFrame` and will get no more frames; what capture has not taken of it is
   * in the spool (told before). The next one is `generation + 1`; `begun` tells its salts.
   */
  | { readonly type: 'generation'; readonly generation: number; readonly lastFrame: number }
  /**
   * Frames firstFrame..lastFrame of `generation` were copied into the spool segment `path` (format: spool.ts). Segments of
   * a generation follow each other without hole or overlap, but a transaction may stand across several. They may be in
   * the WAL as well for as long as the generation lasts. The file is gone by now if a `drained` under way has covered it.
   */
  | { readonly type: 'spooled'; readonly generation: number; readonly firstFrame: number; readonly lastFrame: number; readonly path: string }
  /**
   * Answer to `hold`: until `release` no frame above mxFrame of this generation gets into the database file, and frames
   * 1..mxFrame stay in the WAL, so that file + frames 1..mxFrame are the hive at mxFrame. `complete`: the file alone is.
   */
  | {
      readonly type: 'snapshot';
      readonly generation: number;
      readonly salt1: number;
      readonly salt2: number;
      readonly mxFrame: number;
      readonly sizePages: number;
      readonly complete: boolean;
    }
  /** The WAL was reset while no armed pin proved its end (PIN_LOST), or the file was replaced (HIVE_REPLACED). The keeper ends after it. */
  | { readonly type: 'gap'; readonly error: SerializedError }
  /** Counters since the keeper's start, sent about once a second when they changed. */
  | { readonly type: 'stats'; readonly stats: KeeperStats }
  /** Something hinders the keeper, which goes on and tries again (DISK_FULL: it cannot spool, the WAL grows). Told once each time it begins. */
  | { readonly type: 'warning'; readonly error: SerializedError }
  /** A fault it cannot mend; the keeper ends after it. */
  | { readonly type: 'failed'; readonly error: SerializedError }
  /**
   * Answer to `stop`. `clean`: everything was drained or spooled, stood in the database file, and nothing has written to
   * that file since; the next keeper's `ready.previous` proves it again.
   */
  | { readonly type: 'stopped'; readonly clean: boolean };

export interface KeeperStats {
  readonly handOvers: number;
  readonly truncates: number;
  readonly barriers: number;
  readonly barrierMsMax: number;
  readonly barrierMsTotal: number;
  /** Tries of a barrier that met the application's write lock. */
  readonly barrierMisses: number;
  /** Backfills that the application's auto-checkpoint did because it was quicker. */
  readonly stolen: number;
  readonly spooledBytes: number;
  readonly walFrames: number;
}
