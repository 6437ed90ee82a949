/** Bad input, the command line and the configuration; and what help says. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { VERSION } from '../../src/support/version.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';
import { expectOneLine, waggle } from '../helpers/waggle-command.ts';

describe('the command line', () => {
  it.each([
    [['tial', 'x.sqlite'], /unknown command 'tial' \(Did you mean tail\?\)/],
    [['tail'], /missing required argument 'file'/],
    [['tail', 'a', 'b'], /too many arguments/],
    [['run', '--confg', 'x'], /unknown option '--confg' \(Did you mean --config\?\)/],
    [['run', '-c'], /argument missing/],
  ])('%j', (args, message) => expectOneLine(waggle(args), 'USAGE', 2, message));

  it('teaches', () => {
    for (const args of [[], ['--help'], ['-h']]) {
      const { status, stdout, stderr } = waggle(args);
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      expect(stdout).toContain('waggle init && waggle run');
    }
    expect(waggle(['tail', '--help']).stdout).toContain('--snapshot');
    expect(waggle(['--version'])).toMatchObject({ status: 0, stdout: `${VERSION}\n` });
  });

  it('tells the version of the package', () => {
    const manifest = JSON.parse(readFileSync(join(import.meta.dirname, '../../package.json'), 'utf8')) as { version: string };
    expect(VERSION).toBe(manifest.version);
  });

  it('needs a new Node, and says so before anything native is loaded', () => {
    const pretend = 'data:text/javascript,Object.defineProperty(process, "versions", { value: { ...process.versions, node: "20.1.0" } })';
    const { status, stdout, stderr } = waggle(['tail', 'x'], { nodeOptions: ['--import', pretend] });
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toMatch(/^waggle: needs Node 24 or newer, this is v20\.1\.0; [^\n]+ \[NODE_TOO_OLD\]\n$/);
  });
});

describe('the configuration', () => {
  it.each([
    ['CONFIG_MISSING', null, /there is no .*waggle\.yaml/],
    ['CONFIG_INVALID', 'hive: [', /waggle\.yaml:1:8: not valid YAML/],
    [
      'CONFIG_INVALID',
      'hive: a.db\nsinks: { a: { type: postgre } }',
      /waggle\.yaml:2:21: sinks\.a\.type: unknown sink type `postgre`; did you mean `postgres`\?/,
    ],
    ['CONFIG_INVALID', 'hive: ${NOT_SET_AT_ALL}', /NOT_SET_AT_ALL is not set/],
  ] as const)('%s: %j', (code, yaml, message) => {
    using directory = temporaryDirectory();
    if (yaml !== null) writeFileSync(join(directory.path, 'waggle.yaml'), yaml);
    expectOneLine(waggle(['run'], { cwd: directory.path }), code, 2, message);
  });

  it.each([
    ['no YAML', 'hive: [', 'CONFIG_INVALID', /waggle\.yaml:1:8: not valid YAML.*\n.*Or name the state directory: --state DIR\.$/m],
    ['no such file', null, 'CONFIG_MISSING', /there is no .*waggle\.yaml/],
    [
      'a state directory that cannot be told',
      'hive: a.db\nstate: ${NOT_SET_AT_ALL}',
      'CONFIG_INVALID',
      /2:8: the environment variable NOT_SET_AT_ALL/,
    ],
    ['a state directory that is none', 'hive: a.db\nstate: 7', 'CONFIG_INVALID', /2:8: state: must be a text/],
  ] as const)('commands that need the state directory alone refuse %s', (_, yaml, code, message) => {
    using directory = temporaryDirectory();
    if (yaml !== null) writeFileSync(join(directory.path, 'waggle.yaml'), yaml);
    for (const command of ['status', 'stop']) expectOneLine(waggle([command], { cwd: directory.path }), code, 2, message);
  });

  it('shows the trace only with --verbose', () => {
    using directory = temporaryDirectory();
    const { status, stderr } = waggle(['run', '--verbose'], { cwd: directory.path });
    expect(status).toBe(2);
    expect(stderr).toMatch(/\[CONFIG_MISSING\]\n.*\n(.*\n)*\s+at /);
  });
});
