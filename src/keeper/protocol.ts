/**
 * What a daemon and the keeper say to each other: one JSON message a line (channel.ts), over the pipe by which the daemon
 * started the keeper, or over the unix socket of a keeper that outlives its daemon (socket.ts).
 *
 *     keeper ──► anybody    hello, as the first word of each connection
 *     capture ──► keeper    attach, then drained, hold, release, stop
 *     keeper  ──► capture   refused, or ready, then begun, generation, spooled, snapshot, gap, stats, warning, failed, stopped
 *     anybody ──► keeper    status, stop, retire          answered by status, stopped, retired
 *
 * One daemon at a time is attached. A keeper that outlives goes on when its connection closes: it holds, hands over and spools.
 *
 * The keeper numbers the WAL generations that it sees (`generation`); each daemon that attaches counts from 1 anew. Only the
 * keeper can tell whether a generation ended under its pin (`armed`), so capture takes the end of one from it alone.
 *
 * **Over a restart**, of the daemon, of the keeper or of both. What joins the old to the new are salts.
 * Capture keeps its position as (salts, frame). From `ready` it goes on like this, and takes a recovery diff if a step fails:
 *
 * 1. Walk `leftover` in order from the position: a segment of the position's salts whose frames go beyond it is read
 *    from the next frame on; a segment of other salts is reached when its `previous` names the position's salts with
 *    `lastFrame` = the position's frame (then the position becomes its salts, frame 0, and it must start at frame 1).
 * 2. Then generation 1 is reached if its salts are the position's, its mxFrame ≥ the position's frame and that frame has the
 *    position's checksum (`ready.taken`), or if
 *    `ready.previous` names the position's salts with `lastFrame` = the position's frame (go on at frame 1).
 *
 * A position at frame 0 has no salts yet: `StartNote` is what proves it.
 *
 * Generations before 1 are numbered 0, -1, … backwards. `drained` lets the keeper unlink what it covers, of earlier generations as
 * of generation 1 (for which frame 0 will do when it is empty).
 *
 * **Another version.** `hello`, `stop` and `retire` are the same in every version. A daemon that finds a keeper of another
 * `protocol` tells it to `retire`: it stops handing over, keeps its pin, writes its ledger, lets go of the lock and answers
 * `retired`. Then the daemon starts its own keeper, which takes the lock and its pin and reads ledger and spool. Only when that
 * one is `ready` the daemon closes the connection to the old one, which ends. So the new pin is taken before the old one is dropped.
 * If the daemon dies in between, the old keeper takes the lock back and goes on, or ends if the new one has it.
 */
import type { Checksum } from '../sqlite/wal.ts';
import type { SerializedError } from '../support/errors.ts';
import type { Fingerprint } from './hive-files.ts';
import type { EndedGeneration, SpoolSegment } from './spool.ts';

export const PROTOCOL = 1;
/** Exit status of a keeper that found another one in its place. */
export const EXIT_LOCKED = 75;
/** Held by the keeper of this spool directory. */
export const LOCK_NAME = 'keeper.lock';

/** What the daemon that is attached wants; another one may want it otherwise. */
export interface KeeperSettings {
  /** Above this size of the WAL a barrier is allowed against a writer without pauses. */
  readonly maxWalBytes: number;
  /** Spool and ledger survive a power loss (durability `fsync`). */
  readonly durable: boolean;
  /** Goes on without a daemon. */
  readonly outlive: boolean;
  /** So much the spool may hold, together with a WAL that cannot be spooled; beyond it the pin is dropped. */
  readonly spoolBytes: number;
  /** So long it goes on without a daemon; then the pin is dropped. */
  readonly patienceMs: number;
}

/** How the keeper process is started: `argv[2]` holds this as JSON. */
export interface KeeperOptions extends KeeperSettings {
  /** Resolved path of the hive. */
  readonly hive: string;
  /** Directory for spool segments, lock, socket and log of the keeper; exists. */
  readonly spoolDir: string;
  /**
   * Null: nothing. If the hive still has that generation and the first pin lands on slot 0, the keeper spools what follows `frame`
   * inside the start barrier.
   */
  readonly taken: Taken | null;
}

/** What capture has durably taken before: frames of the generation with these salts up to `frame` (> 0). */
export interface Taken {
  readonly salt1: number;
  readonly salt2: number;
  readonly frame: number;
}

/**
 * Proof of a position at frame 0 (a state that was read while the WAL was empty): it is the beginning of the generation that
 * this keeper numbers so, and the database file with this print is that state.
 */
