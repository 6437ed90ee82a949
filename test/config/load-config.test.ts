import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config/load-config.ts';
import type { Config } from '../../src/config/config.ts';
import { WaggleError } from '../../src/support/errors.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';

/** The example of the issue and of the README, letter by letter. */
const EXAMPLE = `
hive: .blade/state/databases/main/db.sqlite
state: .waggle
tables: { exclude: [sessions] }
sinks:
  reporting:
    type: postgres
    url: \${DATABASE_URL}
    tables:
      accounts: { to: users, columns: { exclude: [password], rename: { "ronin.createdAt": created_at } } }
    batch: { rows: 5000, delay: 50ms }
  copy:    { type: sqlite, file: copy.sqlite }
  local:   { type: pglite, dir: pg }
  changes: { type: jsonl, file: changes.jsonl }
`;

const URL_WITH_SECRET = 'postgres://app:s3cret@db.example:5432/reports';

const load = (yaml: string, env: NodeJS.ProcessEnv = {}, files: Readonly<Record<string, string>> = {}): Config => {
  using directory = temporaryDirectory();
  for (const [name, content] of Object.entries(files)) writeFileSync(join(directory.path, name), content);
  const path = join(directory.path, 'waggle.yaml');
  writeFileSync(path, yaml);
  return withoutDirectory(() => loadConfig(path, env), directory.path);
};

/** Paths in results and messages are compared without the temporary directory. */
const withoutDirectory = (work: () => Config, directory: string): Config => {
  try {
    return JSON.parse(JSON.stringify(work()).replaceAll(directory, ''));
  } catch (error) {
    if (error instanceof WaggleError) error.message = error.message.replaceAll(directory, '').replace(/^\//, '');
    throw error;
  }
};

const failure = (yaml: string, env: NodeJS.ProcessEnv = {}, files: Readonly<Record<string, string>> = {}): WaggleError => {
  try {
    load(yaml, env, files);
  } catch (error) {
    if (error instanceof WaggleError) return error;
    throw error;
  }
  throw new Error('the configuration was accepted');
};

describe('paths', () => {
  it('one file under two names is one file', () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, 'waggle.yaml');
    mkdirSync(join(directory.path, 'data'));
    symlinkSync(join(directory.path, 'data'), join(directory.path, 'link'));
    const sinks = (first: string, second: string): string =>
      `hive: data/app.db\nsinks:\n  a: { type: sqlite, file: ${first} }\n  b: { type: sqlite, file: ${second} }\n`;
    writeFileSync(path, sinks('data/x.db', 'link/x.db'));
    expect(() => loadConfig(path)).toThrow(/4:28: sinks\.b\.file: the sink a is at this path, too/);
    writeFileSync(path, sinks('data/x.db', 'link/app.db'));
    expect(() => loadConfig(path)).toThrow(/sinks\.b\.file: the hive is at this path, too/);
    writeFileSync(path, sinks('data/x.db', 'link/y.db'));
    expect(loadConfig(path).sinks.length).toBe(2);
  });
});

describe('the place of an option', () => {
  it('is file, line, column and full name; of what is not there, of what should hold it', () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, 'waggle.yaml');
    writeFileSync(path, 'hive: a.db\nsinks:\n  a:\n    type: jsonl\n    file: x\n    tables:\n      t: { to: u,\n           where: "x > 1" }\n');
    const place = loadConfig(path).sinks[0]!.place;
    expect(place(['tables', 't', 'where'])).toBe(`${path}:8:12: sinks.a.tables.t.where`);
    expect(place(['tables', 't', 'columns', 'rename'])).toBe(`${path}:7:10: sinks.a.tables.t.columns.rename`);
  });
});

