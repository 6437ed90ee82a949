/** How a keeper lets go of the hive, such that the one after it goes on without a gap. */
import type { WalIndexHeader } from '../sqlite/wal-index.ts';
import type { Opened } from './first-pin.ts';
import { samePrint } from './hive-files.ts';
import type { Stopped } from './protocol.ts';
import { sleepMs } from './sleep.ts';

const END_PATIENCE_MS = 200;
const END_QUIET_MS = 40;

export interface EndOptions {
  /** The last header that was seen, and when its last frame came (performance.now). */
  readonly lastSeen: WalIndexHeader;
  readonly lastFrameAt: number;
  /** Gives whether the ledger on disk also proves that the database file has everything and was not written since. */
  writeLedger(): boolean;
}

/**
 * Orderly end: spools what capture has not taken and closes the connections (the last one to close deletes the WAL). If
 * the application is silent, everything is put into the database file before. `clean` if that was possible and the next
 * keeper can prove it. If frames could not be made safe the connections stay open, and the process must be killed
 * rather than exit: closing as the last one would delete them. `generation` of the answer is the keeper's own number.
 */
export const endInOrder = (hive: Opened, { lastSeen, lastFrameAt: frameAt, writeLedger }: EndOptions): Stopped => {
  const { files, checkpointer, barrier, pinConnections, pins, spooler, observe, ledger } = hive;
  const stopped = (clean: boolean, print: Stopped['print']): Stopped => ({ clean, print, generation: ledger.generation, frame: ledger.lastFrame });
  if (files.findReplaced() !== null) return stopped(false, null);
  let isPrinted = false;
  const start = performance.now();
  let lastFrameAt = frameAt;
  let seen = lastSeen;
  while (!isPrinted && performance.now() - start < END_PATIENCE_MS) {
    const header = observe();
    const now = performance.now();
    if (header === null || !spooler.spoolTo(header.mxFrame, Infinity)) break;
    if (header.mxFrame !== seen.mxFrame || header.salt1 !== seen.salt1) lastFrameAt = now;
    seen = header;
    // While the application writes, its WAL is left as it is: a restart then goes on in the same generation.
    if (now - lastFrameAt >= END_QUIET_MS) {
      if (header.backfill < header.mxFrame && pins.move() === 'moved') checkpointer.passive();
      else if (pins.slot !== 'zero' || pins.isOld(header)) pins.move();
      else if (header.mxFrame > 0) checkpointer.truncate();
      observe();
      if (pins.slot === 'zero') isPrinted = writeLedger();
    }
    if (!isPrinted) sleepMs(2);
  }
  const print = files.fingerprint();
  const last = observe();
  if (last === null || !spooler.spoolTo(last.mxFrame, Infinity)) return stopped(false, null);
  for (const connection of [barrier, checkpointer]) connection.close();
  for (const pin of pinConnections) {
    pin.end();
    pin.close();
  }
  const clean = isPrinted && last.mxFrame === last.backfill && samePrint(print, files.fingerprint());
  return stopped(clean, clean ? print : null);
};

/**
 * Stands still for another keeper: pinned, with a ledger on disk that joins whatever follows. True once that holds; then
 * nothing of the hive may be touched until it is to go on.
 */
export const standStill = ({ pins, spooler, observe }: Opened, writeLedger: () => boolean): boolean => {
  const header = observe();
  if (header === null) return false;
  if (header.backfill < header.mxFrame) {
    // On a mark nothing is reset: the generation that the ledger names is the one that will be found.
    if ((pins.slot !== 'mark' || pins.isOld(header)) && pins.move() !== 'moved') return false;
    if (pins.slot !== 'mark') return false;
    writeLedger();
    return true;
  }
  // On slot 0 one reset is possible: only the file's print proves that there was no other.
  if (pins.slot === 'zero' && !pins.isOld(header)) return writeLedger();
  if (spooler.spoolTo(header.mxFrame, Infinity)) pins.move();
  return false;
};
