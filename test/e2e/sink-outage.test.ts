/** A sink that is away: the others go on, and it catches up by itself when it is back. */
import { expect, it } from 'vitest';
import { DaemonScene, EQUAL } from '../helpers/daemon-scene.ts';
import { freePort } from '../helpers/free-port.ts';
import { HiveApplication } from '../helpers/hive-application.ts';
import { PostgresOutage } from '../helpers/postgres-outage.ts';
import { postgresBinaries, serversRequired, startPostgres } from '../helpers/postgres-server.ts';
import { sinkStatus } from '../helpers/settled.ts';
import { until } from '../helpers/until.ts';

const hasPostgres = serversRequired() || (await postgresBinaries()) !== null;
const COPY = '{ type: sqlite, file: copy.sqlite }';

it('goes on with the other sinks when one cannot be reached at the start, and says so', { timeout: 60_000 }, async () => {
  const port = await freePort();
  await using scene = new DaemonScene({
    sinks: { copy: COPY, away: `{ type: postgres, url: "postgres://user:secret-word@127.0.0.1:${port}/none" }` },
  });
  await HiveApplication.run({ dir: scene.app, ops: 80, seed: 3 });
  const daemon = await scene.startReady();
  const told = await daemon.line('the failing sink', (line) => line.sink === 'away' && line.code !== undefined);
  expect(told.code).toBe('SINK_UNREACHABLE');
  expect(told.hint).toMatch(/keeps trying/);
  await HiveApplication.run({ dir: scene.app, ops: 80, seed: 4 });
  await scene.settled(['copy']);
  expect(sinkStatus(scene.state, 'away')).toMatchObject({ state: 'retrying', error: { code: 'SINK_UNREACHABLE' } });
  expect(await daemon.stop()).toEqual({ code: 0, signal: null });
  expect(daemon.stderr).not.toContain('secret-word');
  expect(daemon.stderr).not.toMatch(/\n\s+at /);
  expect(scene.compareCopy(scene.path('copy.sqlite'))).toMatchObject(EQUAL);
});

it.skipIf(!hasPostgres)('catches up by itself after a real Postgres was stopped under load and started again', { timeout: 90_000 }, async () => {
  await using postgres = await startPostgres();
  const outage = await PostgresOutage.of(postgres);
  await using scene = new DaemonScene({ sinks: { copy: COPY, server: `{ type: postgres, url: "${postgres.url}" }` } });
  await HiveApplication.run({ dir: scene.app, ops: 100, seed: 5 });
  const daemon = await scene.startReady();
  await scene.settled();

  await using application = HiveApplication.start({ dir: scene.app, ops: 600, seed: 6, rate: 120 });
  const moved = sinkStatus(scene.state, 'server')!.checkpoint!.seq;
  await until('the server to get changes', () => sinkStatus(scene.state, 'server')!.checkpoint!.seq > moved + 50);
  await outage.stop();
  const left = await until('the sink to notice', () => {
    const status = sinkStatus(scene.state, 'server')!;
    return status.state === 'retrying' && status;
  });
  expect(left.error?.code).toBe('SINK_UNREACHABLE');
  const behind = left.checkpoint!.seq;
  // Meanwhile the other one goes on.
  await until('the copy to go on', () => sinkStatus(scene.state, 'copy')!.checkpoint!.seq > behind + 100);
  await application.ended;
  await outage.start();
  await scene.settled();
  expect(sinkStatus(scene.state, 'server')).toMatchObject({ state: 'streaming' });
  expect(await daemon.stop()).toEqual({ code: 0, signal: null });
  expect(scene.compareCopy(scene.path('copy.sqlite'))).toMatchObject(EQUAL);
  expect(await scene.comparePostgres(postgres.url)).toMatchObject(EQUAL);
});
