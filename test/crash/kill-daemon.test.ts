/**
 * Nothing lost, nothing twice, while the daemon is killed at random instants and the application, too. At length:
 *
 *     WAGGLE_CRASH_OPS=5000 WAGGLE_CRASH_KILLS=20 WAGGLE_CRASH_APP_KILLS=5 npx vitest run test/crash
 *
 * The seed (WAGGLE_CRASH_SEED) fixes every choice; where a kill hits depends on the machine, too.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { DaemonScene, EQUAL } from '../helpers/daemon-scene.ts';
import { HiveApplication } from '../helpers/hive-application.ts';
import { readOracle } from '../helpers/hive-oracle.ts';
import { beginningOf, proveHistory } from '../helpers/hive-proof.ts';
import { replayJsonl } from '../helpers/jsonl-replay.ts';
import { type PostgresServer, postgresBinaries, serversRequired, startPostgres } from '../helpers/postgres-server.ts';
import { Random } from '../helpers/random.ts';
import { difference, type Difference, readSqliteRows } from '../helpers/row-sets.ts';

const setting = (name: string, fallback: number): number => Number(process.env[`WAGGLE_CRASH_${name}`] ?? fallback);
const OPS = setting('OPS', 900);
const KILLS = setting('KILLS', 4);
const APP_KILLS = setting('APP_KILLS', 2);
const SEED = setting('SEED', Math.floor(Math.random() * 1_000_000));
const RATE = 180;
const hasPostgres = serversRequired() || (await postgresBinaries()) !== null;

let inPostgres: Difference | null = null;

const crash = async (postgres: PostgresServer | null): Promise<void> => {
  const random = new Random(SEED);
  const sinks: Record<string, string> = {
    copy: '{ type: sqlite, file: copy.sqlite }',
    local: '{ type: pglite, dir: pg }',
    changes: '{ type: jsonl, file: changes.jsonl }',
  };
  if (postgres !== null) sinks['server'] = `{ type: postgres, url: "${postgres.url}" }`;
  await using scene = new DaemonScene({ sinks });
  await HiveApplication.run({ dir: scene.app, ops: 40, seed: SEED });
  let daemon = await scene.startReady();
  const beginning = beginningOf(scene.hive, scene.log);

  const application = new MortalApplication(scene, random);
  const writing = application.run();
  writing.catch(() => {});
  const beginnings: Record<string, number> = {};
  for (let kills = 0; kills < KILLS; kills += 1) {
    // One in four is killed before it is ready, wherever it stands then.
    if (random.chance(0.75)) await daemon.untilReady();
    await delay(20 + random.int(1200));
    if (daemon.exit !== null) throw new Error(`the daemon ended by itself: ${daemon.stderr.slice(-3000)}`);
    const began = daemon.ready?.msg ?? 'killed before it was ready';
    beginnings[began] = (beginnings[began] ?? 0) + 1;
    await daemon.kill();
    if (random.chance(0.3)) await delay(random.int(500));
    daemon = scene.start();
  }
  await daemon.untilReady();
  application.finish();
  await writing;
  await scene.settled();
  expect(await daemon.stop()).toEqual({ code: 0, signal: null });

  const proof = proveHistory({ hive: scene.hive, log: scene.log, beginning, oracles: application.oracles, untold: application.kills });
  console.log(`seed ${SEED}: ${KILLS} kills of the daemon, ${application.kills} of the application; ${JSON.stringify({ ...proof, beginnings })}`);
  expect(scene.compareCopy(scene.path('copy.sqlite'))).toMatchObject(EQUAL);
  expect(await scene.comparePglite(scene.path('pg'))).toMatchObject(EQUAL);
  if (postgres !== null) inPostgres = await scene.comparePostgres(postgres.url);
  const replay = replayJsonl(scene.path('changes.jsonl'));
  const text = readSqliteRows(scene.hive, 'text');
  expect(replay.faults).toEqual([]);
  expect(replay.lastSeq).toBe(proof.changes);
  expect(difference(text, replay.rowsLike(text))).toMatchObject(EQUAL);
};

/** Lives that end with SIGKILL in the middle of their work, then one that ends by itself. */
class MortalApplication {
  kills = 0;
  readonly oracles: string[] = [];
  readonly #scene: DaemonScene;
  readonly #random: Random;
  #finish = false;

  constructor(scene: DaemonScene, random: Random) {
    this.#scene = scene;
    this.#random = random;
  }

  /** The running life is the last one. */
  finish(): void {
    this.#finish = true;
  }

  async run(): Promise<void> {
    let done = 0;
    while (done < OPS || this.kills < APP_KILLS || !this.#finish) {
      const left = Math.max(OPS - done, 200);
      const oracle = this.#scene.path(`oracle-${this.oracles.length}.ndjson`);
      this.oracles.push(oracle);
      await using life = HiveApplication.start({
        dir: this.#scene.app,
        ops: left,
        seed: this.#random.int(2 ** 31),
        rate: RATE,
        ddlAt: 60,
        oracle,
        exit: 'exit',
      });
      if (this.kills < APP_KILLS) {
        const lifeMs = ((left / RATE) * 1000) / (APP_KILLS - this.kills + 1);
        await Promise.race([life.ended, delay(300 + this.#random.int(lifeMs))]);
        if (life.isRunning) {
          await life.kill();
          this.kills += 1;
        }
      }
      await life.ended;
      done += readOracle(oracle).length;
    }
  }
}

// A minute for the short form; a second for each kill and for each twenty operations more.
const timeout = 90_000 + KILLS * 5000 + OPS * 50;

it(
  `loses nothing and doubles nothing over ${KILLS} kills of the daemon and ${APP_KILLS} of the application (seed ${SEED})`,
  { timeout },
  async () => {
    const postgres = hasPostgres ? await startPostgres() : null;
    try {
      await crash(postgres);
    } finally {
      await postgres?.stop();
    }
  },
);

it.skipIf(!hasPostgres)('and so in a real Postgres', () => {
  expect(inPostgres).toMatchObject(EQUAL);
});