describe('a good configuration', () => {
  it('is resolved: the example of the issue', () => {
    const config = load(EXAMPLE, { DATABASE_URL: URL_WITH_SECRET });
    expect(config).toEqual({
      path: '/waggle.yaml',
      hive: '/.blade/state/databases/main/db.sqlite',
      state: '/.waggle',
      name: 'main',
      durability: 'os',
      onGap: 'snapshot',
      tables: { include: null, exclude: ['sessions'] },
      maxWalBytes: 16_000_000,
      keeper: { outlive: true, spoolBytes: 1_000_000_000, patienceMs: 86_400_000 },
      deleteAll: 'rows',
      retention: { maxAgeMs: 86_400_000, maxBytes: 1_000_000_000, force: false },
      log: { level: 'info' },
      sinks: [
        {
          name: 'reporting',
          type: 'postgres',
          enabled: true,
          fill: true,
          target: 'db.example:5432/reports',
          options: { url: URL_WITH_SECRET },
          filter: {},
          tables: { accounts: { to: 'users', columns: { exclude: ['password'], rename: { 'ronin.createdAt': 'created_at' } } } },
          maskKey: null,
          transform: null,
          tablesIn: 'postgres db.example:5432/reports public',
          batch: { rows: 5000, delayMs: 50 },
          deadLetters: { limit: 100 },
          verifyEveryMs: null,
        },
        expect.objectContaining({ name: 'copy', type: 'sqlite', options: { file: '/copy.sqlite' }, target: '/copy.sqlite' }),
        expect.objectContaining({ name: 'local', type: 'pglite', options: { dir: '/pg' } }),
        expect.objectContaining({ name: 'changes', type: 'jsonl', options: { file: '/changes.jsonl' } }),
      ],
    });
  });

  it('needs nothing but the hive', () => {
    expect(load('hive: data/shop.db')).toMatchObject({ hive: '/data/shop.db', name: 'shop', sinks: [] });
  });

  it("names the hive after Blade's database id", () => {
    expect(load('hive: .blade/state/databases/tenant%201/db.sqlite').name).toBe('tenant 1');
  });

  it('substitutes the environment and files in values, once, and nothing else', () => {
    const yaml = 'hive: ${A}-${file:b.txt}.db\nname: "$${A} ${C}"\nsinks:\n  "${A}x": {}\n';
    expect(failure(yaml, { A: 'a', C: 'c' }, { 'b.txt': 'b\n' }).message).toContain('waggle.yaml:4:3: sinks.${A}x');
    const config = load(yaml.split('\n').slice(0, 2).join('\n'), { A: 'a', C: '${A}: [' }, { 'b.txt': 'b\n' });
    expect(config).toMatchObject({ hive: '/a-b.db', name: '${A} ${A}: [' });
  });

  it('takes sink options: filters, fill, enabled', () => {
    const config = load(
      'hive: a.db\nsinks:\n  out: { type: jsonl, stdout: true, fill: false, enabled: false, tables: { include: ["a*"], exclude: [ab], a: { to: b } } }',
    );
    expect(config.sinks[0]).toMatchObject({
      fill: false,
      enabled: false,
      target: 'standard output',
      filter: { include: ['a*'], exclude: ['ab'] },
      tables: { a: { to: 'b' } },
    });
  });

  it('takes brokers as a list or a text, resolves files of kafka, and shows no secret in the target', () => {
    const [one, two] = load(
      'hive: a.db\nsinks:\n  one: { type: kafka, brokers: "k1:9092, k2:9092", tls: { ca: ca.pem }, sasl: { mechanism: plain, username: u, password: secret } }\n  two: { type: kafka, brokers: [k1:9092], prefix: app, tls: true }',
    ).sinks;
    expect(one).toMatchObject({ target: 'k1:9092,k2:9092', options: { tls: { ca: '/ca.pem' } } });
    expect(two).toMatchObject({ target: 'k1:9092 app', options: { tls: true }, tablesIn: 'kafka k1:9092 app' });
  });

  it('is frozen through and through', () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, 'waggle.yaml');
    writeFileSync(path, EXAMPLE);
    const config = loadConfig(path, { DATABASE_URL: URL_WITH_SECRET });
    expect(Object.isFrozen(config)).toBe(true);
    expect(Object.isFrozen(config.sinks[0]!.tables['accounts'])).toBe(true);
  });
});

