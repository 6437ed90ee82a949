/**
 * History that survives restarts: while the keeper lives, whatever happens to the daemon costs no single transaction. At length:
 *
 *     WAGGLE_KEEPER_KILLS=500 WAGGLE_KEEPER_BOTH_KILLS=50 npx vitest run test/crash/outliving-keeper.test.ts
 *
 * The seed (WAGGLE_CRASH_SEED) fixes every choice; where a kill hits depends on the machine, too.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { readKeeperStatus } from '../../src/keeper/keeper-connection.ts';
import { keeperLogPath } from '../../src/keeper/keeper-log.ts';
import { LOCK_NAME } from '../../src/keeper/protocol.ts';
import { FileLock } from '../../src/support/file-lock.ts';
import { DaemonScene } from '../helpers/daemon-scene.ts';
import { HiveApplication } from '../helpers/hive-application.ts';
import { beginningOf, proveHistory, type Proof } from '../helpers/hive-proof.ts';
import { Random } from '../helpers/random.ts';
import type { TableModel } from '../helpers/table-model.ts';
import { until } from '../helpers/until.ts';
import type { WaggleProcess } from '../helpers/waggle-process.ts';

const KILLS = Number(process.env['WAGGLE_KEEPER_KILLS'] ?? 10);
const BOTH_KILLS = Number(process.env['WAGGLE_KEEPER_BOTH_KILLS'] ?? 4);
const SEED = Number(process.env['WAGGLE_CRASH_SEED'] ?? Math.floor(Math.random() * 1_000_000));
const OPS_PER_LIFE = 150;
const RATE = 90;
const SPOOL_BYTES = 50e6;

/** A hive with a history before waggle, a daemon on it, and an application that lives again and again until told to finish. */
class Scene extends DaemonScene {
  readonly random = new Random(SEED);
  readonly oracles: string[] = [];
  beginning: TableModel | null = null;
  #isResting = false;

  async begin(): Promise<WaggleProcess> {
    await HiveApplication.run({ dir: this.app, ops: 40, seed: SEED });
    const daemon = await this.startReady();
    this.beginning = beginningOf(this.hive, this.log);
    return daemon;
  }

  get spool(): string {
    return join(this.state, 'spool');
  }

  /** One life. `stop` closes the database: as the last connection, if nobody else had it open. */
  live(exit: 'stop' | 'exit', parts: { ops?: number; rate?: number; ddlAt?: number } = {}): Promise<unknown> {
    const oracle = this.path(`oracle-${this.oracles.length}.ndjson`);
    this.oracles.push(oracle);
    return HiveApplication.run({ dir: this.app, ops: OPS_PER_LIFE, rate: RATE, seed: this.random.int(2 ** 31), oracle, exit, ...parts });
  }

