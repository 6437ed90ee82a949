/**
 * Dockerfile and docker-compose.yml, as far as they can be checked without an engine: they parse, the names in them
 * are there, and the configuration in them is one that waggle takes. Nothing here builds or runs a container.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { loadConfig } from '../../src/config/load-config.ts';
import { temporaryDirectory } from '../helpers/temporary.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

const healthcheck = z.strictObject({
  test: z.tuple([z.enum(['CMD', 'CMD-SHELL'])], z.string()),
  interval: z.string().regex(/^\d+s$/),
  timeout: z.string().regex(/^\d+s$/),
  start_period: z
    .string()
    .regex(/^\d+s$/)
    .optional(),
  retries: z.int().min(1),
});

const mount = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('volume'), source: z.string(), target: z.string().startsWith('/') }),
  z.strictObject({
    type: z.literal('bind'),
    source: z.string(),
    target: z.string().startsWith('/'),
    bind: z.strictObject({ create_host_path: z.boolean() }),
  }),
]);

const service = z.strictObject({
  image: z.string(),
  build: z.string().optional(),
  user: z.string().optional(),
  init: z.boolean().optional(),
  restart: z.enum(['unless-stopped']),
  stop_grace_period: z.string().optional(),
  depends_on: z.record(z.string(), z.strictObject({ condition: z.literal('service_healthy') })).optional(),
  profiles: z.array(z.string()).optional(),
  command: z.array(z.string()).optional(),
  environment: z.record(z.string(), z.string()).optional(),
  configs: z.array(z.strictObject({ source: z.string(), target: z.string().startsWith('/') })).optional(),
  ports: z.array(z.string()).optional(),
  volumes: z.array(mount),
  healthcheck,
});

const composeSchema = z.strictObject({
  name: z.string(),
  services: z.record(z.string(), service),
  configs: z.record(z.string(), z.strictObject({ content: z.string() })),
  volumes: z.record(z.string(), z.null()),
});

/** Compose's own substitution, of the forms that the file uses. */
const substituted = (text: string, env: Readonly<Record<string, string>>): string =>
  text.replace(/\$(?:\$|\{(\w+)(?::([-?])([^}]*))?\})/g, (whole: string, name?: string, kind?: string, rest = '') => {
    if (name === undefined) return whole.slice(1);
    const value = env[name];
    if (value !== undefined && value !== '') return value;
    if (kind === '-') return rest;
    throw new Error(kind === '?' ? rest : `${name} is not set`);
  });

const COMPOSE = read('docker-compose.yml');
const ENV = { POSTGRES_PASSWORD: 'secret' };
const compose = (env: Readonly<Record<string, string>> = ENV): z.infer<typeof composeSchema> => {
  const substitute = (value: unknown): unknown => {
    if (typeof value === 'string') return substituted(value, env);
    if (Array.isArray(value)) return value.map(substitute);
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([name, entry]) => [name, substitute(entry)]));
  };
  return composeSchema.parse(substitute(parse(COMPOSE)));
};
const services = (): [string, z.infer<typeof service>][] => Object.entries(compose().services);

