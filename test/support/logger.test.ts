import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from 'vitest';

const script = (options: object): string => `
  import { makeLogger } from ${JSON.stringify(join(import.meta.dirname, '../../src/support/logger.ts'))};
  const logger = makeLogger(${JSON.stringify(options)}).child({ component: 'sink', sink: 'copy' });
  logger.warn({ code: 'SINK_BUSY', hint: 'Wait.', err: new Error('busy') }, 'trying again');
  logger.debug('small talk');
  process.kill(process.pid, 'SIGKILL');
`;

/** What stands on stderr when the process is killed right after the last line. */
const logged = (options: object): string => {
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script(options)], { encoding: 'utf8' });
  expect(stdout).toBe('');
  return stripVTControlCharacters(stderr);
};

describe('the logger', () => {
  it('writes JSON lines in a pipe, at once, with an error as its message', () => {
    const lines = logged({ level: 'info' }).trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line) as object)).toEqual([
      {
        level: 40,
        time: expect.stringMatching(/^20..-..-..T/) as string,
        component: 'sink',
        sink: 'copy',
        code: 'SINK_BUSY',
        hint: 'Wait.',
        err: 'busy',
        msg: 'trying again',
      },
    ]);
  });

  it('writes one line on a terminal', () => {
    expect(logged({ level: 'info', pretty: true })).toMatch(/^\[[\d:.]+\] WARN: sink copy: trying again: busy \[SINK_BUSY\] Wait\.\n$/);
  });

  it('tells traces at level debug', () => {
    expect(logged({ level: 'debug' })).toMatch(/"stack":"Error: busy\\n +at /);
    expect(logged({ level: 'debug', pretty: true })).toMatch(/Error: busy\n +at /);
  });
});
