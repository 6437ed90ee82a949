/** Which changes may be under way at the same time: those of different rows, in as many lanes as requests are allowed. */
import { jsonValue } from '../../src/change/envelope.ts';
import type { SinkChange, SinkRowChange } from '../../src/pipeline/sink.ts';

/**
 * Steps to be taken one after the other; the lanes of a step at the same time, each in its order. A row stays in its lane. What speaks of a
 * whole table is a step of its own.
 */
export const stepsOf = function* (part: readonly SinkChange[], lanes: number): Generator<SinkChange[][], void, undefined> {
  if (lanes === 1) {
    yield [[...part]];
    return;
  }
  let step: SinkChange[][] = [];
  for (const change of part) {
    if (change.op === 's' || change.op === 't') {
      yield step.filter((lane) => lane !== undefined);
      yield [[change]];
      step = [];
    } else (step[laneOf(change, lanes)] ??= []).push(change);
  }
  yield step.filter((lane) => lane !== undefined);
};

const laneOf = ({ table, key }: SinkRowChange, lanes: number): number => {
  let hash = 0x811c9dc5;
  const text = `${table.name}\0${key.map(jsonValue).join('\0')}`;
  // FNV-1a.
  for (let index = 0; index < text.length; index += 1) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  return (hash >>> 0) % lanes;
};