  /** Lives, with and without a pause between them, until the signal. */
  async liveOn(signal: AbortSignal): Promise<void> {
    for (let life = 0; !signal.aborted; life += 1) {
      while (this.#isResting) await delay(20);
      await this.live(life % 2 === 0 ? 'stop' : 'exit', life === 1 ? { ddlAt: 60 } : {});
      // Long enough for the keeper to empty the WAL.
      if (life % 3 === 1) await delay(this.random.int(4000));
    }
  }

  async keeperPid(): Promise<number> {
    return until('the keeper', async () => (await readKeeperStatus(this.spool))?.pid, { told: () => this.#keeperLog() });
  }

  /** Why a keeper ended stands there. */
  #keeperLog(): string {
    return readFileSync(keeperLogPath(this.spool), 'utf8').slice(-3000);
  }

  /** A daemon that is always killed before it has caught up would let the spool reach its limit. */
  async spoolBelow(bytes: number, daemon: WaggleProcess): Promise<void> {
    let status = (await readKeeperStatus(this.spool))!;
    if (status.spool.bytes < bytes) return;
    // On a busy machine capture, which steps back behind the application, might never catch up with it.
    this.#isResting = true;
    const told = (): string => `${JSON.stringify(status)}\n${daemon.stderr.slice(-3000)}\n${this.#keeperLog()}`;
    await until(
      'the daemon to catch up',
      async () => {
        if (daemon.exit !== null) throw new Error(`the daemon ended by itself: ${told()}`);
        status = (await readKeeperStatus(this.spool))!;
        return status.spool.bytes < bytes / 10;
      },
      { deadlineMs: 120_000, told },
    );
    this.#isResting = false;
  }

  /** Still the same one; why a keeper ended stands in its log. */
  async expectKeeper(pid: number): Promise<void> {
    const now = await this.keeperPid();
    if (now !== pid) throw new Error(`the keeper is ${now} and no longer ${pid}: ${this.#keeperLog()}`);
  }

  prove(): Proof {
    return proveHistory({ hive: this.hive, log: this.log, beginning: this.beginning!, oracles: this.oracles });
  }
}

it(`only the daemon is killed, ${KILLS} times: nothing is recovered (seed ${SEED})`, { timeout: 120_000 + KILLS * 6000 }, async () => {
  await using scene = new Scene();
  let daemon = await scene.begin();
  const keeper = await scene.keeperPid();
  const end = new AbortController();
  const living = scene.liveOn(end.signal);
  living.catch(() => {});
  const beginnings: Record<string, number> = {};
  for (let kills = 0; kills < KILLS; kills += 1) {
    // One in three is killed before it is ready, wherever it stands then.
    if (scene.random.chance(0.66)) await daemon.untilReady();
    await delay(scene.random.int(500));
    if (daemon.exit !== null) throw new Error(`the daemon ended by itself: ${daemon.stderr.slice(-3000)}`);
    await scene.spoolBelow(SPOOL_BYTES, daemon);
    const began = daemon.ready?.msg ?? 'killed before it was ready';
    beginnings[began] = (beginnings[began] ?? 0) + 1;
    await daemon.kill();
    await scene.expectKeeper(keeper);
    if (scene.random.chance(0.2)) await delay(scene.random.int(2500));
    daemon = scene.start();
  }
  await daemon.untilReady();
  end.abort();
  await living;
  await scene.settled();
  await scene.expectKeeper(keeper);
  expect(await daemon.stop()).toEqual({ code: 0, signal: null });
  const proof = scene.prove();
  console.log(
    `seed ${SEED}: ${KILLS} kills of the daemon, ${scene.oracles.length} lives of the application; ${JSON.stringify({ ...proof, beginnings })}`,
  );
  expect(proof.recovered).toBe(0);
  expect(beginnings['capturing; what happened meanwhile is recorded as one recovered transaction']).toBeUndefined();
});

it(`daemon and keeper are killed, ${BOTH_KILLS} times: at most recovered transactions`, { timeout: 120_000 + BOTH_KILLS * 10_000 }, async () => {
  await using scene = new Scene();
  let daemon = await scene.begin();
  const end = new AbortController();
  const living = scene.liveOn(end.signal);
  living.catch(() => {});
  for (let kills = 0; kills < BOTH_KILLS; kills += 1) {
    await daemon.untilReady();
    await delay(scene.random.int(800));
    const pids = [await scene.keeperPid(), daemon.pid];
    if (scene.random.chance(0.5)) pids.reverse();
    for (const pid of pids) process.kill(pid, 'SIGKILL');
    await daemon.exited;
    // While nobody holds the WAL the application may start it over.
    await delay(scene.random.int(1500));
    daemon = scene.start();
  }
  await daemon.untilReady();
  end.abort();
  await living;
  await scene.settled();
  expect(await daemon.stop()).toEqual({ code: 0, signal: null });
  console.log(`${BOTH_KILLS} kills of both: ${JSON.stringify(scene.prove())}`);
});

it('the keeper alone is killed: the daemon gets a new one, and goes on', { timeout: 60_000 }, async () => {
  await using scene = new Scene();
  const daemon = await scene.begin();
  const living = scene.live('stop', { ops: 400 });
  living.catch(() => {});
  for (let kills = 0; kills < 3; kills += 1) {
    const keeper = await scene.keeperPid();
    process.kill(keeper, 'SIGKILL');
    await until('another keeper', async () => {
      const status = await readKeeperStatus(scene.spool);
      return status !== null && status.pid !== keeper && status.attached;
    });
  }
  await living;
  await scene.settled();
  expect(await daemon.stop()).toEqual({ code: 0, signal: null });
  scene.prove();
});

it.each(['spool: 2MB', 'patience: 300ms'])('a limit is exceeded (%s): told, and one recovered transaction', { timeout: 90_000 }, async (limit) => {
  await using scene = new Scene({ lines: [`keeper: { ${limit} }`] });
  const first = await scene.begin();
  await scene.live('stop', { ops: 20 });
  await scene.settled();
  await first.stop();
  await scene.live('stop', { ops: 250, rate: 2000 });
  await until('the keeper to let go', () => !FileLock.isHeld(join(scene.spool, LOCK_NAME)));
  // The last connection of this life is the last of all: the WAL goes with it.
  await scene.live('stop', { ops: 20 });
  const second = await scene.startReady();
  expect(second.ready?.msg).toBe('capturing; what happened meanwhile is recorded as one recovered transaction');
  const told = await second.line('the keeper let go', (line) => line.code === 'PIN_LOST');
  expect(told.msg).toContain(`keeper.${limit.split(':')[0]}`);
  await scene.live('stop', { ops: 20 });
  await scene.settled();
  expect(await second.stop()).toEqual({ code: 0, signal: null });
  expect(scene.prove().recovered).toBe(1);
});

it('stopped, a thousand transactions by an application that restarts, started: every one by itself', { timeout: 90_000 }, async () => {
  await using scene = new Scene();
  const first = await scene.begin();
  await scene.live('stop', { ops: 20 });
  expect(await first.stop('SIGTERM')).toEqual({ code: 0, signal: null });
  for (let life = 0; life < 4; life += 1) await scene.live('stop', { ops: 250, rate: 2000 });
  const alone = await readKeeperStatus(scene.spool);
  expect(alone).toMatchObject({ attached: false });
  expect(alone!.undrainedFrames).toBeGreaterThan(1000);
  const second = await scene.startReady();
  expect(second.ready?.msg).toBe('capturing from where it stood');
  await scene.settled();
  expect(await second.stop()).toEqual({ code: 0, signal: null });
  expect(scene.prove()).toMatchObject({ recovered: 0 });
  expect((await readKeeperStatus(scene.spool))!.undrainedFrames).toBe(0);
});
