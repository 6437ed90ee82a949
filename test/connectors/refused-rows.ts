/** What a sink refuses, found as the runner finds it. */
import type { Checkpoint } from '../../src/change/change.ts';
import { findRefused, isRefusal } from '../../src/pipeline/isolation.ts';
import { RowRefusedError, type Sink, type SinkChange } from '../../src/pipeline/sink.ts';
import type { WaggleError } from '../../src/support/errors.ts';
import { batchOf, contextOf } from './sink-changes.ts';

/** An open sink under the name by which it is opened again after each refusal. */
export interface NamedSink {
  readonly sink: Sink;
  readonly name: string;
}

/** Applies the parts without what is refused; gives that, in the order in which it was found. */
export const applyPassing = async (
  { sink, name }: NamedSink,
  parts: readonly SinkChange[][],
  checkpoint: Checkpoint,
): Promise<{ change: SinkChange; error: WaggleError }[]> => {
  const refused: { change: SinkChange; error: WaggleError }[] = [];
  const passing = (): SinkChange[][] => parts.map((part) => part.filter((change) => !refused.some((one) => one.change === change)));
  /** The refusal, with the sink open again. */
  const attempt = async (run: () => Promise<void>): Promise<WaggleError | null> => {
    try {
      await run();
      return null;
    } catch (error) {
      if (!isRefusal(error)) throw error;
      await sink.close();
      await sink.open(contextOf(name));
      return error;
    }
  };
  for (;;) {
    const refusal = await attempt(() => sink.apply(batchOf(passing(), checkpoint)));
    if (refusal === null) return refused;
    const found =
      refusal instanceof RowRefusedError
        ? { change: refusal.change, error: refusal }
        : await findRefused({ parts: passing, passing: 0, rehearse: (some) => attempt(() => sink.rehearse!(batchOf([...some], checkpoint))) });
    if (found === null || refused.some(({ change }) => change === found.change)) throw refusal;
    refused.push(found);
  }
};
