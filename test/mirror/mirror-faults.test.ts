/** The mirror with a disk that fails at the first, second, third … operation: it must always stand where the log stands. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Mirror } from '../../src/mirror/mirror.ts';
import { failAt } from '../helpers/file-faults.ts';
import { assertState, type Batch, batchesOf, createMirror, openAndCheck, optionsFor, takeBatch } from '../helpers/mirror-scene.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';

const BATCHES = 14;

/** Runs the batches until a fault; `log.id` is the last batch that the log took. */
const run = async (mirror: Mirror, batches: readonly Batch[], log: { id: number }, step: (work: () => unknown) => Promise<void>): Promise<void> => {
  for (const batch of batches) {
    if (batch.isLarge) await step(() => takeBatch(mirror, batch));
    else {
      let isStaged = false;
      await step(() => {
        if (isStaged) mirror.commit(batch.id);
        else {
          isStaged = true;
          takeBatch(mirror, batch);
        }
      });
    }
    log.id = batch.id;
    await step(() => mirror.afterLogCommit());
    // A fold goes on in turns of the event loop.
    await new Promise((resolve) => setImmediate(resolve));
  }
};

describe.each(['os', 'fsync'] as const)('mirror, durability %s', (durability) => {
  it('stands as of the log after a kill at any file operation', async () => {
    let faults = 0;
    for (let n = 1; ; n += 1) {
      using directory = temporaryDirectory();
      const options = optionsFor(join(directory.path, 'mirror'), () => {}, durability);
      const batches = batchesOf(n, BATCHES);
      const log = { id: 1 };
      const mirror = createMirror(options);
      let hasFired: boolean;
      {
        using fault = failAt(n, 'dead');
        await run(mirror, batches, log, async (work) => void (await work())).catch(() => {});
        await mirror[Symbol.asyncDispose]();
        hasFired = fault.hasFired;
      }
      await openAndCheck(options, batches, log.id);
      // And once more: what the first opening folded is whole.
      await openAndCheck(options, batches, log.id);
      if (!hasFired) break;
      faults += 1;
    }
    expect(faults).toBeGreaterThan(25);
  });

  it('goes on after a full disk at any file operation', async () => {
    for (let n = 1; ; n += 1) {
      using directory = temporaryDirectory();
      const options = optionsFor(join(directory.path, 'mirror'), () => {}, durability);
      const batches = batchesOf(n, BATCHES);
      const log = { id: 1 };
      const mirror = createMirror(options);
      using fault = failAt(n, 'once');
      await run(mirror, batches, log, async (work) => {
        for (;;) {
          try {
            await work();
            return;
          } catch (error) {
            if (!(error instanceof Error && 'code' in error && error.code === 'ENOSPC')) throw error;
          }
        }
      });
      assertState(mirror, batches, BATCHES);
      fault[Symbol.dispose]();
      await mirror[Symbol.asyncDispose]();
      await openAndCheck(options, batches, log.id);
      if (!fault.hasFired) break;
    }
  });

  it('opens as of the log when it is killed at any file operation while it opens', async () => {
    for (let n = 1; ; n += 1) {
      using directory = temporaryDirectory();
      const options = optionsFor(join(directory.path, 'mirror'), () => {}, durability);
      const batches = batchesOf(77, BATCHES);
      const log = { id: 1 };
      const first = createMirror(options);
      await run(first, batches, log, async (work) => void (await work()));
      await first[Symbol.asyncDispose]();
      using fault = failAt(n, 'dead');
      try {
        const mirror = Mirror.open(options, log.id);
        if (mirror instanceof Mirror) await mirror[Symbol.asyncDispose]();
      } catch {
        // Killed.
      }
      fault[Symbol.dispose]();
      await openAndCheck(options, batches, log.id);
      if (!fault.hasFired) break;
    }
  });
});
