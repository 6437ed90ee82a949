/**
 * `waggle pause` and `waggle resume`: for what an application can only do while nobody else has the database open
 * (`journal_mode=DELETE`, `locking_mode=EXCLUSIVE`). A daemon that runs goes on with its sinks.
 */
import { Command } from 'commander';
import { setPaused } from '../capture/pause-flag.ts';
import { stopKeeper, untilGone } from '../keeper/keeper-connection.ts';
import { existingState, spoolOf, type StateOptions, withStateOptions } from './state-option.ts';

export const pauseCommand = (): Command =>
  withStateOptions(new Command('pause'))
    .description("Close waggle's connections to the database, until `waggle resume`. Also over a restart of the daemon.")
    .action(pause);

export const resumeCommand = (): Command =>
  withStateOptions(new Command('resume'))
    .description('Capture again after `waggle pause`. What was committed meanwhile can come as one recovered transaction.')
    .action(resume);

const pause = async (options: StateOptions): Promise<void> => {
  const state = existingState(options);
  setPaused(state, true);
  await stopKeeper(spoolOf(state));
  // A keeper that ends with its daemon is ended by that one.
  await untilGone(spoolOf(state));
  process.stdout.write('paused: waggle has no connection to the database\n');
};

const resume = (options: StateOptions): void => {
  setPaused(existingState(options), false);
  process.stdout.write('resumed\n');
};
