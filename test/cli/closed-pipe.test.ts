/** `waggle … | head`: a reader that has seen enough is no error. (`tail` has its own test.) */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { DaemonScene } from '../helpers/daemon-scene.ts';
import { LAUNCHER } from '../helpers/waggle-command.ts';

const scene = new DaemonScene({ hive: 'app.sqlite', sinks: { copy: '{ type: sqlite, file: copy.sqlite }' } });

beforeAll(async () => {
  const hive = new Database(scene.hive);
  hive.exec('PRAGMA journal_mode = WAL; CREATE TABLE items (id TEXT PRIMARY KEY); INSERT INTO items VALUES (NULL), (NULL)');
  const daemon = await scene.startReady();
  await scene.settled();
  await daemon.stop();
  hive.close();
});

afterAll(() => scene[Symbol.asyncDispose]());

it.each([
  ['stdout', ['status', '-c', scene.config]],
  ['stdout', ['dead-letters', 'list', '-c', scene.config]],
  ['stdout', ['dead-letters', 'list', '--json', '-c', scene.config]],
  ['stdout', ['--help']],
  ['stdout', ['doctor', scene.hive]],
  ['stderr', ['status', '-c', join(scene.dir, 'none.yaml')]],
] as const)('a closed %s: waggle %j', async (closed, args) => {
  const child = spawn(process.execPath, [LAUNCHER, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  // Long before the command can have written anything.
  child[closed].destroy();
  let told = '';
  for (const stream of [child.stdout, child.stderr]) if (!stream.destroyed) stream.setEncoding('utf8').on('data', (text: string) => (told += text));
  const status = await new Promise<number | null>((resolve) => child.once('close', resolve));
  expect({ status, told }).toEqual({ status: closed === 'stdout' ? 0 : 2, told: '' });
});
