import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import { temporaryDirectory } from '../helpers/temporary.ts';
import { until } from '../helpers/until.ts';
import { expectOneLine, LAUNCHER, waggle } from '../helpers/waggle-command.ts';
import { WaggleProcess } from '../helpers/waggle-process.ts';

interface Event {
  readonly seq: number | null;
  readonly op: string;
  readonly after: { readonly id: number } | null;
  readonly source: { readonly table: string; readonly name: string };
}

/** An application with a table `t`, and its own way of committing. */
const openApplication = (path: string, journal: 'wal' | 'delete' = 'wal'): Database.Database => {
  const database = new Database(path);
  database.pragma(`journal_mode = ${journal}`);
  database.exec('CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, text TEXT); CREATE TABLE IF NOT EXISTS other (id INTEGER PRIMARY KEY)');
  return database;
};

const events = (tail: WaggleProcess): Event[] =>
  tail.stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Event);

const ready = (tail: WaggleProcess): Promise<unknown> =>
  until('the ready line', () => tail.stderr.includes('capturing') || undefined, { deadlineMs: 20_000 });

const untilEvents = (tail: WaggleProcess, count: number): Promise<Event[]> =>
  until(`${count} events`, () => (events(tail).length >= count ? events(tail) : undefined), { deadlineMs: 20_000 });

