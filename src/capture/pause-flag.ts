/** `waggle pause` leaves a file in the state directory: as long as it is there, no keeper of this directory touches the hive. */
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const NAME = 'paused';

export const isPaused = (stateDir: string): boolean => existsSync(join(stateDir, NAME));

export const setPaused = (stateDir: string, paused: boolean): void => {
  const path = join(stateDir, NAME);
  if (paused) writeFileSync(path, `${new Date().toISOString()}\n`, { mode: 0o600 });
  else rmSync(path, { force: true });
};