export interface StartNote {
  readonly keeper: string;
  readonly generation: number;
  /** Null: the file had been written too recently to be told from a later write. */
  readonly print: Fingerprint | null;
}

export type ToKeeper =
  /** To be its daemon; answered by `ready` or `refused`. */
  | { readonly type: 'attach'; readonly settings: KeeperSettings; readonly taken: Taken | null }
  /** Answered by `status`. */
  | { readonly type: 'status' }
  /** Stand still and make room for another keeper; answered by `retired`. The connection's end is the keeper's, if another one has its place. */
  | { readonly type: 'retire' }
  /** Frames of `generation` up to `frame` are durably in the log; spool segments up to there may be unlinked. */
  | { readonly type: 'drained'; readonly generation: number; readonly frame: number }
  /** Keep the pin where it is (capture copies the database file); answered by `snapshot`. */
  | { readonly type: 'hold' }
  /** Ends `hold`. */
  | { readonly type: 'release' }
  /** Orderly end, also of a keeper that outlives: answer with `stopped` after the connections are closed. */
  | { readonly type: 'stop' };

/** What capture says once it is attached. */
export type FromCapture = Extract<ToKeeper, { type: 'drained' | 'hold' | 'release' }>;

export type FromKeeper =
  | {
      readonly type: 'hello';
      readonly protocol: number;
      readonly pid: number;
      readonly hive: string;
    }
  /** Another daemon is attached. */
  | { readonly type: 'refused' }
  /**
   * The pin is held, and the daemon attached. Generation 1 is the one that the WAL is in: frames 1..mxFrame of these salts are
   * committed and held (in the WAL, in the spool or in both). mxFrame 0: the pin stands before its first frame, salts mean nothing,
   * and `begun` follows when it has one. The keeper is in the state of `hold` and hands nothing over until `release`.
   */
  | {
      readonly type: 'ready';
      readonly pid: number;
      /** Random id of this keeper, and its own number of generation 1. */
      readonly keeper: string;
      readonly number: number;
      /** Running checksum of frame `taken.frame`, if the WAL is in that generation and has that frame: salts alone can come back. */
      readonly taken: Checksum | null;
      /** Of the database file, taken under the pin: a generation cannot be reset without a write to that file. Null: too recent. */
      readonly print: Fingerprint | null;
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
      /** Sound segments that no daemon has taken, oldest first, also of keepers before. Torn ones have been removed. */
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
  /** Answer to `retire`: it stands still, and the lock is free. */
  | { readonly type: 'retired' }
  | { readonly type: 'status'; readonly status: KeeperStatus }
  | ({ readonly type: 'stopped' } & Stopped);

/** How a keeper ended in order. */
export interface Stopped {
  /**
   * Everything was drained or spooled, stood in the database file, and nothing has written to that file since; the next
   * keeper's `ready.previous` proves it again.
   */
  readonly clean: boolean;
  /** If `clean`: the print of that file, which holds everything up to `frame` of `generation`, and nothing more. */
  readonly print: Fingerprint | null;
  readonly generation: number;
  readonly frame: number;
}

/** For people. */
export interface KeeperStatus {
  readonly pid: number;
  readonly startedAtMs: number;
  /** A daemon is attached. */
  readonly attached: boolean;
  /** The keeper's own number of the WAL's generation, its salts (null while it is empty) and its last frame. */
  readonly generation: number;
  readonly salt1: number | null;
  readonly salt2: number | null;
  readonly lastFrame: number;
  /** Committed frames that no daemon has taken, in the WAL and in the spool. */
  readonly undrainedFrames: number;
  readonly spool: { readonly bytes: number; readonly limitBytes: number };
  /** Until it lets go of the hive; null while a daemon is attached. */
  readonly patienceLeftMs: number | null;
  readonly stats: KeeperStats;
}

/** Milliseconds; `total` of all together. */
export interface BarrierTimes {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
  readonly total: number;
}

export interface KeeperStats {
  readonly handOvers: number;
  readonly truncates: number;
  readonly barriers: number;
  /** How long they stood, so how long a writer may have waited; null: there was none. */
  readonly barrierMs: BarrierTimes | null;
  /** Tries of a barrier that met the application's write lock. */
  readonly barrierMisses: number;
  /** Backfills that the application's auto-checkpoint did because it was quicker. */
  readonly stolen: number;
  readonly spooledBytes: number;
  readonly walFrames: number;
}
