/** Commands that speak of a state directory: by the configuration that names it, or by itself. */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { loadStatePlace, type StatePlace } from '../config/load-config.ts';
import { WaggleError } from '../support/errors.ts';
import { warn } from './report-error.ts';

export interface StateOptions {
  readonly config: string;
  readonly state?: string;
}

export const withStateOptions = (command: Command): Command =>
  command
    .option('-c, --config <file>', 'the configuration', 'waggle.yaml')
    .option('--state <dir>', 'the state directory, instead of that of a configuration')
    .option('--verbose', 'show the trace of an error');

export const placeOf = ({ state, config }: StateOptions): StatePlace =>
  state === undefined ? loadStatePlace(config) : { state: resolve(state), fault: null };

/** Absolute path. What is wrong with the rest of the configuration is told as a warning. Throws CONFIG_…. */
export const stateOf = (options: StateOptions): string => {
  const { state, fault } = placeOf(options);
  if (fault !== null) warn(fault);
  return state;
};

/** Throws STATE_MISSING where no daemon has ever begun. */
export const existingState = (options: StateOptions): string => {
  const state = stateOf(options);
  if (!existsSync(state)) throw new WaggleError('STATE_MISSING', `there is no ${state}`);
  return state;
};

/** Where the keeper of a state directory is found. */
export const spoolOf = (state: string): string => join(state, 'spool');
