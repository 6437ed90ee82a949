/** Ends what keeps a hive after a test: the keeper of a state directory, whatever became of its daemon. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { KeeperConnection } from '../../src/keeper/keeper-connection.ts';
import { LOCK_NAME } from '../../src/keeper/protocol.ts';
import { FileLock } from '../../src/support/file-lock.ts';
import { until } from './until.ts';

/** By SIGKILL: the hive is thrown away. One that has not begun yet ends by itself when its directory is removed. */
export const endKeeper = async (stateDir: string): Promise<void> => {
  const spoolDir = join(stateDir, 'spool');
  const lock = join(spoolDir, LOCK_NAME);
  if (!existsSync(lock)) return;
  await until('the keeper to end', async () => {
    if (!FileLock.isHeld(lock)) return true;
    const connection = await KeeperConnection.toRunning(spoolDir);
    if (connection === null) return false;
    const hello = await connection.greeting();
    if (hello !== null) process.kill(hello.pid, 'SIGKILL');
    await connection.closed;
    return false;
  });
};
