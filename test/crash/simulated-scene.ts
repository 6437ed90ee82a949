/** A scene as a simulated disk has it, in real files. */
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Random } from '../helpers/random.ts';
import { HIVE, STATE } from './scene-paths.ts';
import type { Loss, SimulatedDisk } from './simulated-disk.ts';

export interface SceneOptions {
  /** What stood there is deleted. */
  readonly scene: string;
  readonly disk: SimulatedDisk;
  /** What is lost of the state directory, and of the hive. */
  readonly state: Loss;
  readonly hive: Loss;
  readonly seed: number;
}

export const writeScene = ({ scene, disk, state, hive, seed }: SceneOptions): void => {
  rmSync(scene, { recursive: true, force: true });
  disk.writeTo(scene, (path) => (path.startsWith(STATE) ? state : path.startsWith('hive') ? hive : 'nothing'), new Random(seed));
  // Memory, not a disk.
  for (const path of [`${HIVE}-shm`, `${STATE}/log.db-shm`]) rmSync(join(scene, path), { force: true });
  if (hive === 'nothing') setPrint(scene, disk);
};

/** The keeper's note of the database file's time stays true: here the file bears another one. */
const setPrint = (scene: string, disk: SimulatedDisk): void => {
  const ledger = join(scene, STATE, 'spool/ledger.json');
  const recorded = disk.timeNs(HIVE);
  if (recorded === null || !existsSync(ledger)) return;
  const now = statSync(join(scene, HIVE), { bigint: true }).mtimeNs;
  writeFileSync(ledger, readFileSync(ledger, 'utf8').replaceAll(String(recorded), String(now)));
};
