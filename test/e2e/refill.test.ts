/** The state directory is lost: sinks are filled again, and whoever reads their tables meanwhile always finds rows. */
import { rmSync } from 'node:fs';
import Database from 'better-sqlite3';
import { Client } from 'pg';
import { expect, it } from 'vitest';
import { DaemonScene, EQUAL } from '../helpers/daemon-scene.ts';
import { postgresBinaries, serversRequired, startPostgres } from '../helpers/postgres-server.ts';
import { sinkStatus } from '../helpers/settled.ts';
import { until } from '../helpers/until.ts';

const hasPostgres = serversRequired() || (await postgresBinaries()) !== null;
const ROWS = 30_000;

it.skipIf(!hasPostgres)('in Postgres and in a SQLite copy', { timeout: 120_000 }, async () => {
  await using server = await startPostgres();
  await using scene = new DaemonScene({
    hive: 'app.sqlite',
    sinks: { server: `{ type: postgres, url: "${server.url}" }`, copy: '{ type: sqlite, file: copy.sqlite }' },
  });
  const hive = new Database(scene.hive);
  hive.exec(`PRAGMA journal_mode = WAL; CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${ROWS}) INSERT INTO t SELECT 'row ' || i, printf('%.200c', 'x') FROM n`);
  const first = await scene.startReady();
  await scene.settled();
  await first.stop();
  await scene.endKeeper();
  rmSync(scene.state, { recursive: true });
  hive.exec("DELETE FROM t WHERE id IN ('row 1', 'row 2', 'row 3'); UPDATE t SET v = 'new' WHERE id = 'row 4'; INSERT INTO t VALUES ('later', 'y')");

  const admin = new Client({ connectionString: server.url });
  await admin.connect();
  const copy = new Database(scene.path('copy.sqlite'), { readonly: true });
  const counts = async (): Promise<number[]> => [
    Number((await admin.query<{ n: string }>('SELECT count(*) AS n FROM t')).rows[0]!.n),
    copy.prepare<[], number>('SELECT count(*) FROM t').pluck().get()!,
  ];
  const seen: number[][] = [];
  const again = scene.start();
  await until(
    'both to be filled',
    async () => {
      seen.push(await counts());
      return scene.sinks.every((name) => sinkStatus(scene.state, name)?.state === 'streaming');
    },
    { deadlineMs: 60_000, everyMs: 5 },
  );
  expect(again.stderr).toContain('SINK_CHECKPOINT_UNKNOWN');
  await scene.settled();
  expect(Math.min(...seen.flat())).toBeGreaterThanOrEqual(ROWS - 3);
  await again.stop();
  copy.close();
  await admin.end();
  hive.close();
  expect(scene.compareCopy(scene.path('copy.sqlite'))).toMatchObject(EQUAL);
  expect(await scene.comparePostgres(server.url)).toMatchObject(EQUAL);
});
