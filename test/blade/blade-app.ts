/**
 * The real Blade application, started and written to over HTTP, captured by `waggle init && waggle run` as its README says,
 * and compared. Installs blade, hive and react into a temporary folder (about 20 s), so it is no part of `npm test`.
 *
 *     npm run blade                       (or: node test/blade/blade-app.ts)
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { freePort } from '../helpers/free-port.ts';
import { replayJsonl } from '../helpers/jsonl-replay.ts';
import { readLogHistory } from '../helpers/log-history.ts';
import { difference, readSqliteRows, readSqliteRowsLike } from '../helpers/row-sets.ts';
import { untilSettled } from '../helpers/settled.ts';
import { until } from '../helpers/until.ts';
import { WaggleProcess } from '../helpers/waggle-process.ts';

const run = promisify(execFile);
const VERSIONS = { blade: '3.29.10', hive: '2.1.13', react: '19.3.1', 'react-dom': '19.3.1' };
const ROUNDS = 60;
const started = performance.now();
const say = (text: string): void => console.log(`[${((performance.now() - started) / 1000).toFixed(1).padStart(5)} s] ${text}`);

const dir = mkdtempSync(join(tmpdir(), 'waggle-blade-'));
const env = { ...process.env, PATH: [dirname(process.execPath), join(dir, 'node_modules', '.bin'), process.env['PATH']].join(delimiter) };

const install = async (): Promise<void> => {
  cpSync(fileURLToPath(new URL('./app', import.meta.url)), dir, { recursive: true });
  writeFileSync(join(dir, 'package.json'), JSON.stringify({ name: 'blade-lab', type: 'module', private: true, dependencies: VERSIONS }));
  await run('npm', ['install', '--no-audit', '--no-fund', '--ignore-scripts'], { cwd: dir, env });
  say(`installed blade ${VERSIONS.blade} and hive ${VERSIONS.hive} into ${dir}`);
  await run('blade', ['diff', '--apply'], { cwd: dir, env });
  await run('blade', ['build'], { cwd: dir, env });
  say('blade diff --apply, blade build');
};

/** `blade serve`, until it answers. */
const serve = async (port: number): Promise<ChildProcess> => {
  const child = spawn('blade', ['serve'], { cwd: dir, env: { ...env, PORT: String(port), EVENTS_LOG: join(dir, 'events.log') }, stdio: 'ignore' });
  await until(
    'Blade to answer',
    () =>
      fetch(`http://127.0.0.1:${port}/`).then(
        (response) => response.ok,
        () => false,
      ),
    { everyMs: 100 },
  );
  say(`blade serve answers on port ${port}`);
  return child;
};

type Instructions = Record<string, Record<string, unknown>>;

interface Row {
  readonly id: string;
}

const post = async (port: number, query: Instructions): Promise<Row> => {
  const response = await fetch(`http://127.0.0.1:${port}/api`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ queries: [query] }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`POST /api ${JSON.stringify(query)}: ${response.status} ${text.slice(0, 300)}`);
  return (JSON.parse(text) as { results: Row[] }).results[0]!;
};

/** What an application does, over HTTP. Returns the number of requests that changed something. */
const write = async (port: number): Promise<number> => {
  let requests = 0;
  const send = (query: Instructions): Promise<Row> => {
    requests += 1;
    return post(port, query);
  };
  for (let round = 0; round < ROUNDS; round += 1) {
    const account = await send({
      add: { account: { with: { handle: `bee-${round}`, email: `bee-${round}@example.com`, age: round / 2, settings: { theme: '蜂蜜', round } } } },
    });
    const entry = await send({
      add: { post: { with: { title: `Post ${round}`, body: 'waggle '.repeat(round * 20), author: account.id, tags: ['hive', `n${round}`] } } },
    });
    await Promise.all([
      send({ add: { session: { with: { account: account.id, browser: 'ff', activeAt: new Date(0).toISOString(), url: `/${round}` } } } }),
      send({ set: { post: { with: { id: entry.id }, to: { likes: round, published: true } } } }),
    ]);
    if (round % 5 === 4) await send({ remove: { post: { with: { id: entry.id } } } });
  }
  return requests;
};

const compare = (hive: string): boolean => {
  const text = readSqliteRows(hive, 'text');
  const exact = readSqliteRows(hive, 'exact');
  const replay = replayJsonl(join(dir, 'changes.jsonl'));
  const file = difference(text, replay.rowsLike(text));
  const copy = difference(exact, readSqliteRowsLike(join(dir, 'copy.sqlite'), exact, 'exact'));
  const history = readLogHistory(join(dir, '.waggle', 'log.db'));
  const faults = [...replay.faults, ...[file, copy].flatMap(({ first }) => (first === null ? [] : [first]))];
  for (const fault of faults) console.log(`NOT EQUAL: ${fault}`);
  say(
    `${history.transactions.length} transactions with ${history.changes} changes, ${history.recovered} recovered; ${file.rows} rows equal in copy and file: ${faults.length === 0 ? 'yes' : 'NO'}`,
  );
  return faults.length === 0;
};

const main = async (): Promise<boolean> => {
  await install();
  const port = await freePort();
  const blade = await serve(port);
  try {
    await post(port, { add: { account: { with: { handle: 'first', email: 'first@example.com' } } } });
    await using init = new WaggleProcess(['init'], { cwd: dir });
    await init.exited;
    say(init.stdout.split('\n')[0] ?? '');
    const config = join(dir, 'waggle.yaml');
    writeFileSync(
      config,
      readFileSync(config, 'utf8').replace(
        /^ {2}# copy:\n {2}# {3}type: sqlite\n {2}# {3}file: copy.sqlite$/m,
        '  copy:\n    type: sqlite\n    file: copy.sqlite',
      ),
    );
    await using daemon = new WaggleProcess(['run'], { cwd: dir });
    await daemon.untilReady();
    say(`waggle run: ${daemon.ready?.msg}`);
    const requests = await write(port);
    say(`${requests} requests answered`);
    const hive = join(dir, '.blade', 'state', 'databases', 'main', 'db.sqlite');
    await untilSettled({ hive, stateDir: join(dir, '.waggle'), sinks: ['copy', 'changes'] });
    blade.kill('SIGTERM');
    const { code } = await daemon.stop();
    return compare(hive) && code === 0;
  } finally {
    blade.kill('SIGKILL');
  }
};

let equal = false;
try {
  equal = await main();
} finally {
  if (equal) rmSync(dir, { recursive: true, force: true });
  else say(`files kept in ${dir}`);
}
process.exitCode = equal ? 0 : 1;
