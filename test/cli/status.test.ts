import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import type { Status } from '../../src/cli/status.ts';
import { SinkStore } from '../../src/pipeline/sink-store.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';
import { useUnknownCollation } from '../helpers/unknown-collation.ts';
import { until } from '../helpers/until.ts';
import { waggle } from '../helpers/waggle-command.ts';
import { WaggleProcess } from '../helpers/waggle-process.ts';

const CONFIG =
  'hive: app.sqlite\nsinks:\n  changes: { type: jsonl, file: changes.jsonl }\n  nowhere: { type: postgres, url: "postgres://u:s3cret@127.0.0.1:1/none" }\n';

const readStatus = (cwd: string): Status => JSON.parse(waggle(['status', '--json'], { cwd }).stdout) as Status;

const scene = (cwd: string): Database.Database => {
  const database = new Database(join(cwd, 'app.sqlite'));
  database.pragma('journal_mode = WAL');
  database.exec('CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)');
  writeFileSync(join(cwd, 'waggle.yaml'), 'hive: app.sqlite\nsinks: { changes: { type: jsonl, file: changes.jsonl } }\n');
  return database;
};

describe('waggle status', () => {
  it('tells of a running and of a stopped daemon: position, head, each sink', async () => {
    using directory = temporaryDirectory();
    const cwd = directory.path;
    const database = new Database(join(cwd, 'app.sqlite'));
    database.pragma('journal_mode = WAL');
    database.exec('CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)');
    writeFileSync(join(cwd, 'waggle.yaml'), CONFIG);
    await using daemon = new WaggleProcess(['run'], { cwd });
    await daemon.untilReady();
    database.exec('INSERT INTO t VALUES (2); INSERT INTO t VALUES (3)');

    const running = await until(
      'the checkpoint of the sink',
      () => {
        const status = readStatus(cwd);
        return status.sinks.find((sink) => sink.name === 'changes')?.checkpoint?.seq === 2 && status.sinks[1]?.error != null ? status : undefined;
      },
      { deadlineMs: 20_000 },
    );
    expect(running).toMatchObject({ running: true, pid: daemon.pid, hive: join(cwd, 'app.sqlite'), head: { seq: 2 }, firstSeq: 1, tables: 1 });
    // The log's head is the last thing that was captured: the position is its commit frame.
    expect(running.position).toBe(running.head.txid);
    expect(running.sinks).toMatchObject([
      { name: 'changes', state: 'streaming', lag: { changes: 0, seconds: 0 }, error: null },
      { name: 'nowhere', state: 'retrying', checkpoint: null, error: { code: 'SINK_UNREACHABLE' } },
    ]);
    const text = waggle(['status'], { cwd }).stdout;
    expect(text).toMatch(new RegExp(`daemon +running \\(pid ${daemon.pid}\\)`));
    expect(text).toMatch(/^changes +streaming +seq 2 +0$/m);
    expect(text).toMatch(/^nowhere +(retrying|opening) +none +unknown$/m);
    expect(text).toMatch(
      /^nowhere: down since \S+Z \(\d+ s\), tried (once|\d+ times), (the next time (now|in \d+ s)|and now again)\n {2}postgres 127\.0\.0\.1:1\/none: .*\[SINK_UNREACHABLE\]\n {2}Check that the server runs/m,
    );
    expect(text + daemon.stderr).not.toContain('s3cret');

    await daemon.stop();
    database.close();
    expect(readStatus(cwd)).toMatchObject({ running: false, pid: null, head: { seq: 2 } });
    expect(waggle(['status'], { cwd }).stdout).toMatch(
      /daemon +not running[^]*^nowhere: down since \S+Z \(\d+ s\); tried again when the daemon runs$/m,
    );
    expect(waggle(['status', '--state', '.waggle'], { cwd }).stdout).toMatch(/daemon +not running/);
  });

  it('tells that capture waits for a hive that is gone', async () => {
    using directory = temporaryDirectory();
    const cwd = directory.path;
    const database = scene(cwd);
    await using daemon = new WaggleProcess(['run'], { cwd });
    await daemon.untilReady();
    expect(readStatus(cwd).capture).toMatchObject({ state: 'running', error: null });
    expect(waggle(['status'], { cwd }).stdout).toMatch(/^capture +running$/m);

    database.close();
    for (const suffix of ['', '-wal', '-shm']) rmSync(join(cwd, `app.sqlite${suffix}`), { force: true });
    await daemon.line('the hive is missing', (line) => line.code === 'HIVE_MISSING');
    expect(readStatus(cwd)).toMatchObject({ running: true, capture: { state: 'waiting', error: { code: 'HIVE_MISSING' } } });
    expect(waggle(['status'], { cwd }).stdout).toMatch(/^capture +waiting: HIVE_MISSING .*does not exist.*Check the path/m);

    // It comes back: nothing is wrong any more.
    const again = scene(cwd);
    await until('capture runs again', () => readStatus(cwd).capture?.state === 'running' || undefined, { deadlineMs: 20_000 });
    expect(readStatus(cwd).capture?.error).toBeNull();
    await daemon.kill();
    expect(waggle(['status'], { cwd }).stdout).toMatch(/^capture +ended with the daemon; it was running$/m);
    again.close();
  });

  it('tells with what capture failed, and of an orderly end', async () => {
    using directory = temporaryDirectory();
    const cwd = directory.path;
    const database = scene(cwd);
    await using daemon = new WaggleProcess(['run'], { cwd });
    await daemon.untilReady();
    database.exec('BEGIN; CREATE TABLE w (k TEXT COLLATE NOCASE PRIMARY KEY) WITHOUT ROWID');
    useUnknownCollation(database, 'w');
    database.exec('COMMIT');
    expect(await daemon.exited).toMatchObject({ code: 1 });
    expect(readStatus(cwd)).toMatchObject({ running: false, capture: { state: 'failed', error: { code: 'COLLATION_UNKNOWN' } } });
    expect(waggle(['status'], { cwd }).stdout).toMatch(/^capture +failed: COLLATION_UNKNOWN /m);

    writeFileSync(join(cwd, 'waggle.yaml'), 'hive: app.sqlite\ntables: { exclude: [w] }\nsinks: { changes: { type: jsonl, file: changes.jsonl } }\n');
    await using again = new WaggleProcess(['run'], { cwd });
    await again.untilReady();
    await again.stop();
    expect(readStatus(cwd).capture).toMatchObject({ state: 'stopped', error: null });
    database.close();
  });

  it('before capture is ready no sink is told as a killed daemon left it', async () => {
    using directory = temporaryDirectory();
    const cwd = directory.path;
    const database = scene(cwd);
    await using killed = new WaggleProcess(['run'], { cwd });
    await killed.untilReady();
    await until('the sink to stream', () => readStatus(cwd).sinks[0]?.state === 'streaming' || undefined);
    await killed.kill();
    waggle(['pause'], { cwd });
    await using daemon = new WaggleProcess(['run'], { cwd });
    await daemon.line('it is paused', (line) => line.code === 'CAPTURE_PAUSED');
    expect(readStatus(cwd)).toMatchObject({ running: true, sinks: [{ name: 'changes', state: 'opening' }] });
    waggle(['resume'], { cwd });
    await until('the sink to stream again', () => readStatus(cwd).sinks[0]?.state === 'streaming' || undefined);
    database.close();
  });

  it('reads and goes on with a file of a version that did not tell of capture', () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, 'sinks.db');
    const old = new Database(path);
    old.pragma('journal_mode = WAL');
    old.exec('CREATE TABLE sinks (name TEXT PRIMARY KEY, status TEXT NOT NULL) WITHOUT ROWID; PRAGMA user_version = 1');
    old.close();
    using reading = SinkStore.openForReading(path);
    expect(reading.capture()).toBeNull();
    using store = SinkStore.open(path);
    store.saveCapture({ state: 'running', error: null, updatedAtMs: 1 });
    expect(reading.capture()).toEqual({ state: 'running', error: null, updatedAtMs: 1 });
  });
});
