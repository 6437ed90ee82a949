/** What the conformance suites share. */
import { assert, it as vitestIt } from 'vitest';
import type { Value } from '../../../src/change/table.ts';
import type { Sink, SinkChange, SinkTable } from '../../../src/pipeline/sink.ts';
import { batchOf, checkpointAt, contextOf, forSink } from '../sink-changes.ts';
import type { ConformanceTarget, TargetTraits } from './target.ts';

export class ConformanceScene {
  readonly traits: TargetTraits;
  readonly open: () => Promise<ConformanceTarget>;
  readonly #left: Set<string>;
  #counter = 0;

  constructor(open: () => Promise<ConformanceTarget>, traits: TargetTraits) {
    this.open = open;
    this.traits = traits;
    this.#left = new Set(traits.without);
  }

  /** A test, unless the kind of target cannot pass it. */
  readonly it = (name: string, ...rest: [() => Promise<void>] | [object, () => Promise<void>]): void => {
    if (this.#left.delete(name)) return;
    (vitestIt as (name: string, ...rest: readonly unknown[]) => void)(name, ...rest);
  };

  /** A name that no other test has. */
  readonly fresh = (prefix: string): string => `${prefix}_${(this.#counter += 1)}`;

  /** Applies each list of parts as a batch of its own through one sink; gives the target. */
  readonly applyAll = async (batches: readonly SinkChange[][][], sinkName = this.fresh('sink')): Promise<ConformanceTarget> => {
    const target = await this.open();
    const sink = target.createSink();
    await sink.open(contextOf(sinkName));
    try {
      for (const [index, parts] of batches.entries())
        await sink.apply(
          batchOf(
            parts.map((part) => part.map((change) => adapt(sink, change))),
            checkpointAt(index + 1),
          ),
        );
    } finally {
      await sink.close();
    }
    return target;
  };

  readonly expectRows = async (target: ConformanceTarget, table: SinkTable, rows: readonly (readonly Value[])[]): Promise<void> => {
    const sorted = (list: (string | null)[][]): string[] => list.map((row) => JSON.stringify(row)).sort();
    const expected = rows.map((row) => row.map((value, index) => target.show(value, table.columns[index]!)));
    assert.deepEqual(sorted(await target.rows(table)), sorted(expected));
  };

  /** All that was said to be impossible has been met. */
  close(): void {
    if (this.#left.size > 0) throw new Error(`the conformance suite has no ${[...this.#left].join(', ')}`);
  }
}

export const adapt = (sink: Sink, change: SinkChange): SinkChange => {
  if (change.op === 't' || change.op === 's') return change;
  return { ...change, key: forSink(sink, change.key), after: change.after === null ? null : forSink(sink, change.after) };
};
