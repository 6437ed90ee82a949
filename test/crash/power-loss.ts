/**
 * The machine dies behind each operation of a recording: what a disk can have then is written out, proven, and started again.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Position } from '../../src/change/change.ts';
import type { LedgerRecord } from '../../src/keeper/ledger-file.ts';
import { parseWalHeader } from '../../src/sqlite/wal.ts';
import type { Application } from './application.ts';
import { CaptureRun } from '../helpers/capture-run.ts';
import type { Recording } from './recording.ts';
import { FOLD_BYTES, HIVE, SCENE_DIRECTORIES, STATE, TOLD } from './scene-paths.ts';
import { type Loss, SimulatedDisk } from './simulated-disk.ts';
import { writeScene } from './simulated-scene.ts';
import { proveState, type StateReport, type Timeline } from './state-proof.ts';
import type { Moment } from './oracle.ts';

export interface Death {
  /** Operations that were done. */
  readonly at: number;
  /** Of the state directory, and of the hive. */
  readonly state: Loss;
  readonly hive: Loss;
  readonly seed: number;
}

export interface DeathReport {
  readonly isRestarted: boolean;
  readonly recovered: number;
  readonly isNewLog: boolean;
}

/** Numbers of operations behind which the machine can die differently: each that changes the state directory. */
export const deathPoints = ({ operations }: Recording): number[] => {
  const inodes = new Map<number, string>();
  const points: number[] = [0];
  operations.forEach((operation, index) => {
    if ('path' in operation) inodes.set(operation.inode, operation.path);
    const path = 'path' in operation ? operation.path : (inodes.get(operation.inode) ?? '');
    const isChange = operation.kind !== 'open' && operation.kind !== 'syncBegin';
    if (isChange && path.startsWith(`${STATE}/`) && !path.endsWith('-shm')) points.push(index + 1);
  });
  return points;
};

/** Plays a recording forward; deaths must come in the order of their places. */
export class PowerLoss {
  readonly #recording: Recording;
  readonly #application: Application;
  readonly #disk = new SimulatedDisk(SCENE_DIRECTORIES);
  #done = 0;

  constructor(recording: Recording, application: Application) {
    this.#recording = recording;
    this.#application = application;
  }

  /** Throws what does not hold. */
  async die(death: Death, options: { readonly restart: boolean }): Promise<DeathReport> {
    const { scene, durability, operations, first, moments } = this.#recording;
    for (; this.#done < death.at; this.#done += 1) this.#disk.apply(operations[this.#done]!);
    writeScene({ scene, disk: this.#disk, ...death });
    const [hive, stateDir] = [join(scene, HIVE), join(scene, STATE)];
    // What the log promises: with `fsync` everything, else what no kill can take.
    const isSafe = durability === 'fsync' || death.state === 'nothing';
    const told = readTold(join(scene, TOLD));
    const report = await proveState({ stateDir, hive, durability, timeline: { first, before: moments, after: [] } });
    if (isSafe) assertKept(report, told);
    if (!options.restart) return { isRestarted: false, recovered: 0, isNewLog: false };

    const mayHaveGap = !isSafe || death.hive !== 'nothing' || this.#isEndUnproven(death, report.state?.position ?? null);
    const there = await this.#application.open(hive);
    const after: Moment[] = [there];
    try {
      if (death.seed % 2 === 0) after.push(...(await this.#application.write(1)));
      const run = new CaptureRun({ hive, stateDir, durability, onGap: isSafe ? 'fail' : 'snapshot', foldBytes: FOLD_BYTES });
      if (await run.ready()) after.push(...(await this.#application.write(2)));
      const error = await run.stop();
      if (error !== null) throw error;
    } finally {
      await this.#application.close();
    }
    // Behind it there were two transactions more.
    const ready = after.at(-3)!;
    // What was written before capture was ready stands in its first state.
    const timeline: Timeline =
      report.state === null
        ? { first: ready, before: new Map(), after: after.slice(-3) }
        : { first, before: moments, after, headSeq: report.headSeq, ready };
    return this.#proveRestart({ stateDir, hive, timeline, isSafe, mayHaveGap });
  }

  async #proveRestart(parts: { stateDir: string; hive: string; timeline: Timeline; isSafe: boolean; mayHaveGap: boolean }): Promise<DeathReport> {
    const { stateDir, hive, timeline, isSafe, mayHaveGap } = parts;
    const { durability } = this.#recording;
    const { history } = await proveState({ stateDir, hive, durability, timeline });
    assert(history !== null, 'nothing was captured at the restart');
    assert.equal(history.last, timeline.after.at(-1), `the log ends at transaction ${history.last.n}`);
    assert(!isSafe || !history.isNew, 'the log was begun anew');
    assert(mayHaveGap || history.recovered === 0, 'a net effect was logged where every transaction could be had');
    return { isRestarted: true, recovered: history.recovered, isNewLog: history.isNew };
  }

  /**
   * The WAL was started over behind the position, and the keeper had not yet written down for good where the generation ended, or
   * not yet with a print of the database file: then nothing proves that what follows follows directly.
   */
  #isEndUnproven(death: Death, position: Position | null): boolean {
    if (position === null || position.frame === 0) return true;
    const { scene } = this.#recording;
    const wal = readIfThere(join(scene, `${HIVE}-wal`));
    const header = wal === null ? null : parseWalHeader(wal);
    const frames = header === null ? null : { salt1: header.salt1, salt2: header.salt2 };
    if (frames !== null && frames.salt1 === position.salt1 && frames.salt2 === position.salt2) return false;
    const path = `${STATE}/spool/ledger.json`;
    const bytes = death.state === 'nothing' ? readIfThere(join(scene, path)) : this.#disk.durable(path);
    if (bytes === null) return true;
    const { current, previous, untouched } = JSON.parse(bytes.toString()) as LedgerRecord;
    if (previous === null) return true;
    if (current !== null) return current.salt1 !== frames?.salt1 || current.salt2 !== frames.salt2;
    const print = death.state === 'nothing' ? statSync(join(scene, HIVE), { bigint: true }).mtimeNs : this.#disk.timeNs(HIVE);
    return untouched === null || untouched.modified !== String(print);
  }
}

const readIfThere = (path: string): Buffer | null => (existsSync(path) ? readFileSync(path) : null);

/** The seq that readers had been told of. */
const readTold = (path: string): number => {
  try {
    return Number(readFileSync(path, 'utf8').trimEnd().split('\n').at(-1));
  } catch {
    return 0;
  }
};

const assertKept = (report: StateReport, told: number): void => {
  assert.equal(report.invalidMirror, null, `the mirror cannot be used: ${report.invalidMirror}`);
  assert(report.headSeq >= told, `readers had seen seq ${told}, the log ends at ${report.headSeq}`);
};