describe('waggle tail', () => {
  it('shows what commits from now on, tells once when it is ready, ends with 0 on Ctrl-C and leaves nothing behind', async () => {
    using directory = temporaryDirectory();
    using application = closing(openApplication(join(directory.path, 'app.sqlite')));
    application.database.exec("INSERT INTO t VALUES (1, 'before')");
    const temporary = join(directory.path, 'tmp');
    mkdirSync(temporary);
    await using tail = new WaggleProcess(['tail', 'app.sqlite'], {
      cwd: directory.path,
      env: { TMPDIR: temporary, NODE_DISABLE_COMPILE_CACHE: '1' },
    });
    await ready(tail);
    application.database.exec("INSERT INTO t VALUES (2, 'after'); UPDATE t SET text = 'now' WHERE id = 1");
    expect((await untilEvents(tail, 2)).map(({ seq, op, after }) => [seq, op, after?.id])).toEqual([
      [1, 'c', 2],
      [2, 'u', 1],
    ]);
    expect(await tail.stop('SIGINT')).toEqual({ code: 0, signal: null });
    expect(tail.stderr).toBe('waggle: capturing app.sqlite; Ctrl-C ends\n');
    expect(readdirSync(temporary)).toEqual([]);
    expect(existsSync(join(directory.path, '.waggle'))).toBe(false);
  });

  it('removes what a killed one left, and nothing that is in use, young or named otherwise', async () => {
    using directory = temporaryDirectory();
    using _application = closing(openApplication(join(directory.path, 'app.sqlite')));
    const temporary = join(directory.path, 'tmp');
    const options = { cwd: directory.path, env: { TMPDIR: temporary, NODE_DISABLE_COMPILE_CACHE: '1' } };
    const left = (): string[] => readdirSync(temporary).toSorted();
    const age = (names: readonly string[]): void => {
      for (const name of names) utimesSync(join(temporary, name), 1_000_000_000, 1_000_000_000);
    };
    mkdirSync(join(temporary, 'waggle-tail-mine'), { recursive: true });
    age(['waggle-tail-mine']);
    await using killed = new WaggleProcess(['tail', 'app.sqlite'], options);
    await ready(killed);
    const first = left().find((name) => name !== 'waggle-tail-mine')!;
    // In use, though it looks old.
    age([first]);
    await using living = new WaggleProcess(['tail', 'app.sqlite'], options);
    await ready(living);
    expect(left()).toContain(first);
    const second = left().find((name) => name !== first && name !== 'waggle-tail-mine')!;
    await killed.kill();
    await living.kill();
    age([first]);
    await using third = new WaggleProcess(['tail', 'app.sqlite'], options);
    await ready(third);
    await third.stop();
    expect(left()).toEqual([second, 'waggle-tail-mine'].toSorted());
  });

  it('--snapshot shows existing rows first, --tables only some', async () => {
    using directory = temporaryDirectory();
    using application = closing(openApplication(join(directory.path, 'app.sqlite')));
    application.database.exec('INSERT INTO t VALUES (1, NULL), (2, NULL); INSERT INTO other VALUES (7)');
    await using tail = new WaggleProcess(['tail', 'app.sqlite', '--snapshot', '--tables', 't,nothing'], { cwd: directory.path });
    await untilEvents(tail, 2);
    application.database.exec('INSERT INTO other VALUES (8); INSERT INTO t VALUES (3, NULL)');
    await untilEvents(tail, 3);
    await tail.stop();
    expect(events(tail).map(({ seq, op, after, source }) => [seq, op, source.table, after?.id])).toEqual([
      [null, 'r', 't', 1],
      [null, 'r', 't', 2],
      [1, 'c', 't', 3],
    ]);
  });

  it('--state goes on where it stopped, and with what was committed meanwhile', async () => {
    using directory = temporaryDirectory();
    using application = closing(openApplication(join(directory.path, 'app.sqlite')));
    const args = ['tail', 'app.sqlite', '--state', 'state'];
    const seen: (number | null)[] = [];
    for (let round = 1; round <= 3; round += 1) {
      await using tail = new WaggleProcess(args, { cwd: directory.path });
      await ready(tail);
      application.database.exec(`INSERT INTO t VALUES (${round * 10}, NULL)`);
      await untilEvents(tail, round === 1 ? 1 : 2);
      expect(await tail.stop()).toEqual({ code: 0, signal: null });
      seen.push(...events(tail).map((event) => event.seq));
      application.database.exec(`INSERT INTO t VALUES (${round * 10 + 1}, NULL)`);
    }
    expect(seen).toEqual([1, 2, 3, 4, 5]);
  });

  it('refuses the state directory of another hive', async () => {
    using directory = temporaryDirectory();
    using one = closing(openApplication(join(directory.path, 'one.sqlite')));
    using two = closing(openApplication(join(directory.path, 'two.sqlite')));
    expect([one.database.open, two.database.open]).toEqual([true, true]);
    await using tail = new WaggleProcess(['tail', 'one.sqlite', '--state', 'state'], { cwd: directory.path });
    await ready(tail);
    expectOneLine(waggle(['tail', 'two.sqlite', '--state', 'state'], { cwd: directory.path }), 'STATE_IN_USE', 1, new RegExp(`pid ${tail.pid}`));
    await tail.stop();
    expectOneLine(waggle(['tail', 'two.sqlite', '--state', 'state'], { cwd: directory.path }), 'STATE_OTHER_HIVE', 1, /one\.sqlite/);
  });

  it('--enable-wal switches the journal and captures', async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, 'app.sqlite');
    openApplication(path, 'delete').close();
    await using tail = new WaggleProcess(['tail', path, '--enable-wal']);
    await ready(tail);
    using application = closing(new Database(path));
    application.database.exec('INSERT INTO t VALUES (1, NULL)');
    await untilEvents(tail, 1);
    expect(await tail.stop()).toEqual({ code: 0, signal: null });
    expect([...readFileSync(path).subarray(18, 20)]).toEqual([2, 2]);
  });

  it('ends in silence when its reader goes away, as with `| head`', async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, 'app.sqlite');
    using application = closing(openApplication(path));
    const tail = spawn(process.execPath, [LAUNCHER, 'tail', path], { stdio: ['ignore', 'pipe', 'pipe'] });
    let stderr = '';
    tail.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    const ended = new Promise<number | null>((resolve) => tail.once('close', resolve));
    await until('the ready line', () => stderr.includes('capturing') || undefined, { deadlineMs: 20_000 });
    tail.stdout.destroy();
    const insert = application.database.prepare('INSERT INTO t VALUES (?, NULL)');
    for (let id = 1; tail.exitCode === null && id < 200; id += 1) {
      insert.run(id);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    expect(await ended).toBe(0);
    expect(stderr).toMatch(/^waggle: capturing [^\n]+\n$/);
  });
});

const closing = (database: Database.Database): { readonly database: Database.Database } & Disposable => ({
  database,
  [Symbol.dispose]: () => database.close(),
});
