/**
 * The application lives and dies while it writes, and so does the daemon: SIGKILL at random instants, wherever it stands.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { HiveApplication } from '../../test/helpers/hive-application.ts';
import type { Random } from '../../test/helpers/random.ts';
import { sinkStatuses } from '../../test/helpers/settled.ts';
import { WaggleProcess } from '../../test/helpers/waggle-process.ts';
import { say } from './progress.ts';
import type { Workspace } from './workspace.ts';

export interface Killing {
  /** The daemon that lived on. */
  readonly daemon: WaggleProcess;
  readonly kills: number;
  readonly lives: number;
  /** The last life of the application that was killed from outside can have committed what its oracle did not tell. */
  readonly untold: number;
}

const KILLS = 5;
const OPS_PER_LIFE = 330;
const RATE = 110;

/** How each life of the application ends. `outside`: SIGKILL from the demo, in the middle of its work. */
const ENDS = ['exit', 'outside', 'kill', 'stop'] as const;

export const killBoth = async (workspace: Workspace, random: Random): Promise<Killing> => {
  const writing = new Application(workspace, random);
  const written = writing.run();
  // Nobody awaits it while the daemon is being killed.
  written.catch(() => {});
  let daemon = startDaemon(workspace);
  let kills = 0;
  try {
    while (kills < KILLS) {
      // Two in three in the midst of its work, the others while it is still starting.
      if (kills % 3 !== 2) {
        await daemon.untilReady();
        await delay(500 + random.int(3500));
      } else {
        await delay(100 + random.int(600));
      }
      const doing = activity(workspace, daemon);
      await daemon.kill();
      kills += 1;
      say(`daemon killed (SIGKILL ${kills} of ${KILLS}) ${doing}`);
      if (random.chance(0.3)) await delay(random.int(300));
      daemon = startDaemon(workspace);
    }
    await daemon.untilReady();
    say(`daemon goes on: ${daemon.ready?.msg}`);
    writing.finish();
    await written;
    return { daemon, kills, lives: writing.lives, untold: writing.untold };
  } catch (error) {
    await daemon[Symbol.asyncDispose]();
    throw error;
  }
};

const startDaemon = ({ config }: Workspace): WaggleProcess => {
  const daemon = WaggleProcess.run(config);
  void daemon.exited.then(({ code }) => {
    if (code !== null && code !== 0) say(`the daemon ended by itself with exit status ${code}: ${daemon.stderr.trim().split('\n').at(-1)}`);
  });
  return daemon;
};

const activity = ({ state }: Workspace, daemon: WaggleProcess): string => {
  if (daemon.ready === undefined) return 'before it had begun';
  const filling = sinkStatuses(state).filter((status) => status.state === 'filling');
  const doing = filling.length > 0 ? `while ${filling.map((status) => status.name).join(' and ')} was being filled` : 'while streaming';
  return `${doing}, after "${daemon.ready.msg}"`;
};

/** One life after the other, each ended in another way, until told to finish; at least one of each. */
class Application {
  lives = 0;
  untold = 0;
  readonly #workspace: Workspace;
  readonly #random: Random;
  #finish = false;

  constructor(workspace: Workspace, random: Random) {
    this.#workspace = workspace;
    this.#random = random;
  }

  finish(): void {
    this.#finish = true;
  }

  async run(): Promise<void> {
    while (!this.#finish || this.lives < ENDS.length) {
      const end = ENDS[this.lives % ENDS.length]!;
      this.lives += 1;
      await using application = HiveApplication.start({
        dir: this.#workspace.app,
        ops: OPS_PER_LIFE,
        seed: this.#random.int(2 ** 31),
        rate: RATE,
        oracle: this.#workspace.nextOracle(),
        exit: end === 'outside' ? 'stop' : end,
        // The second life migrates: a column added, one dropped, a table rebuilt, a link table dropped and made again.
        ...(this.lives === 2 ? { ddlAt: 40 } : {}),
      });
      if (end === 'outside') {
        await Promise.race([application.ended, delay(1200 + this.#random.int(1000))]);
        if (application.isRunning) {
          await application.kill();
          this.untold += 1;
          say(`application killed from outside in its life ${this.lives}${this.lives === 2 ? ', after its migration' : ''}`);
          continue;
        }
      }
      await application.ended;
      say(`application: life ${this.lives} ended by ${HOW[end]}`);
    }
  }
}

const HOW: Record<(typeof ENDS)[number], string> = {
  exit: 'process.exit, as Blade does',
  outside: 'itself',
  kill: 'SIGKILL of itself',
  stop: 'hive.stop()',
};
