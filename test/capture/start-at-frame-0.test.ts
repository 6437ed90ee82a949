/**
 * A position that no frame stands behind (a state read while the WAL was empty): the next start goes on there without comparing the
 * whole hive, whoever ended and how, as long as the database file is as it was. A comparison would begin another epoch.
 */
import { readdirSync, rmSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { expect, it } from 'vitest';
import { readKeeperStatus } from '../../src/keeper/keeper-connection.ts';
import type { StartNote } from '../../src/keeper/protocol.ts';
import { LogReader } from '../../src/log/log-reader.ts';
import { DaemonScene } from '../helpers/daemon-scene.ts';
import { readLogHistory } from '../helpers/log-history.ts';
import { logHead } from '../helpers/settled.ts';
import { until } from '../helpers/until.ts';
import type { WaggleProcess } from '../helpers/waggle-process.ts';

const positionOf = (scene: DaemonScene): string => {
  using reader = LogReader.open(scene.log);
  const { epoch, frame } = reader.info().state!.position;
  return `${epoch}:${frame}`;
};

/** A hive with an empty WAL, and no connection. */
const openScene = (outlive: boolean): DaemonScene => {
  const scene = new DaemonScene({ hive: 'app.sqlite', lines: [`keeper: { outlive: ${outlive} }`] });
  const database = new Database(scene.hive);
  database.pragma('journal_mode = WAL');
  database.exec('CREATE TABLE t (id INTEGER PRIMARY KEY)');
  database.close();
  return scene;
};

const commit = (scene: DaemonScene, count = 1): void => {
  const database = new Database(scene.hive);
  for (let row = 0; row < count; row += 1) database.exec('INSERT INTO t DEFAULT VALUES');
  database.close();
};

const killKeeper = async (scene: DaemonScene): Promise<void> => {
  const status = await readKeeperStatus(join(scene.state, 'spool'));
  if (status !== null) process.kill(status.pid, 'SIGKILL');
};

const ENDS: Record<string, { outlive: boolean; end: (scene: DaemonScene, daemon: WaggleProcess) => Promise<unknown> }> = {
  'an orderly end of daemon and keeper': { outlive: false, end: (_, daemon) => daemon.stop() },
  'an orderly end of the daemon': { outlive: true, end: (_, daemon) => daemon.stop() },
  'SIGKILL of the daemon': { outlive: true, end: (_, daemon) => daemon.kill() },
  'SIGKILL of both': {
    outlive: true,
    end: async (scene, daemon) => {
      await daemon.kill();
      await killKeeper(scene);
    },
  },
};

it.each(Object.entries(ENDS))('goes on without comparing after %s', { timeout: 60_000 }, async (_, { outlive, end }) => {
  await using scene = openScene(outlive);
  await end(scene, await scene.startReady());
  expect(positionOf(scene)).toBe('1:0');
  await end(scene, await scene.startReady());
  expect(positionOf(scene)).toBe('1:0');
  // Commits while the daemon is down are in the WAL, or the keeper has them; where no keeper lives, the last close writes the file.
  const isHeld = (await readKeeperStatus(join(scene.state, 'spool'))) !== null;
  const open = new Database(scene.hive);
  open.pragma('user_version');
  commit(scene, 3);
  const last = await scene.startReady();
  await until('the commits', () => logHead(scene.state) === 3);
  expect(last.ready?.msg).toBe('capturing from where it stood');
  const { transactions } = readLogHistory(scene.log);
  expect(transactions.map(({ recovered }) => recovered)).toEqual([false, false, false]);
  expect(transactions.every(({ txid }) => txid.startsWith('1:'))).toBe(true);
  expect(isHeld).toBe(outlive && end !== ENDS['SIGKILL of both']!.end);
  open.close();
  await last.stop();
});

it('goes on after an orderly end where the file had only just been written at the start', { timeout: 60_000 }, async () => {
  await using scene = openScene(false);
  // A last write that is not past yet could not be told from a later one.
  const writtenAtMs = Date.now() + 4000;
  utimesSync(scene.hive, new Date(), new Date(writtenAtMs));
  const daemon = await scene.startReady();
  const print = (): unknown => {
    using reader = LogReader.open(scene.log);
    return (JSON.parse(reader.info().state!.clean!) as StartNote).print;
  };
  expect(print()).toBeNull();
  await until('the write is past', () => Date.now() > writtenAtMs + 100);
  await daemon.stop();
  expect(print()).not.toBeNull();
  await (await scene.startReady()).stop();
  expect(positionOf(scene)).toBe('1:0');
});

it('compares where the file was written while nobody held it', { timeout: 60_000 }, async () => {
  await using scene = openScene(false);
  await (await scene.startReady()).stop();
  // The last close brings the commits into the file.
  commit(scene, 3);
  const last = await scene.startReady();
  await until('the difference', () => logHead(scene.state) === 3);
  expect(readLogHistory(scene.log).transactions.map(({ recovered, txid }) => [recovered, txid])).toEqual([[true, '2:0']]);
  await last.stop();
});

it('compares where another keeper has handed the WAL over and emptied it since', { timeout: 60_000 }, async () => {
  await using scene = openScene(true);
  const daemon = await scene.startReady();
  await daemon.kill();
  // A keeper that nobody reads, killed with all that it had spooled lost: its ledger alone says that the file is complete.
  const spool = join(scene.state, 'spool');
  const before = (await readKeeperStatus(spool))!;
  commit(scene, 3);
  await until('an empty WAL', async () => {
    const status = await readKeeperStatus(spool);
    return status!.generation > before.generation && status!.lastFrame === 0;
  });
  await killKeeper(scene);
  for (const name of readdirSync(spool)) if (name.endsWith('.frames')) rmSync(join(spool, name));
  const last = await scene.startReady();
  await until('the difference', () => logHead(scene.state) === 3);
  expect(readLogHistory(scene.log).transactions.map(({ recovered }) => recovered)).toEqual([true]);
  await last.stop();
});
