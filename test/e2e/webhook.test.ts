/**
 * Real Hive, the real daemon, three receivers, one for each format; the daemon is killed at random instants, and the receivers
 * refuse, cut, wait and go away. At the end each has exactly the hive's rows. At length: WAGGLE_WEBHOOK_KILLS=200.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { DaemonScene, EQUAL } from '../helpers/daemon-scene.ts';
import { HiveApplication } from '../helpers/hive-application.ts';
import { Random } from '../helpers/random.ts';
import { difference, readSqliteRows, readTextRowsLike } from '../helpers/row-sets.ts';
import { sinkStatus } from '../helpers/settled.ts';
import { until } from '../helpers/until.ts';
import { type Behaviour, WebhookReceiver } from '../helpers/webhook-receiver.ts';

const KILLS = Number(process.env['WAGGLE_WEBHOOK_KILLS'] ?? 6);
const RESTARTS = Math.max(2, Math.floor(KILLS / 5));
const SEED = Number(process.env['WAGGLE_CRASH_SEED'] ?? Math.floor(Math.random() * 1_000_000));
const FORMATS = ['envelope', 'hive', 'convex'] as const;

const troubles = (random: Random) => (): Behaviour | null => {
  const dice = random.int(100);
  if (dice < 3) return { status: 503 };
  if (dice < 5) return { status: 429, headers: { 'retry-after': '0' } };
  if (dice < 7) return { cut: 'before' };
  if (dice < 9) return { cut: 'after' };
  return dice < 10 ? { wait: delay(30) } : null;
};

it(`ends with the hive's rows in each receiver (seed ${SEED})`, { timeout: 120_000 + KILLS * 10_000 }, async () => {
  const random = new Random(SEED);
  await using stack = new AsyncDisposableStack();
  const receivers: WebhookReceiver[] = [];
  for (const _ of FORMATS) receivers.push(stack.use(await WebhookReceiver.start()));
  const sinks = FORMATS.map((format, index) => [
    format,
    `{ type: webhook, url: "${receivers[index]!.url}", format: ${format}, truncate: true, concurrency: ${1 + 3 * index}, secret: s, headers: { X-Sync-Secret: s }, batch: { rows: 300 } }`,
  ]);
  const scene = stack.use(new DaemonScene({ sinks: Object.fromEntries(sinks) as Record<string, string> }));
  await HiveApplication.run({ dir: scene.app, ops: 60, seed: SEED });
  for (const receiver of receivers) receiver.behave = troubles(random);

  let daemon = await scene.startReady();
  const application = HiveApplication.start({ dir: scene.app, ops: 200 + 10 * KILLS, seed: SEED + 1, rate: 30, exit: 'exit' });
  for (let kills = 0; kills < KILLS; kills += 1) {
    await delay(random.int(1000));
    await daemon.kill();
    daemon = scene.start();
    if (kills % Math.ceil(KILLS / RESTARTS) !== 0) continue;
    const receiver = random.pick(receivers);
    await receiver.stop();
    await delay(random.int(300));
    await receiver.listen();
  }
  await daemon.untilReady();
  await application.ended;
  for (const receiver of receivers) receiver.behave = () => null;
  // The receivers take a hundred requests a second between them, and two of the formats send a request for each row.
  await scene.settled(undefined, 60_000 + 6000 * KILLS);
  expect(await daemon.stop()).toEqual({ code: 0, signal: null });

  const expected = readSqliteRows(scene.hive, 'text');
  for (const [index, format] of FORMATS.entries()) {
    const found = await readTextRowsLike(expected, async (table, columns) => receivers[index]!.rows(table, columns).map((row) => row.map(asText)));
    expect({ format, ...difference(expected, found) }).toMatchObject({ format, ...EQUAL });
  }
  expect(receivers.every(({ requests }) => requests.every(({ headers }) => headers['x-sync-secret'] === 's'))).toBe(true);
});

/** JSON text of a value as SQLite shows the value as text. */
const asText = (json: string | null): string | null => {
  if (json === null) return null;
  return json.startsWith('"') ? (JSON.parse(json) as string) : /^-?\d+$/.test(json) ? json : String(Number(json));
};

it('tells a wrong secret in the status, once, and goes on from there when it is right', { timeout: 60_000 }, async () => {
  await using receiver = await WebhookReceiver.start();
  receiver.behave = ({ headers }) => (headers['x-sync-secret'] === 'right' ? null : { status: 401, body: '{"error":"wrong SECRET-IN-BODY"}' });
  const sink = `{ type: webhook, url: "${receiver.url}/SECRET-IN-PATH", format: hive, headers: { X-Sync-Secret: "\${SYNC_SECRET}" } }`;
  await using scene = new DaemonScene({ sinks: { hook: sink } });
  await HiveApplication.run({ dir: scene.app, ops: 30, seed: 3 });
  const daemon = await scene.startReady({ env: { SYNC_SECRET: 'SECRET-wrong' } });
  const stopped = await until('the sink to stop', () => {
    const status = sinkStatus(scene.state, 'hook');
    return status?.state === 'stopped' ? status : null;
  });
  expect(stopped.error).toMatchObject({ code: 'SINK_DENIED', message: expect.stringContaining('401') });
  await daemon.stop();
  expect(daemon.stderr).not.toContain('SECRET-');
  const again = await scene.startReady({ env: { SYNC_SECRET: 'right' } });
  await until('the sink to be filled', () => sinkStatus(scene.state, 'hook')?.state === 'streaming');
  await scene.settled();
  await again.stop();
  const expected = readSqliteRows(scene.hive, 'text');
  const found = await readTextRowsLike(expected, async (table, columns) => receiver.rows(table, columns).map((row) => row.map(asText)));
  expect(difference(expected, found)).toMatchObject(EQUAL);
});
