/** `waggle stop`, `pause`, `resume`, and what `status` tells of the keeper: beside a real daemon, or without one. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import type { Status } from '../../src/cli/status.ts';
import { LOCK_NAME } from '../../src/keeper/protocol.ts';
import { FileLock } from '../../src/support/file-lock.ts';
import { readLogHistory } from '../helpers/log-history.ts';
import { logHead } from '../helpers/settled.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';
import { until } from '../helpers/until.ts';
import { expectOneLine, waggle } from '../helpers/waggle-command.ts';
import { WaggleProcess } from '../helpers/waggle-process.ts';

interface Scene extends Disposable {
  readonly cwd: string;
  readonly state: string;
  readonly database: Database.Database;
}

const openScene = (lines = ''): Scene => {
  const directory = temporaryDirectory();
  const cwd = directory.path;
  const database = new Database(join(cwd, 'app.sqlite'));
  database.pragma('journal_mode = WAL');
  database.exec('CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)');
  writeFileSync(join(cwd, 'waggle.yaml'), `hive: app.sqlite\n${lines}sinks: { changes: { type: jsonl, file: changes.jsonl } }\n`);
  return {
    cwd,
    state: join(cwd, '.waggle'),
    database,
    [Symbol.dispose]: () => {
      if (database.open) database.close();
      directory[Symbol.dispose]();
    },
  };
};

const readStatus = (cwd: string): Status => JSON.parse(waggle(['status', '--json'], { cwd }).stdout) as Status;
const isHeld = (state: string): boolean => FileLock.isHeld(join(state, 'spool', LOCK_NAME));
const insert = (database: Database.Database, first: number, last: number): void => {
  const statement = database.prepare('INSERT INTO t VALUES (?)');
  for (let id = first; id <= last; id += 1) statement.run(id);
};

describe('waggle stop', () => {
  it('ends the daemon and leaves the keeper; --all ends that, too, with everything in the database file', async () => {
    using scene = openScene();
    const { cwd, state, database } = scene;
    await using daemon = await new WaggleProcess(['run'], { cwd }).untilReady();
    const { keeper } = readStatus(cwd);
    expect(keeper).toMatchObject({ pid: daemon.ready?.['keeper'], attached: true, patienceLeftMs: null, spool: { limitBytes: 1e9 } });
    expect(waggle(['status'], { cwd }).stdout).toMatch(new RegExp(`^keeper +running \\(pid ${keeper!.pid}\\) for \\d+ s$`, 'm'));

    expect(waggle(['stop'], { cwd })).toMatchObject({ stdout: `daemon (pid ${daemon.pid}) stopped\n`, status: 0 });
    expect(await daemon.exited).toEqual({ code: 0, signal: null });
    insert(database, 2, 4);
    const alone = await until('the keeper to see the commits', () => {
      const status = readStatus(cwd);
      return status.keeper!.undrainedFrames >= 3 ? status : null;
    });
    expect(alone).toMatchObject({ running: false, keeper: { pid: keeper!.pid, attached: false } });
    expect(alone.keeper!.patienceLeftMs).toBeGreaterThan(86_000_000);
    expect(waggle(['status'], { cwd }).stdout).toMatch(/, alone: lets go of the hive in 24 h$/m);
    expect(waggle(['stop'], { cwd }).stdout).toBe('no daemon runs\n');
    expect(isHeld(state)).toBe(true);

    const all = waggle(['stop', '--all'], { cwd });
    expect(all).toMatchObject({ stdout: `no daemon runs\nkeeper (pid ${keeper!.pid}) ended, with everything in the database file\n`, status: 0 });
    expect(isHeld(state)).toBe(false);
    expect(readStatus(cwd)).toMatchObject({ running: false, keeper: null });
    expect(waggle(['status'], { cwd }).stdout).toMatch(/^keeper +not running$/m);
    expect(waggle(['stop', '--all'], { cwd }).stdout).toBe('no daemon runs\nno keeper runs\n');

    // What the keeper spooled is found one by one by the next daemon and its keeper.
    await using again = await new WaggleProcess(['run'], { cwd }).untilReady();
    expect(again.ready?.msg).toBe('capturing from where it stood');
    await until('the changes', () => logHead(state) === 3);
    await again.stop();
    expect(readLogHistory(join(state, 'log.db')).transactions.map(({ recovered }) => recovered)).toEqual([false, false, false]);
  });

  it('status says so where the keeper hangs', async () => {
    using scene = openScene();
    const { cwd } = scene;
    await using daemon = await new WaggleProcess(['run'], { cwd }).untilReady();
    const { keeper } = readStatus(cwd);
    process.kill(keeper!.pid, 'SIGSTOP');
    expect(readStatus(cwd)).toMatchObject({ running: true, keeper: null, keeperRuns: true });
    expect(waggle(['status'], { cwd }).stdout).toMatch(/^keeper +the keeper did not answer for 3 s$/m);
    process.kill(keeper!.pid, 'SIGCONT');
    expect(readStatus(cwd)).toMatchObject({ running: true, keeperError: null, keeper: { pid: keeper!.pid, attached: true } });
    await daemon.stop();
  }, 60_000);

  it('says so where nothing has ever run', () => {
    using scene = openScene();
    expect(waggle(['stop'], { cwd: scene.cwd })).toMatchObject({ status: 1, stderr: expect.stringContaining('[STATE_MISSING]') as string });
    expect(waggle(['pause'], { cwd: scene.cwd })).toMatchObject({ status: 1, stderr: expect.stringContaining('[STATE_MISSING]') as string });
  });

  it('a first start that fails leaves no keeper: there is no history to go on with', async () => {
    using scene = openScene();
    const { cwd, state, database } = scene;
    database.close();
    const file = readFileSync(join(cwd, 'app.sqlite'));
    // The root of the table is no page of a table.
    file[4096] = 7;
    writeFileSync(join(cwd, 'app.sqlite'), file);
    await using daemon = new WaggleProcess(['run'], { cwd });
    expect(await daemon.exited).toMatchObject({ code: 1 });
    expect(daemon.stderr).toContain('HIVE_CORRUPT');
    expect(existsSync(join(state, 'spool', LOCK_NAME))).toBe(true);
    expect(isHeld(state)).toBe(false);
  });

  it.each([
    ['a variable that is not set', 'sinks: { changes: { type: postgres, url: "${NOT_SET_AT_ALL}" } }\n', /NOT_SET_AT_ALL is not set/],
    ['an option that is none', 'sinks: { changes: { type: jsonl, file: changes.jsonl, fil: true } }\n', /sinks\.changes\.fil: unknown option/],
    ['nothing but the state', '', /hive: is missing/],
  ])(
    'works with a fault elsewhere in the configuration, which is a warning, as do status, pause, resume, dead-letters: %s',
    async (_, sinks, fault) => {
      using scene = openScene();
      const { cwd, state } = scene;
      await using daemon = await new WaggleProcess(['run'], { cwd }).untilReady();
      writeFileSync(join(cwd, 'waggle.yaml'), `state: .waggle\n${sinks === '' ? '' : 'hive: app.sqlite\n'}${sinks}`);
      for (const args of [['status'], ['pause'], ['resume'], ['dead-letters', 'list'], ['stop']]) {
        const { status, stdout, stderr } = waggle(args, { cwd });
        expect({ status, some: stdout !== '' }).toEqual({ status: 0, some: true });
        expect(stderr).toMatch(/^waggle: warning: .*waggle\.yaml:\d+:\d+: .*\[CONFIG_INVALID\]\n$/);
        expect(stderr).toMatch(fault);
      }
      expect(await daemon.exited).toEqual({ code: 0, signal: null });
      expect(isHeld(state)).toBe(true);
      expectOneLine(waggle(['verify', 'changes'], { cwd }), 'CONFIG_INVALID', 2, fault);
      expect(waggle(['stop', '--all'], { cwd }).status).toBe(0);
    },
  );

  it('a daemon whose keeper does not outlive leaves none', async () => {
    using scene = openScene('keeper: { outlive: false }\n');
    const { cwd, state } = scene;
    await using daemon = await new WaggleProcess(['run'], { cwd }).untilReady();
    expect(readStatus(cwd)).toMatchObject({ running: true, keeper: null });
    expect(waggle(['status'], { cwd }).stdout).toMatch(/^keeper +ends with the daemon$/m);
    expect(isHeld(state)).toBe(true);
    waggle(['stop'], { cwd });
    await daemon.exited;
    expect(isHeld(state)).toBe(false);
  });
});

describe('waggle pause and resume', () => {
  for (const outlive of [true, false]) {
    it(`closes what holds the database, beside a daemon whose keeper ${outlive ? 'outlives' : 'ends with it'}`, async () => {
      using scene = openScene(`keeper: { outlive: ${outlive} }\n`);
      const { cwd, state, database } = scene;
      await using daemon = await new WaggleProcess(['run'], { cwd }).untilReady();
      insert(database, 2, 3);
      // While waggle lives the application cannot leave WAL mode.
      expect(() => database.pragma('journal_mode = DELETE')).toThrow('locked');
      expect(waggle(['pause'], { cwd })).toMatchObject({ stdout: 'paused: waggle has no connection to the database\n', status: 0 });
      expect(isHeld(state)).toBe(false);
      expect(database.pragma('journal_mode = DELETE', { simple: true })).toBe('delete');
      await until('the status', () => readStatus(cwd).capture?.error?.code === 'CAPTURE_PAUSED');
      expect(readStatus(cwd)).toMatchObject({ running: true, paused: true, keeper: null, capture: { state: 'waiting' } });
      expect(waggle(['status'], { cwd }).stdout).toMatch(/^keeper +paused$/m);
      expect(logHead(state)).toBe(2);
      insert(database, 4, 5);
      expect(database.pragma('journal_mode = WAL', { simple: true })).toBe('wal');
      expect(isHeld(state)).toBe(false);
      expect(existsSync(`${join(cwd, 'app.sqlite')}-journal`)).toBe(false);

      expect(waggle(['resume'], { cwd })).toMatchObject({ stdout: 'resumed\n', status: 0 });
      await until('what happened meanwhile', () => logHead(state) === 4);
      insert(database, 6, 6);
      await until('what happens now', () => logHead(state) === 5);
      expect(readStatus(cwd)).toMatchObject({ paused: false, capture: { state: 'running', error: null } });
      expect(await daemon.stop()).toEqual({ code: 0, signal: null });
      expect(readLogHistory(join(state, 'log.db')).transactions.map(({ recovered }) => recovered)).toEqual([false, false, true, false]);
    });
  }

  it('holds over a restart of the daemon, which then waits', async () => {
    using scene = openScene();
    const { cwd, state, database } = scene;
    await using first = await new WaggleProcess(['run'], { cwd }).untilReady();
    await first.stop();
    expect(waggle(['pause'], { cwd }).status).toBe(0);
    expect(isHeld(state)).toBe(false);
    await using daemon = new WaggleProcess(['run'], { cwd });
    await daemon.line('it is paused', (line) => line.code === 'CAPTURE_PAUSED');
    expect(isHeld(state)).toBe(false);
    waggle(['resume'], { cwd });
    await daemon.untilReady();
    insert(database, 2, 2);
    await until('the change', () => logHead(state) === 1);
    expect(await daemon.stop()).toEqual({ code: 0, signal: null });
  });

  it('a daemon that is paused can be stopped', async () => {
    using scene = openScene();
    const { cwd } = scene;
    await using daemon = await new WaggleProcess(['run'], { cwd }).untilReady();
    waggle(['pause'], { cwd });
    await daemon.line('it is paused', (line) => line.code === 'CAPTURE_PAUSED');
    expect(await daemon.stop()).toEqual({ code: 0, signal: null });
  });
});