describe('a wrong configuration', () => {
  const sink = (text: string): string => `hive: a.db\nsinks:\n  one:\n    ${text.replaceAll('\n', '\n    ')}\n`;

  it.each([
    ['broken YAML', 'hive: a.db\nsinks: [', 'waggle.yaml:2:9: not valid YAML'],
    ['a tabulator', 'hive: a.db\nsinks:\n\tone: 1', 'waggle.yaml:3:'],
    ['a key twice', 'hive: a.db\nhive: b.db', 'waggle.yaml:2:1: not valid YAML: Map keys must be unique'],
    ['not a map', '- 1', 'waggle.yaml:1:1: must be a map of options'],
    ['nothing', '', 'waggle.yaml:1:1: hive: is missing'],
    ['no hive', '# only\nstate: x', 'waggle.yaml:2:1: hive: is missing'],
    ['an empty hive', 'hive: ""', 'waggle.yaml:1:7: hive: must not be empty'],
    ['a mistyped option', 'hive: a.db\nstaet: x', 'waggle.yaml:2:1: staet: unknown option `staet`; did you mean `state`?'],
    ['an unknown option', 'hive: a.db\nxylophone: x', 'xylophone: unknown option `xylophone` (known: hive, state, '],
    ['a mistyped section', 'hive: a.db\nretention: { aeg: 1h }', 'waggle.yaml:2:14: retention.aeg: unknown option `aeg`; did you mean `age`?'],
    ['a wrong choice', 'hive: a.db\ndurability: disk', 'waggle.yaml:2:13: durability: must be os or fsync'],
    ['a wrong size', 'hive: a.db\ncapture: { max_wal: 16 }', 'waggle.yaml:2:21: capture.max_wal: must be a size like 16MB'],
    ['a wrong duration', sink('type: jsonl\nfile: x\nbatch:\n  delay: 50'), 'waggle.yaml:7:14: sinks.one.batch.delay: must be a duration like 50ms'],
    ['a wrong number', sink('type: jsonl\nfile: x\nbatch: { rows: 0 }'), 'waggle.yaml:6:20: sinks.one.batch.rows: must be at least 1'],
    ['several faults', 'hive: a.db\nfoo: 1\ndurability: x', '(and 1 more)'],
    ['tables as a list', 'hive: a.db\ntables: [a]', 'waggle.yaml:2:9: tables: must be a map of options'],
    ['a sink without a type', sink('file: x'), 'waggle.yaml:4:5: sinks.one.type: is missing'],
    ['an unknown sink type', sink('type: postgre'), 'waggle.yaml:4:11: sinks.one.type: unknown sink type `postgre`; did you mean `postgres`?'],
    ['a far sink type', sink('type: oracle'), 'unknown sink type `oracle` (known: jsonl, kafka, mongodb, mysql, pglite, postgres, sqlite, webhook)'],
    ['a mistyped sink option', sink('type: sqlite\nfiel: x'), 'waggle.yaml:5:5: sinks.one.fiel: unknown option `fiel`; did you mean `file`?'],
    ['a missing sink option', sink('type: sqlite'), 'waggle.yaml:4:5: sinks.one.file: is missing'],
    [
      'a mistyped table option',
      sink('type: sqlite\nfile: x\ntables: { a: { too: b } }'),
      'waggle.yaml:6:20: sinks.one.tables.a.too: unknown option `too`; did you mean `to`?',
    ],
    ['a rule of the connector', sink('type: jsonl'), 'sinks.one: needs either `file` or `stdout: true`'],
    ['kafka: no brokers', sink('type: kafka'), 'sinks.one.brokers: is missing'],
    ['kafka: a broker without a port', sink('type: kafka\nbrokers: [host]'), 'sinks.one.brokers.0: must look like host:9092'],
    ['kafka: an unknown compression', sink('type: kafka\nbrokers: h:1\ncompression: snappy'), 'sinks.one.compression: must be none or gzip or zstd'],
    [
      'kafka: a mistyped option',
      sink('type: kafka\nbrokers: h:1\ntopics: { partition: 3 }'),
      'topics.partition: unknown option `partition`; did you mean `partitions`?',
    ],
    [
      'kafka: transactions over many topics',
      sink('type: kafka\nbrokers: h:1\npartition: transaction'),
      'sinks.one.partition: `transaction` needs one `topic`',
    ],
    [
      'kafka: tables whose keys would meet',
      sink('type: kafka\nbrokers: h:1\ntopic: all\ntopics: { compact: true }'),
      'sinks.one.topics.compact: is for topics of one table',
    ],
    ['a bad name of a sink', 'hive: a.db\nsinks: { "a b": { type: sqlite, file: x } }', 'waggle.yaml:2:10: sinks.a b: must be a name of letters'],
    [
      'two sinks on one file',
      'hive: a.db\nsinks:\n  a: { type: jsonl, file: x }\n  b: { type: sqlite, file: ./x }',
      'waggle.yaml:4:28: sinks.b.file: the sink a is at this path, too',
    ],
    ['a sink on the hive', sink('type: sqlite\nfile: a.db'), 'waggle.yaml:5:11: sinks.one.file: the hive is at this path, too'],
    ['an unset variable', sink('type: postgres\nurl: ${NOT_SET}'), 'waggle.yaml:5:10: the environment variable NOT_SET is not set'],
    ['an absent file', 'hive: ${file:none}', 'waggle.yaml:1:7: ${file:none} cannot be read (ENOENT)'],
    ['an odd substitution', 'hive: ${A B}', 'waggle.yaml:1:7: ${A B} is neither a variable nor a file'],
  ])('%s', (_, yaml, message) => {
    const error = failure(yaml);
    expect(error.message).toContain(message);
    expect(error.message).not.toContain('\n');
    expect(error).toMatchObject({ code: 'CONFIG_INVALID', exitStatus: 2 });
  });

  it('says how to write ${…} inside { }', () => {
    const error = failure('hive: a.db\nsinks:\n  a: { type: postgres, url: ${URL} }');
    expect(error).toMatchObject({ code: 'CONFIG_INVALID', hint: 'Inside { } and [ ] write "${NAME}" with quotes.' });
    expect(error.message).toContain('waggle.yaml:3:');
  });

  it('never shows what came from the environment or what may be a secret', () => {
    const secret = 'hunter2';
    const wrong = [
      sink('type: ${SECRET}'),
      sink('type: postgres\nurl: ${SECRET}'),
      sink('type: postgres\nurl: hunter2'),
      sink('type: jsonl\nfile: x\nbatch: { delay: "${SECRET}" }'),
      'hive: a.db\ndurability: ${SECRET}',
    ];
    for (const yaml of wrong) {
      const error = failure(yaml, { SECRET: secret });
      expect(`${error.message} ${error.hint}`).not.toContain(secret);
    }
  });

  it('is not a file', () => {
    using directory = temporaryDirectory();
    mkdirSync(join(directory.path, 'dir'));
    expect(() => loadConfig(join(directory.path, 'none.yaml'))).toThrow(expect.objectContaining({ code: 'CONFIG_MISSING', exitStatus: 2 }));
    expect(() => loadConfig(join(directory.path, 'dir'))).toThrow(expect.objectContaining({ code: 'CONFIG_MISSING' }));
  });
});
