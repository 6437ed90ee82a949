/** `waggle verify` and `resync` of a sink that does nothing now: told, and never left waiting for what does not come. */
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { expect, it } from 'vitest';
import { SinkStore } from '../../src/pipeline/sink-store.ts';
import { DaemonScene } from '../helpers/daemon-scene.ts';
import { freePort } from '../helpers/free-port.ts';
import { sinkStatus } from '../helpers/settled.ts';
import { until } from '../helpers/until.ts';
import { expectOneLine, waggle } from '../helpers/waggle-command.ts';
import { WaggleProcess } from '../helpers/waggle-process.ts';

const openHive = (scene: DaemonScene): Database.Database => {
  const hive = new Database(scene.hive);
  hive.exec('PRAGMA journal_mode = WAL; CREATE TABLE items (id INTEGER PRIMARY KEY, n INT); INSERT INTO items VALUES (1, 9)');
  return hive;
};

/** What is asked of the sink and not answered yet. */
const open = (scene: DaemonScene, sink: string): unknown => {
  using store = SinkStore.openForReading(join(scene.state, 'sinks.db'));
  return store.nextTask(sink);
};

it('of a stopped sink ends with the error that stopped it, and is not done later; once it is mended it works, with a daemon of its own, too', async () => {
  await using scene = new DaemonScene({ hive: 'app.sqlite', sinks: { strict: '{ type: sqlite, file: strict.sqlite, on_error: stop }' } });
  const target = new Database(scene.path('strict.sqlite'));
  target.exec('CREATE TABLE items (id INTEGER PRIMARY KEY, n INT CHECK (n < 5))');
  const hive = openHive(scene);
  const run = (...args: string[]): ReturnType<typeof waggle> => waggle([...args, '-c', scene.config]);
  const daemon = await scene.startReady();
  await until('the sink to stop', () => sinkStatus(scene.state, 'strict')?.state === 'stopped');
  for (const kind of ['verify', 'resync'])
    expectOneLine(run(kind, 'strict'), 'SINK_ROW_REFUSED', 1, new RegExp(`the ${kind} cannot be done, the sink strict has stopped: .*items`));
  expect(open(scene, 'strict')).toBeNull();
  expect(run('status').stdout).toMatch(/^strict: could not be verified, .* has stopped: .*\[SINK_ROW_REFUSED\]$/m);
  expect(await daemon.stop()).toEqual({ code: 0, signal: null });

  target.exec('DROP TABLE items; CREATE TABLE items (id INTEGER PRIMARY KEY, n INT)');
  target.close();
  expect(run('verify', 'strict')).toMatchObject({ status: 0, stdout: expect.stringContaining('no difference') as string });
  hive.close();
}, 60_000);

it('of a sink that is only retried waits, and says for what', async () => {
  const port = await freePort();
  await using scene = new DaemonScene({
    hive: 'app.sqlite',
    sinks: { away: `{ type: postgres, url: "postgres://u:s3cret@127.0.0.1:${port}/none" }` },
  });
  const hive = openHive(scene);
  const daemon = await scene.startReady();
  await until('the sink to be retried', () => sinkStatus(scene.state, 'away')?.state === 'retrying');
  await using verify = new WaggleProcess(['verify', 'away', '-c', scene.config]);
  await until('the reason', () => verify.stderr.includes('\n'));
  expect(verify.stderr).toMatch(/^the verify waits: the sink away does not go on and is tried again and again: postgres 127.*\[SINK_UNREACHABLE\]/);
  expect(verify.stderr).not.toContain('s3cret');
  await until('another try', () => sinkStatus(scene.state, 'away')!.error!.tries > 4);
  expect(verify.stderr.split('\n').length).toBe(2);
  expect(waggle(['status', '-c', scene.config]).stdout).toMatch(/^away: a verification waits until the sink goes on$/m);
  await verify.kill();
  await daemon.stop();
  hive.close();
}, 60_000);
