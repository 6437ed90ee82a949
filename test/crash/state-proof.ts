/** That log, mirror and position of a state directory agree, and that the log is the hive's history and nothing else. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { Replica } from '../../src/capture/replica.ts';
import type { CaptureState } from '../../src/log/capture-state.ts';
import { LogReader } from '../../src/log/log-reader.ts';
import { LogWriter } from '../../src/log/log-writer.ts';
import { Mirror } from '../../src/mirror/mirror.ts';
import { PAGE_SIZE } from './application-process.ts';
import type { Durability } from '../helpers/capture-run.ts';
import { changesBetween, changesOf, type Moment } from './oracle.ts';

/** The hive's history as SQLite tells it. */
export interface Timeline {
  /** Capture began here. */
  readonly first: Moment;
  /** By number, before the fault. */
  readonly before: ReadonlyMap<number, Moment>;
  /** What stood in the hive at the restart, and each transaction since; empty: it was not started again. */
  readonly after: readonly Moment[];
  /** Changes up to this one were logged before the fault. Two transactions before and after it may do the same. */
  readonly headSeq?: number;
  /** What stood in the hive when the restarted capture was ready: the first state of a log that it began anew. */
  readonly ready?: Moment;
}

export interface HistoryReport {
  /** Where the log ends. */
  readonly last: Moment;
  readonly transactions: number;
  /** Net effects of what nobody saw. */
  readonly recovered: number;
  /** Another log than the one that began the timeline: a new snapshot was taken at the restart. */
  readonly isNew: boolean;
}

const steps = new WeakMap<Moment, Map<Moment, string>>();

/** The changes of one step; the same steps are asked for again and again. */
const changesText = (from: Moment, to: Moment): string => {
  let known = steps.get(from);
  if (known === undefined) steps.set(from, (known = new Map()));
  let found = known.get(to);
  if (found === undefined) known.set(to, (found = changesBetween(from.state, to.state).join('\n')));
  return found;
};

/** Throws at the first logged transaction that is not the hive's next one, or a net effect that is not what happened. */
export const proveLog = (path: string, { first, before, after, headSeq = 0, ready = first }: Timeline): HistoryReport => {
  using reader = LogReader.open(path);
  const { head, firstSeq } = reader.info();
  const isNew = firstSeq !== 1;
  let at = isNew ? ready : first;
  let [seq, transactions, recovered] = [firstSeq - 1, 0, 0];
  for (;;) {
    const found = reader.transactionsAfter(seq, { maxTransactions: 500 });
    if (found.length === 0) break;
    for (const transaction of found) {
      const { info } = transaction;
      const changes = [...transaction.changes()].flat();
      assert.equal(info.firstSeq, seq + 1, `seq behind ${seq}`);
      changes.forEach((change, index) => assert.equal(change.seq, seq + 1 + index, `seq in transaction ${info.txid}`));
      seq = info.lastSeq;
      transactions += 1;
      const text = changesOf(changes).join('\n');
      if (info.recovered) {
        recovered += 1;
        const to = after.find((candidate) => changesText(at, candidate) === text);
        assert(to !== undefined, `the net effect ${info.txid} behind ${at.n} leads nowhere`);
        at = to;
        continue;
      }
      const next = seq <= headSeq ? following(at, before, []) : following(at, before, after);
      const step = next.find((candidate) => changesText(at, candidate) === text);
      if (step === undefined) {
        assert(
          next[0] !== undefined,
          `transaction ${info.txid} follows ${at.n}, where the hive ends (${after.map(({ n }) => n).join()}):\n${text.slice(0, 500)}`,
        );
        assert.equal(text, changesText(at, next[0]), `transaction ${info.txid} behind ${at.n}`);
      }
      at = step!;
    }
  }
  assert.equal(seq, head.seq, 'the head of the log');
  return { last: at, transactions, recovered, isNew };
};

/** What can come next: at the moment of the restart the time before it goes over into the time after it. */
const following = (at: Moment, before: ReadonlyMap<number, Moment>, after: readonly Moment[]): Moment[] => {
  const place = after.indexOf(at);
  if (place !== -1) return after.slice(place + 1, place + 2);
  const next = before.get(at.n + 1);
  const isRestart = after[0] !== undefined && after[0].n === at.n && changesText(at, after[0]) === '';
  return [...(isRestart ? after.slice(1, 2) : []), ...(next === undefined ? [] : [next])];
};

export interface StateReport {
  /** Null: nothing was captured yet. */
  readonly history: HistoryReport | null;
  readonly state: CaptureState | null;
  readonly headSeq: number;
  /** Why the mirror cannot be gone on with; null: it can. */
  readonly invalidMirror: string | null;
}

/** Opens what stands in a state directory as capture does, and holds it against the timeline. Throws what does not agree. */
export const proveState = async (options: {
  readonly stateDir: string;
  readonly hive: string;
  readonly durability: Durability;
  readonly timeline: Timeline;
}): Promise<StateReport> => {
  const { stateDir, hive, durability, timeline } = options;
  const path = join(stateDir, 'log.db');
  using log = LogWriter.open({ path, durability, hive: { path: hive } });
  const state = log.state();
  if (state === null) {
    assert.equal(log.headSeq, 0, 'a log without a position has changes');
    return { history: null, state, headSeq: 0, invalidMirror: null };
  }
  const history = proveLog(path, timeline);
  if (history.transactions > 0)
    assert.equal(log.headTxid, `${state.position.epoch}:${state.position.frame}`, 'the position is not the head of the log');
  const mirror = Mirror.open(
    { directory: join(stateDir, 'mirror'), pageSize: PAGE_SIZE, durability, makeLogDurable: () => log.sync() },
    state.batchId,
  );
  if (!(mirror instanceof Mirror)) return { history, state, headSeq: log.headSeq, invalidMirror: mirror.invalid };
  try {
    const { pages } = history.last;
    assert.equal(mirror.sizePages, pages.length, `size of the mirror as of transaction ${history.last.n}`);
    for (let page = 1; page <= pages.length; page += 1)
      assert.equal(crc32(mirror.page(page)), pages[page - 1], `page ${page} of the mirror as of transaction ${history.last.n}`);
    const known = log.catalog(state.catalogVersion);
    assert(known !== null, `version ${state.catalogVersion} of the catalog is not in the log`);
    Replica.read(mirror, { captured: () => true, known, firstVersion: known.version });
  } finally {
    await mirror[Symbol.asyncDispose]();
  }
  return { history, state, headSeq: log.headSeq, invalidMirror: null };
};
