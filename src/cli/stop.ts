/** `waggle stop`: ends the daemon of a state directory, and with `--all` the keeper that it left behind. */
import { setTimeout as delay } from 'node:timers/promises';
import { Command } from 'commander';
import { stopKeeper, untilGone } from '../keeper/keeper-connection.ts';
import { systemErrorCode, WaggleError } from '../support/errors.ts';
import { StateLock } from '../support/state-lock.ts';
import { existingState, spoolOf, type StateOptions, withStateOptions } from './state-option.ts';

interface StopOptions extends StateOptions {
  readonly all?: boolean;
}

/** A daemon hands on what is committed before it ends. */
const STOP_PATIENCE_MS = 60_000;
const POLL_MS = 50;

export const stopCommand = (): Command =>
  withStateOptions(new Command('stop'))
    .description('Stop the daemon. Its keeper goes on, so that no transaction is missed until the next start; --all ends it, too.')
    .option('--all', 'the keeper, too: nothing of waggle touches the database any more')
    .action(stop);

const stop = async (options: StopOptions): Promise<void> => {
  const state = existingState(options);
  const pid = await stopDaemon(state);
  process.stdout.write(pid === null ? 'no daemon runs\n' : `daemon (pid ${pid}) stopped\n`);
  if (options.all !== true) return;
  const ended = await stopKeeper(spoolOf(state));
  await untilGone(spoolOf(state));
  const how = ended?.stopped?.clean === true ? ', with everything in the database file' : '';
  process.stdout.write(ended === null ? 'no keeper runs\n' : `keeper (pid ${ended.pid}) ended${how}\n`);
};

/** Null: none runs. Throws STATE_IN_USE where it does not end. */
const stopDaemon = async (state: string): Promise<number | null> => {
  const holder = StateLock.holder(state);
  if (holder === null) return null;
  try {
    process.kill(holder.pid, 'SIGTERM');
  } catch (error) {
    // It may just have ended.
    if (systemErrorCode(error) !== 'ESRCH')
      throw new WaggleError('STATE_IN_USE', `the daemon (pid ${holder.pid}) cannot be stopped: ${systemErrorCode(error) ?? 'unknown error'}`, {
        cause: error,
        hint: 'Run this as the user of the daemon.',
      });
  }
  const deadline = performance.now() + STOP_PATIENCE_MS;
  while (StateLock.holder(state) !== null) {
    if (performance.now() > deadline)
      throw new WaggleError('STATE_IN_USE', `the daemon (pid ${holder.pid}) did not end within ${STOP_PATIENCE_MS / 1000} s`, {
        hint: 'Look at its log, or kill it: nothing is lost.',
      });
    await delay(POLL_MS);
  }
  return holder.pid;
};
