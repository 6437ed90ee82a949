/**
 * Commit in the hive → row visible in Postgres, at 50 commits a second, with the default settings of a sink: the real daemon, a real server. A trigger in the
 * target notifies of each row; Postgres hands that out when the row's transaction is committed. Both clocks are this process's.
 *
 *     node bench/sink-latency.ts [COMMITS]
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';
import { Client } from 'pg';
import { endKeeper } from '../test/helpers/end-keeper.ts';
import { startPostgres } from '../test/helpers/postgres-server.ts';

const WAGGLE = fileURLToPath(new URL('../src/cli/waggle.js', import.meta.url));
const COMMIT_EVERY_MS = 20;
const commits = Number(process.argv[2] ?? 500);

const directory = mkdtempSync(join(tmpdir(), 'waggle-bench-'));
await using server = await startPostgres();
const admin = new Client({ connectionString: server.url });
await admin.connect();
const db = new Database(join(directory, 'hive.sqlite'));
db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)');
const state = join(directory, 'state');
const config = join(directory, 'waggle.yaml');
writeFileSync(config, `hive: ${join(directory, 'hive.sqlite')}\nstate: ${state}\nsinks: { server: { type: postgres, url: "${server.url}" } }\n`);
await admin.query(
  `CREATE TABLE t (id bigint PRIMARY KEY, v text);
   CREATE FUNCTION told() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_notify('bench', NEW.id::text); RETURN NULL; END $$;
   CREATE TRIGGER told AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION told(); LISTEN bench`,
);
const insert = db.prepare('INSERT INTO t (v) VALUES (?)');
const daemon = spawn(process.execPath, [WAGGLE, 'run', '-c', config], { stdio: 'ignore' });
try {
  const committedAt = new Map<number, number>();
  const latencies: number[] = [];
  const warm = Promise.withResolvers<void>();
  const done = Promise.withResolvers<void>();
  admin.on('notification', ({ payload }) => {
    const id = Number(payload);
    warm.resolve();
    const since = committedAt.get(id);
    if (since === undefined) return;
    latencies.push(performance.now() - since);
    if (latencies.length === commits) done.resolve();
  });
  // The first row comes with the first fill.
  insert.run('warm');
  await warm.promise;
  for (let count = 0; count < commits; count += 1) {
    await delay(COMMIT_EVERY_MS);
    const id = Number(insert.run('row').lastInsertRowid);
    committedAt.set(id, performance.now());
  }
  await done.promise;
  latencies.sort((a, b) => a - b);
  const at = (part: number): string => latencies[Math.min(latencies.length - 1, Math.floor(part * latencies.length))]!.toFixed(2);
  console.log(`commit → row visible in Postgres, 50 commits/s, ${commits} commits: p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, longest ${at(1)} ms`);
} finally {
  const exited = new Promise((resolve) => daemon.once('exit', resolve));
  daemon.kill('SIGTERM');
  await exited;
  await endKeeper(state);
  db.close();
  await admin.end();
  rmSync(directory, { recursive: true, force: true });
}
