/**
 * How fast the webhook connector posts, beside a plain `fetch` loop that posts the same bodies to the same server (another process,
 * which reads and forgets them), and beside one request a change, as code beside the application does it. In turns, medians.
 *
 *     node bench/webhook-sink.ts [ROWS] [ROUNDS]
 */
import { fork } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { options as schema } from '../connectors/webhook/options.ts';
import { makeFormat, type Body, type FormatName } from '../connectors/webhook/formats.ts';
import { createSink } from '../connectors/webhook/sink.ts';
import type { SinkChange } from '../src/pipeline/sink.ts';
import { parseSize } from '../src/support/units.ts';
import { batchOf, checkpointAt, contextOf, remove, sinkTable, upsert } from '../test/connectors/sink-changes.ts';

const PART = 5000;
/** One request a change takes long; its rate is the same for fewer. */
const MOST_ONE_BY_ONE = 1000;

const serve = (): void => {
  const server = createServer((request, response) => {
    request.resume().on('end', () => response.writeHead(204).end());
  });
  server.listen(0, '127.0.0.1', () => process.send!((server.address() as { port: number }).port));
  process.on('disconnect', () => process.exit(0));
};

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;

const time = async (work: () => Promise<void>): Promise<number> => {
  const start = performance.now();
  await work();
  return performance.now() - start;
};

const accounts = sinkTable('accounts', [
  { name: 'id', key: true },
  { name: 'ronin.createdAt', type: 'DATETIME' },
  { name: 'handle' },
  { name: 'age', type: 'INTEGER' },
  { name: 'score', type: 'REAL' },
  { name: 'verified', type: 'BOOLEAN' },
  { name: 'settings' },
]);

/** `mixed`: 60 inserts, 30 updates, 10 deletes of 100. */
const changesOf = (count: number, mixed: boolean): SinkChange[] =>
  Array.from({ length: count }, (_, index) => {
    const kind = mixed ? (index * 37) % 100 : 0;
    const id = `acc_${((index * 2654435761) % 2 ** 32).toString(16).padStart(16, '0')}`;
    if (kind >= 90) return remove(accounts, [id]);
    const row = [id, '2026-11-21T00:10:49.686Z', `handle-${index}`, index % 90, index / 3, index % 2, `{"theme":"dark","n":${index}}`];
    return upsert(accounts, row, kind >= 60 ? 'u' : 'c');
  });

interface Contest {
  readonly title: string;
  readonly format: FormatName;
  readonly mixed: boolean;
  readonly rows: number;
}

const bench = async (url: string, rowCount: number, rounds: number): Promise<void> => {
  const contests: Contest[] = [
    { title: 'envelope, inserts', format: 'envelope', mixed: false, rows: rowCount },
    { title: 'envelope, mixed', format: 'envelope', mixed: true, rows: rowCount },
    { title: 'hive, inserts', format: 'hive', mixed: false, rows: rowCount },
    { title: 'hive, mixed', format: 'hive', mixed: true, rows: rowCount / 10 },
    { title: 'convex, mixed', format: 'convex', mixed: true, rows: rowCount / 20 },
  ];
  const directory = mkdtempSync(join(tmpdir(), 'waggle-bench-'));
  for (const { title, format, mixed, rows } of contests) {
    const options = schema.parse({ url, format, secret: 'bench' });
    const limits = { records: options.max_records, characters: parseSize(options.max_body) };
    const changes = changesOf(rows, mixed);
    const parts = Array.from({ length: Math.ceil(rows / PART) }, (_, index) => changes.slice(index * PART, (index + 1) * PART));
    const encode = makeFormat(format, { hive: 'hive', limits, truncate: false });
    const bodies: Body[] = parts.flatMap((part) => [...encode(part)]);
    const sink = createSink(options);
    await sink.open(contextOf('bench', directory));
    const singles = changes.slice(0, MOST_ONE_BY_ONE).flatMap((change) => [...encode([change])]);
    const times = { plain: [] as number[], sink: [] as number[], one: [] as number[] };
    const post = (list: readonly Body[]) => async (): Promise<void> => {
      for (const { path, text } of list) {
        const response = await fetch(url + path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: text });
        await response.arrayBuffer();
      }
    };
    for (let round = 0; round < rounds; round += 1) {
      if (round % 2 === 0) times.plain.push(await time(post(bodies)));
      times.sink.push(await time(() => sink.apply(batchOf(parts, checkpointAt(round + 1)))));
      if (round % 2 === 1) times.plain.push(await time(post(bodies)));
      times.one.push(await time(post(singles)));
    }
    await sink.close();
    const rate = (ms: number, of = rows): string => `${(of / ms).toFixed(1)} k/s`;
    const [base, ours, one] = [median(times.plain), median(times.sink), median(times.one)];
    console.log(
      `${title.padEnd(18)} sink/plain ${(base / ours).toFixed(2)}   plain ${rate(base)}   sink ${rate(ours)}   one by one ${rate(one, singles.length)}   ${bodies.length} requests of ${rows} changes`,
    );
  }
  rmSync(directory, { recursive: true, force: true });
};

if (process.send !== undefined && process.argv[2] === 'serve') serve();
else {
  const server = fork(fileURLToPath(import.meta.url), ['serve']);
  const port = await new Promise<number>((resolve) => server.once('message', (message) => resolve(message as number)));
  console.log('webhook: signed requests beside a plain fetch loop of the same bodies, made beforehand');
  await bench(`http://127.0.0.1:${port}`, Number(process.argv[2] ?? 100_000), Number(process.argv[3] ?? 5));
  server.disconnect();
}
