/** What is wrong with a `waggle sink`, in one line. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { freePort } from '../helpers/free-port.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';
import { until } from '../helpers/until.ts';
import { expectOneLine, waggle } from '../helpers/waggle-command.ts';
import { WaggleProcess } from '../helpers/waggle-process.ts';

const directory = temporaryDirectory();
afterAll(() => directory[Symbol.dispose]());
const config = join(directory.path, 'waggle.yaml');
const port = await freePort();

describe('waggle sink', () => {
  const write = (...sinks: readonly string[]): void =>
    writeFileSync(config, ['hive: nowhere.db', 'sinks:', ...sinks.map((sink) => `  ${sink}`), ''].join('\n'));
  const run = (...args: readonly string[]): ReturnType<typeof waggle> => waggle(['sink', ...args, '-c', config]);
  const STREAM = `stream: { type: kafka, brokers: "127.0.0.1:${port}" }`;

  it('names what is missing or cannot be', () => {
    write('copy: { type: sqlite, file: copy.sqlite }');
    expectOneLine(run('copy', '--from', 'kafka'), 'NOT_FOUND', 2, /no sink kafka of the type kafka/);
    write(
      STREAM,
      'copy: { type: sqlite, file: copy.sqlite }',
      'hook: { type: webhook, url: "http://h/" }',
      'few: { type: sqlite, file: few.sqlite, tables: { include: [a] } }',
    );
    expectOneLine(run('copi', '--from', 'kafka'), 'NOT_FOUND', 2, /no sink copi; did you mean `copy`/);
    expectOneLine(run('copy', '--from', 'straem'), 'NOT_FOUND', 2, /did you mean `stream`/);
    expectOneLine(run('stream', '--from', 'stream'), 'CONFIG_INVALID', 2, /is a publisher itself/);
    expectOneLine(run('hook', '--from', 'stream'), 'CONFIG_INVALID', 2, /type webhook cannot be fed/);
    expectOneLine(run('few', '--from', 'stream'), 'CONFIG_INVALID', 2, /which the publisher must do/);
    expectOneLine(run('copy'), 'USAGE', 2, /--from/);
  });

  it('says that no broker can be reached, goes on trying, and ends in order', async () => {
    write(STREAM, 'copy: { type: sqlite, file: copy.sqlite }');
    await using member = new WaggleProcess(['sink', 'copy', '--from', 'kafka', '-c', config]);
    const told = await until('the second try', () => member.lines.filter(({ code }) => code === 'SINK_UNREACHABLE')[1]);
    expect(told.hint).toMatch(/keeps trying/);
    expect(await member.stop()).toEqual({ code: 0, signal: null });
  });
});
