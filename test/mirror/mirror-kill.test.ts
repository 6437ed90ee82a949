/** A process that fills a mirror and a log is killed again and again; the mirror must stand where the log stands. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { LogWriter } from '../../src/log/log-writer.ts';
import { batchesOf, openAndCheck, optionsFor } from '../helpers/mirror-scene.ts';
import { Random } from '../helpers/random.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';

const KILLS = 12;
const BATCHES = 20_000;

it(`stands as of the log after SIGKILL at ${KILLS} random instants`, { timeout: 120_000 }, async () => {
  using directory = temporaryDirectory();
  const random = new Random(Date.now());
  const batches = batchesOf(1, BATCHES);
  let reached = 0;
  for (let kill = 0; kill < KILLS; kill += 1) {
    const child = spawn(process.execPath, [join(import.meta.dirname, '../helpers/mirror-child.ts'), directory.path, '1', String(BATCHES)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    await delay(random.int(120));
    child.kill('SIGKILL');
    await once(child, 'exit');
    const log = LogWriter.open({ path: join(directory.path, 'log.db'), durability: 'os', hive: { path: '/hive' } });
    const { batchId } = log.state()!;
    log.close();
    expect(batchId).toBeGreaterThanOrEqual(reached);
    reached = batchId;
    await openAndCheck(optionsFor(join(directory.path, 'mirror')), batches, batchId);
  }
  expect(reached).toBeGreaterThan(KILLS);
});
