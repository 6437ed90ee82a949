/**
 * Entry of the keeper process: `node main.ts <KeeperOptions as JSON>`, with a channel to its parent (child_process.fork).
 *
 * It ends by `stop`, when the channel closes (the daemon died), after `gap` and after `failed`. Signals that a terminal
 * sends to the whole process group do not end it: the daemon decides.
 */
import { watch, type FSWatcher } from 'node:fs';
import { setPriority } from 'node:os';
import { WaggleError, systemErrorCode } from '../support/errors.ts';
import { asHiveError } from './hive-files.ts';
import { Keeper } from './keeper.ts';
import type { FromKeeper, KeeperOptions, ToKeeper } from './protocol.ts';

const options: KeeperOptions = JSON.parse(process.argv[2] ?? '{}');

process.title = 'waggle-keeper';
try {
  // A keeper of a later session is forked by a capture that has stepped back behind the application: what holds the application
  // up must not. (Raising a priority takes a right that not every user has.)
  setPriority(0, 0);
} catch {
  // It then keeps capture's priority.
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});

const send = (message: FromKeeper, then: () => void = () => {}): void => {
  if (process.connected) process.send?.(message, then);
  else then();
};

/** Ends without closing a connection: a close as the last one would checkpoint, delete the WAL, or delete a new file's WAL. */
const leave = (): void => {
  process.kill(process.pid, 'SIGKILL');
};

const asKnown = (error: unknown): WaggleError => {
  if (error instanceof WaggleError) return error;
  if (systemErrorCode(error)?.startsWith('SQLITE_') === true) return asHiveError(options.hive, error);
  return new WaggleError('KEEPER_DIED', error instanceof Error ? error.message : String(error), { cause: error });
};

const fail = (error: unknown): void => {
  const known = asKnown(error);
  if (known !== error && error instanceof Error && error.stack !== undefined) known.stack = error.stack;
  const type = known.code === 'PIN_LOST' || known.code === 'HIVE_REPLACED' ? 'gap' : 'failed';
  isOver = true;
  send({ type, error: known.toJSON() }, leave);
};

let isOver = false;
let timer: NodeJS.Timeout | undefined;
let immediate: NodeJS.Immediate | undefined;
let watcher: FSWatcher | null = null;

const pause = (): void => {
  clearTimeout(timer);
  clearImmediate(immediate);
};

const tick = (keeper: Keeper): void => {
  if (isOver) return;
  pause();
  try {
    const delayMs = keeper.tick();
    follow(keeper, delayMs > 1);
    if (delayMs === 0) immediate = setImmediate(tick, keeper);
    else timer = setTimeout(tick, delayMs, keeper);
  } catch (error) {
    fail(error);
  }
};

/** While nothing happens a change notice of the WAL wakes the keeper at once; while frames come it would only cost. */
const follow = (keeper: Keeper, isWanted: boolean): void => {
  if (isWanted === (watcher !== null)) return;
  watcher?.close();
  watcher = null;
  if (!isWanted) return;
  try {
    watcher = watch(`${options.hive}-wal`, () => tick(keeper));
    watcher.on('error', () => {});
  } catch {
    // No change notices here: the poll does it alone, a little later.
  }
};

const end = (keeper: Keeper, then: (isClean: boolean) => void): void => {
  isOver = true;
  pause();
  let isClean = false;
  try {
    isClean = keeper.end();
  } finally {
    then(isClean);
  }
};

try {
  const keeper = new Keeper(options, send);
  process.on('message', (message: ToKeeper) => {
    if (isOver) return;
    if (message.type === 'stop') return end(keeper, (clean) => send({ type: 'stopped', clean }, leave));
    keeper.receive(message);
    if (message.type !== 'drained') tick(keeper);
  });
  process.on('disconnect', () => {
    if (!isOver) end(keeper, leave);
  });
  // The daemon may have died while the hive was opened.
  if (process.connected) tick(keeper);
  else end(keeper, leave);
} catch (error) {
  fail(error);
}
