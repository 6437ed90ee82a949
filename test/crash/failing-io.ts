/**
 * The n-th operation on the state directory fails, of capture, of SQLite in it, or of the keeper: EIO, no space, a short write, a
 * write that is torn and then fails, a process that dies in the middle. For n = 1, 2, 3, … until a run passes without the
 * fault. Whatever capture makes of it, afterwards it goes on, and the log is the hive's history.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Application } from './application.ts';
import { CaptureChild } from './capture-child.ts';
import { CaptureRun } from '../helpers/capture-run.ts';
import { DiskFaults, type FaultKind, shimEnvironment } from './disk-shim.ts';
import type { Moment } from './oracle.ts';
import type { Recording } from './recording.ts';
import { FOLD_BYTES, HIVE, SCENE_DIRECTORIES, STATE } from './scene-paths.ts';
import { SimulatedDisk } from './simulated-disk.ts';
import { writeScene } from './simulated-scene.ts';
import { proveState } from './state-proof.ts';

export const FAULT_KINDS: readonly FaultKind[] = ['EIO', 'ENOSPC', 'short', 'torn', 'die'];

export interface FaultReport {
  /** False: the run had fewer operations. */
  readonly hasFired: boolean;
  readonly what: string;
  /** Null: capture went on by itself; else what it ended with. */
  readonly error: string | null;
  readonly recovered: number;
}

export class FailingIo implements Disposable {
  readonly #recording: Recording;
  readonly #application: Application;
  readonly #control: DiskFaults;
  readonly #library: string;
  /** Everything that the recording wrote, up to somewhere in it. */
  readonly #disk = new SimulatedDisk(SCENE_DIRECTORIES);

  constructor(options: { recording: Recording; application: Application; library: string; control: string; at: number }) {
    const { recording, application, library, control, at } = options;
    this.#recording = recording;
    this.#application = application;
    this.#library = library;
    this.#control = new DiskFaults(control);
    for (const operation of recording.operations.slice(0, at)) this.#disk.apply(operation);
  }

  /** One run on a fresh copy of the state directory; n = 0: nothing fails. Throws what does not hold. */
  async run(n: number, kind: FaultKind): Promise<FaultReport> {
    const { scene, durability, first, moments } = this.#recording;
    const [hive, stateDir] = [join(scene, HIVE), join(scene, STATE)];
    writeScene({ scene, disk: this.#disk, state: 'nothing', hive: 'nothing', seed: n });

    const after: Moment[] = [await this.#application.open(hive)];
    try {
      const write = async (count: number): Promise<void> => void after.push(...(await this.#application.write(count)));
      const error = await this.#captureWithFault({ n, kind, scene, write });
      this.#control.disarm();
      const { hasFired, what } = this.#control;
      const run = new CaptureRun({ hive, stateDir, durability, foldBytes: FOLD_BYTES });
      await run.ready();
      await write(1);
      const end = await run.stop();
      if (end !== null) throw end;
      const { history } = await proveState({ stateDir, hive, durability, timeline: { first, before: moments, after } });
      assert(history !== null && history.last === after.at(-1), `the log ends at transaction ${history?.last.n} of ${after.at(-1)!.n}`);
      assert(!history.isNew, 'the log was begun anew');
      return { hasFired, what, error, recovered: history.recovered };
    } finally {
      this.#control.disarm();
      await this.#application.close();
    }
  }

  /** Gives what capture ended with, or null. */
  async #captureWithFault(parts: { n: number; kind: FaultKind; scene: string; write: (count: number) => Promise<void> }): Promise<string | null> {
    const { n, kind, scene, write } = parts;
    this.#control.arm({ scope: join(scene, STATE), n, kind });
    const environment = shimEnvironment({ library: this.#library, dir: scene, control: this.#control.path });
    await using capture = new CaptureChild({ scene, durability: this.#recording.durability, environment });
    if (await capture.ready()) {
      for (const count of [1, 12, 2]) {
        const head = capture.head();
        await write(count);
        if (!(await head)) break;
        // The keeper hands over in a pause.
        await delay(10);
      }
    }
    // Awaited here: behind the return it is killed.
    return await capture.stop();
  }

  [Symbol.dispose](): void {
    this.#control[Symbol.dispose]();
  }
}
