/** The main job: real Hive, the real daemon, every transaction and every row. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DaemonScene, EQUAL } from '../helpers/daemon-scene.ts';
import { effective, readOracle } from '../helpers/hive-oracle.ts';
import { HiveApplication } from '../helpers/hive-application.ts';
import { beginningOf, proveHistory } from '../helpers/hive-proof.ts';
import { replayJsonl } from '../helpers/jsonl-replay.ts';
import { type MariadbServer, mariadbBinary, startMariadb } from '../helpers/mariadb-server.ts';
import { type MongoServer, mongoServerPossible, startMongoServer } from '../helpers/mongo-server.ts';
import { type PostgresServer, postgresBinaries, serversRequired, startPostgres } from '../helpers/postgres-server.ts';
import { difference, readSqliteRows } from '../helpers/row-sets.ts';
import type { TableModel } from '../helpers/table-model.ts';
import type { Exit } from '../helpers/waggle-process.ts';

const OPS = Number(process.env['WAGGLE_E2E_OPS'] ?? 1000);
const SEED = Number(process.env['WAGGLE_E2E_SEED'] ?? 7);
const hasPostgres = serversRequired() || (await postgresBinaries()) !== null;
const hasMariadb = serversRequired() || (await mariadbBinary()) !== null;
const hasMongo = serversRequired() || mongoServerPossible();

describe(`a Hive with ${OPS} operations (seed ${SEED}), captured by waggle run`, () => {
  let postgres: PostgresServer | null = null;
  let mariadb: MariadbServer | null = null;
  let mongo: MongoServer | null = null;
  let scene: DaemonScene;
  let beginning: TableModel;
  let oracle: string;
  let exit: Exit;

  beforeAll(async () => {
    if (hasPostgres) postgres = await startPostgres();
    if (hasMariadb) mariadb = await startMariadb();
    if (hasMongo) mongo = await startMongoServer('rs');
    const sinks: Record<string, string> = {
      copy: '{ type: sqlite, file: copy.sqlite }',
      local: '{ type: pglite, dir: pg }',
      changes: '{ type: jsonl, file: changes.jsonl }',
    };
    if (postgres !== null) sinks['server'] = `{ type: postgres, url: "${postgres.url}" }`;
    if (mariadb !== null) sinks['maria'] = `{ type: mysql, url: "${mariadb.url}" }`;
    if (mongo !== null) sinks['documents'] = `{ type: mongodb, url: "${mongo.url}" }`;
    scene = new DaemonScene({ sinks });
    oracle = scene.path('oracle.ndjson');
    // Some rows are there before capture begins.
    await HiveApplication.run({ dir: scene.app, ops: 60, seed: SEED + 1 });
    const daemon = await scene.startReady();
    beginning = beginningOf(scene.hive, scene.log);
    // All that a Hive does: a migration, and snapshots, which checkpoint with TRUNCATE at any moment.
    await HiveApplication.run({
      dir: scene.app,
      ops: OPS,
      seed: SEED,
      ddlAt: Math.floor(OPS * 0.4),
      snapshotEvery: Math.ceil(OPS / 5),
      oracle,
      exit: 'exit',
    });
    await scene.settled();
    exit = await daemon.stop();
  }, 150_000);

  afterAll(async () => {
    await scene?.[Symbol.asyncDispose]();
    await Promise.all([postgres?.stop(), mariadb?.stop(), mongo?.stop()]);
  });

  it('logs every transaction as the oracle tells it, in order, one by one', () => {
    expect(exit).toEqual({ code: 0, signal: null });
    const proof = proveHistory({ hive: scene.hive, log: scene.log, beginning, oracles: [oracle] });
    // Upserts that change nothing leave no transaction; nothing else may be missing.
    const upserts = effective(readOracle(oracle)).filter((entry) => entry.op === 'upsert').length;
    expect(proof.recovered).toBe(0);
    expect(proof.covered).toBe(0);
    expect(proof.matched).toBe(proof.transactions);
    expect(proof.matched).toBeGreaterThanOrEqual(effective(readOracle(oracle)).length - upserts);
  });

  it('ends with equal tables in the SQLite sink', () => {
    expect(scene.compareCopy(scene.path('copy.sqlite'))).toMatchObject(EQUAL);
  });

  it('ends with equal tables in the PGlite sink', async () => {
    expect(await scene.comparePglite(scene.path('pg'))).toMatchObject(EQUAL);
  });

  it.skipIf(!hasPostgres)('ends with equal tables in the Postgres sink', async () => {
    expect(await scene.comparePostgres(postgres!.url)).toMatchObject(EQUAL);
  });

  it.skipIf(!hasMariadb)('ends with equal tables in the MariaDB sink', async () => {
    expect(await scene.compareMysql(mariadb!.url)).toMatchObject(EQUAL);
  });

  it.skipIf(!hasMongo)('ends with equal collections, of the same types, in the MongoDB sink', async () => {
    expect(await scene.compareMongo(mongo!.url)).toMatchObject(EQUAL);
  });

  it('ends with the same state in whoever replays the jsonl file', () => {
    const replay = replayJsonl(scene.path('changes.jsonl'));
    const text = readSqliteRows(scene.hive, 'text');
    expect(replay.faults).toEqual([]);
    expect(replay.filled).toBeGreaterThan(0);
    expect(difference(text, replay.rowsLike(text))).toMatchObject(EQUAL);
  });
});
