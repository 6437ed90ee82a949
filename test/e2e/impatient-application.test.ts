/**
 * An application with pauses meets no SQLITE_BUSY that it would not have met without waggle: the same load, which by itself meets none,
 * alone and beside the daemon. WAGGLE_BUSY_TRANSACTIONS makes it longer, WAGGLE_SEED another one.
 */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { readKeeperStatus } from '../../src/keeper/keeper-connection.ts';
import { DaemonScene, EQUAL } from '../helpers/daemon-scene.ts';
import type { ImpatientReport } from '../helpers/impatient-application.ts';

const TRANSACTIONS = Number(process.env['WAGGLE_BUSY_TRANSACTIONS'] ?? 120);
const SEED = process.env['WAGGLE_SEED'] ?? '7';
const SCRIPT = fileURLToPath(new URL('../helpers/impatient-application.ts', import.meta.url));

const run = async (hive: string): Promise<ImpatientReport> => {
  const { stdout } = await promisify(execFile)(process.execPath, [SCRIPT, hive, SEED, String(TRANSACTIONS), '12']);
  return JSON.parse(stdout) as ImpatientReport;
};

it('an application that waits for nobody is refused nothing', { timeout: 60_000 + TRANSACTIONS * 400 }, async () => {
  await using scene = new DaemonScene({ hive: 'app.sqlite', sinks: { copy: '{ type: sqlite, file: copy.sqlite }' } });
  expect(await run(scene.path('alone.sqlite'))).toEqual({ transactions: TRANSACTIONS, refused: {} });

  // Capture begins with a file that is there.
  expect(await run(scene.hive)).toEqual({ transactions: TRANSACTIONS, refused: {} });
  const daemon = await scene.startReady();
  const beside = await run(scene.hive);
  const { stats } = (await readKeeperStatus(`${scene.state}/spool`))!;
  console.log(
    `seed ${SEED}: ${TRANSACTIONS} transactions beside ${stats.handOvers} hand-overs, ${stats.truncates} emptied WALs, ${stats.barriers} barriers`,
  );
  expect(beside).toEqual({ transactions: TRANSACTIONS, refused: {} });
  expect(stats.handOvers).toBeGreaterThan(TRANSACTIONS / 40);
  await scene.settled();
  await daemon.stop();
  expect(scene.compareCopy(scene.path('copy.sqlite'))).toMatchObject(EQUAL);
});
