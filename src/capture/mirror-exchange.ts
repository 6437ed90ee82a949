/**
 * A mirror whose pages are of another size takes the place of the one before. It is made beside it, as of the next batch; the log then
 * commits that batch, and only then the directories change places:
 *
 *     mirror-next made ─► log commit ─► mirror deleted ─► mirror-next becomes mirror
 *
 * Killed before the log commit: mirror-next is ahead of the log and is deleted at the next start. Killed after: it is the one as of the
 * log's batch, and takes its place at the next start.
 */
import { existsSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Mirror } from '../mirror/mirror.ts';
import { syncDirectory } from '../support/file.ts';

export const mirrorDirectory = (stateDir: string): string => join(stateDir, 'mirror');
export const nextMirrorDirectory = (stateDir: string): string => join(stateDir, 'mirror-next');

/** `batchId`: the log's batch. Nobody has either mirror open. */
export const settleExchange = (stateDir: string, batchId: number): void => {
  const next = nextMirrorDirectory(stateDir);
  if (!existsSync(next)) return;
  if (Mirror.batchIdOf(next) !== batchId) {
    rmSync(next, { recursive: true });
    return;
  }
  rmSync(mirrorDirectory(stateDir), { recursive: true, force: true });
  renameSync(next, mirrorDirectory(stateDir));
  syncDirectory(stateDir);
};