describe('docker-compose.yml', () => {
  it('has the daemon and what it may write to; only Postgres comes unasked', () => {
    const file = compose();
    expect(Object.keys(file.services).toSorted()).toEqual(['kafka', 'mongodb', 'postgres', 'waggle']);
    expect(services().flatMap(([name, { profiles = [] }]) => profiles.map((profile) => [name, profile]))).toEqual([
      ['kafka', 'kafka'],
      ['mongodb', 'mongodb'],
    ]);
  });

  it('pins every image to a version', () => {
    for (const [, { image }] of services()) expect(image).toMatch(/^[a-z/-]+:\d+\.\d+(\.\d+)?(-[a-z]+)?$/);
    const { version } = JSON.parse(read('package.json')) as { version: string };
    expect(compose().services['waggle']!.image).toBe(`waggle-cdc:${version}`);
  });

  it('opens ports on this machine alone', () => {
    for (const [, { ports = [] }] of services()) for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:(\d+):\1$/);
  });

  it('names volumes, configurations and services that are there, and leaves none unused', () => {
    const file = compose();
    const volumes = services().flatMap(([, entry]) => entry.volumes.filter(({ type }) => type === 'volume').map(({ source }) => source));
    expect(volumes.toSorted()).toEqual(Object.keys(file.volumes).toSorted());
    const configs = services().flatMap(([, entry]) => (entry.configs ?? []).map(({ source }) => source));
    expect(configs).toEqual(Object.keys(file.configs));
    for (const [, { depends_on: needed = {} }] of services())
      for (const name of Object.keys(needed)) expect(Object.keys(file.services)).toContain(name);
  });

  it('says at its top which variables it reads', () => {
    const [head = ''] = COMPOSE.split('\nname:');
    const used = COMPOSE.slice(head.length)
      .replaceAll(/^\s*#.*$/gm, '')
      .matchAll(/(?<!\$)\$\{(\w+)/g);
    const names = new Set([...used].map(([, name]) => name!));
    expect([...names].toSorted()).toEqual(['POSTGRES_PASSWORD', 'WAGGLE_GID', 'WAGGLE_HIVE_DIR', 'WAGGLE_KAFKA', 'WAGGLE_UID']);
    for (const name of names) expect(head).toContain(name.replace('WAGGLE_GID', '_GID'));
    expect(() => compose({})).toThrow('write POSTGRES_PASSWORD=... into the file .env');
  });

  it("mounts the hive's directory from the host, writable, never the file alone", () => {
    const binds = services().flatMap(([, entry]) => entry.volumes.filter((volume) => volume.type === 'bind'));
    expect(binds).toEqual([{ type: 'bind', source: './.blade/state/databases/main', target: '/hive', bind: { create_host_path: false } }]);
    expect(binds[0]!.target).toBe(dirname(daemonConfig().hive));
  });

  it('gives the daemon a configuration that it takes, with the variables that it names', () => {
    const config = daemonConfig();
    expect(config.name).toBe('main');
    expect(config.sinks.map(({ name, type, enabled, target }) => ({ name, type, enabled, target }))).toEqual([
      { name: 'reporting', type: 'postgres', enabled: true, target: 'postgres:5432/waggle' },
      { name: 'stream', type: 'kafka', enabled: false, target: 'kafka:9092' },
    ]);
    const state = compose().services['waggle']!.volumes.find(({ type }) => type === 'volume');
    // Below the volume's own directory: waggle makes it, with mode 0700, whatever user runs.
    expect(dirname(config.state)).toBe(state!.target);
  });

  it('lets the daemon into the database that it starts', () => {
    const { waggle, postgres } = compose().services;
    const url = new URL(waggle!.environment!['DATABASE_URL']!);
    const { POSTGRES_USER: user, POSTGRES_DB: database, POSTGRES_PASSWORD: password } = postgres!.environment!;
    expect([url.hostname, url.username, url.password, url.pathname]).toEqual(['postgres', user, password, `/${database}`]);
  });

  it('does not wait longer at the end than the container is given', () => {
    // daemon.ts: sinks get 5 s; keeper-client.ts: the keeper 30 s at most.
    expect(parseInt(compose().services['waggle']!.stop_grace_period!, 10)).toBeGreaterThan(35);
  });
});

const daemonConfig = (): ReturnType<typeof loadConfig> => {
  using directory = temporaryDirectory();
  const path = join(directory.path, 'waggle.yaml');
  const file = compose();
  writeFileSync(path, file.configs['waggle.yaml']!.content);
  return loadConfig(path, file.services['waggle']!.environment);
};

interface Instruction {
  readonly name: string;
  readonly text: string;
}

const DOCKERFILE: Instruction[] = read('Dockerfile')
  .split('\n')
  .filter((line) => !line.startsWith('#'))
  .join('\n')
  .replaceAll(/\\\n\s*/g, '')
  .split('\n')
  .filter((line) => line.trim() !== '')
  .map((line) => ({ name: line.slice(0, line.indexOf(' ')), text: line.slice(line.indexOf(' ') + 1) }));

const stages = (): Instruction[][] => {
  const starts = DOCKERFILE.flatMap(({ name }, index) => (name === 'FROM' ? [index] : []));
  return starts.map((start, index) => DOCKERFILE.slice(start, starts[index + 1]));
};

describe('Dockerfile', () => {
  it('has instructions that there are', () => {
    const known = ['ARG', 'FROM', 'WORKDIR', 'COPY', 'RUN', 'ENV', 'USER', 'ENTRYPOINT', 'CMD', 'STOPSIGNAL'];
    for (const { name } of DOCKERFILE) expect(known).toContain(name);
  });

  it("runs on the project's own Node, on Debian", () => {
    const { devDependencies } = JSON.parse(read('package.json')) as { devDependencies: Record<string, string> };
    expect(DOCKERFILE[0]).toEqual({ name: 'ARG', text: `NODE_IMAGE=node:${devDependencies['node']}-bookworm-slim` });
    for (const [from] of stages()) expect(from!.text).toMatch(/^\$\{NODE_IMAGE\}( AS \w+)?$/);
  });

  it('finds a binary of better-sqlite3 for it', () => {
    for (const machine of ['x64', 'arm64']) expect(existsSync(join(ROOT, `node_modules/better-sqlite3/prebuilds/linux-${machine}.node`))).toBe(true);
  });

  it('copies what is there, past .dockerignore', () => {
    const names = stages().map(([from]) => from!.text.split(' AS ')[1]);
    const [first, ...sent] = read('.dockerignore')
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'));
    expect(first).toBe('*');
    const copies = DOCKERFILE.filter(({ name }) => name === 'COPY').map(({ text }) => text.split(' '));
    const [fromStages, fromHere] = [copies.filter(([word]) => word!.startsWith('--from=')), copies.filter(([word]) => !word!.startsWith('--'))];
    expect(fromStages.length + fromHere.length).toBe(copies.length);
    for (const [word] of fromStages) expect(names).toContain(word!.slice('--from='.length));
    for (const source of fromHere.flatMap((words) => words.slice(0, -1))) {
      expect(existsSync(join(ROOT, source))).toBe(true);
      expect(sent).toContain(`!${source.replace('./', '')}`);
    }
    for (const line of sent) expect(existsSync(join(ROOT, line.slice(1)))).toBe(true);
  });

  it('leaves what development needs behind', () => {
    const commands = stages().map((stage) =>
      stage
        .filter(({ name }) => name === 'RUN')
        .map(({ text }) => text)
        .join('\n'),
    );
    expect(commands).toHaveLength(3);
    expect(commands[0]).toContain('npm run build');
    expect(commands[1]).toContain('npm ci --omit=dev');
    expect(commands[2]).not.toContain('npm');
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
    expect(scripts['build']).toContain('tsc');
  });

  it('starts the command, not as root, with the configuration that compose puts there', () => {
    const last = stages().at(-1)!;
    const textOf = (name: string): string | undefined => last.findLast((instruction) => instruction.name === name)?.text;
    expect(textOf('USER')).toBe('node');
    expect(textOf('ENTRYPOINT')).toBe('["waggle"]');
    const [, target = ''] = /ln -s \/app\/dist\/(\S+) \/usr\/local\/bin\/waggle/.exec(textOf('RUN') ?? '') ?? [];
    expect(existsSync(join(ROOT, target))).toBe(true);
    const command = JSON.parse(textOf('CMD') ?? '[]') as string[];
    const { configs = [], healthcheck: health } = compose().services['waggle']!;
    expect(command).toEqual(['run', '-c', configs[0]!.target]);
    expect(health.test[1]).toMatch(new RegExp(`^waggle status -c ${RegExp.escape(configs[0]!.target)} --json \\| grep -q`));
  });
});
