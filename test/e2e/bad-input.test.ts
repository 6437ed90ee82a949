/** What goes wrong beside a running daemon: one clear line with a code and a hint, the right exit status, nothing lost when it is mended. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { expect, it } from 'vitest';
import { DaemonScene, EQUAL } from '../helpers/daemon-scene.ts';
import { sinkStatus } from '../helpers/settled.ts';
import { SteeredWriter } from '../helpers/steered-writer.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';
import { until } from '../helpers/until.ts';
import { WaggleProcess } from '../helpers/waggle-process.ts';

const COPY = { copy: '{ type: sqlite, file: copy.sqlite }' };

/** One line and its hint on stderr; no trace. */
const expectOneError = (daemon: WaggleProcess, code: string): void => {
  const lines = daemon.stderr.split('\n').filter((line) => line.includes(`[${code}]`) || line.includes(`"${code}"`));
  expect(lines).toHaveLength(1);
  expect(daemon.stderr).not.toMatch(/\n\s+at /);
};

it('refuses a second daemon on the same state directory, with the pid of the first', { timeout: 30_000 }, async () => {
  await using scene = new DaemonScene({ sinks: COPY, hive: 'app.sqlite' });
  await using writer = await SteeredWriter.open(scene.hive);
  const first = await scene.startReady();
  const second = scene.start();
  expect(await second.exited).toEqual({ code: 1, signal: null });
  expectOneError(second, 'STATE_IN_USE');
  expect(second.stderr).toContain(String(first.pid));
  // The first one does not mind.
  await writer.insert(10, 100);
  await scene.settled();
  expect(await first.stop()).toEqual({ code: 0, signal: null });
  expect(scene.compareCopy(scene.path('copy.sqlite'))).toMatchObject(EQUAL);
});

it('refuses the state directory of another hive, and leaves it as it was', { timeout: 30_000 }, async () => {
  await using scene = new DaemonScene({ sinks: COPY, hive: 'app.sqlite' });
  await using writer = await SteeredWriter.open(scene.hive);
  await using _other = await SteeredWriter.open(scene.path('other.sqlite'));
  const first = await scene.startReady();
  expect((await first.stop()).code).toBe(0);
  const config = scene.path('other.yaml');
  writeFileSync(config, `hive: other.sqlite\nstate: ${scene.state}\nsinks: {}\n`);
  await using wrong = WaggleProcess.run(config);
  expect(await wrong.exited).toEqual({ code: 1, signal: null });
  expectOneError(wrong, 'STATE_OTHER_HIVE');
  await writer.insert(10, 100);
  const again = await scene.startReady();
  await scene.settled();
  await again.stop();
  expect(scene.compareCopy(scene.path('copy.sqlite'))).toMatchObject(EQUAL);
});

it('stops a sink whose target refuses a value, goes on with the others, and loses nothing once it is mended', { timeout: 60_000 }, async () => {
  await using scene = new DaemonScene({ sinks: { ...COPY, strict: '{ type: sqlite, file: strict.sqlite, on_error: stop }' }, hive: 'app.sqlite' });
  const target = new Database(scene.path('strict.sqlite'));
  target.exec('CREATE TABLE items (id INTEGER PRIMARY KEY, n INT CHECK (n < 5), text TEXT)');
  target.close();
  await using writer = await SteeredWriter.open(scene.hive);
  await writer.insert(3, 20);
  const daemon = await scene.startReady();
  await writer.insert(1, 20);
  await scene.settled();
  await writer.insert(5, 20);
  const status = await until('the sink to stop', () => {
    const found = sinkStatus(scene.state, 'strict');
    return found?.state === 'stopped' && found;
  });
  expect(status.error).toMatchObject({ code: 'SINK_ROW_REFUSED' });
  expect(status.error?.message).toContain('items');
  await scene.settled(['copy']);
  expect(await daemon.stop()).toEqual({ code: 0, signal: null });

  const mended = new Database(scene.path('strict.sqlite'));
  mended.exec(
    'ALTER TABLE items RENAME TO old; CREATE TABLE items (id INTEGER PRIMARY KEY, n INT, text TEXT); INSERT INTO items SELECT * FROM old; DROP TABLE old',
  );
  mended.close();
  const again = await scene.startReady();
  await scene.settled();
  expect(await again.stop()).toEqual({ code: 0, signal: null });
  expect(scene.compareCopy(scene.path('strict.sqlite'))).toMatchObject(EQUAL);
});

const canMount = ((): boolean => {
  if (process.getuid?.() !== 0) return false;
  using dir = temporaryDirectory();
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'waggle-test', dir.path], { stdio: 'ignore' });
    execFileSync('umount', [dir.path], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();

it.skipIf(!canMount)(
  'says that the disk under the state directory is full, and goes on by itself when there is space',
  { timeout: 60_000 },
  async () => {
    using disk = temporaryDirectory();
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'waggle-test', disk.path]);
    try {
      const state = join(disk.path, 'state');
      mkdirSync(state);
      await using scene = new DaemonScene({ sinks: COPY, hive: 'app.sqlite', state });
      await using writer = await SteeredWriter.open(scene.hive);
      const daemon = await scene.startReady();
      await writer.insert(10, 100);
      await scene.settled();
      const filler = join(disk.path, 'filler');
      const free = Number(execFileSync('df', ['--output=avail', '-B1', disk.path]).toString().split('\n')[1]);
      writeFileSync(filler, Buffer.alloc(Math.max(0, free - 256 * 1024)));
      await writer.insert(2000, 1000);
      const told = await daemon.line('that the disk is full', (line) => line.code === 'DISK_FULL');
      expect(told.hint).toMatch(/space/i);
      // The application does not notice.
      const { longestMs } = await writer.insert(100, 100);
      expect(longestMs).toBeLessThan(4000);
      expect(daemon.exit).toBeNull();
      rmSync(filler);
      await scene.settled();
      expect(await daemon.stop()).toEqual({ code: 0, signal: null });
      expect(scene.compareCopy(scene.path('copy.sqlite'))).toMatchObject(EQUAL);
    } finally {
      execFileSync('umount', ['-l', disk.path]);
    }
  },
);
