/** The raw configuration in base units, with absolute paths and defaults that depend on other options. */
import { realpathSync } from 'node:fs';
import { basename, dirname, extname, join, resolve } from 'node:path';
import type { Connector } from '../../connectors/registry.ts';
import { parseDuration, parseSize } from '../support/units.ts';
import type { Config, SinkConfig, TableOptions } from './config.ts';
import type { ConfigSource } from './config-source.ts';
import type { RawConfig, RawSinkCommon } from './schema.ts';

export interface RawSink {
  readonly name: string;
  readonly type: string;
  readonly common: RawSinkCommon;
  readonly options: object;
  readonly connector: Connector;
}

/** Throws CONFIG_INVALID where options contradict each other. */
export const resolveConfig = (source: ConfigSource, raw: RawConfig, sinks: readonly RawSink[]): Config => {
  const directory = dirname(source.path);
  const hive = resolve(directory, raw.hive);
  const config: Config = {
    path: source.path,
    hive,
    state: resolve(directory, raw.state),
    name: raw.name ?? hiveName(hive),
    durability: raw.durability,
    onGap: raw.on_gap,
    tables: { include: raw.tables.include ?? null, exclude: raw.tables.exclude ?? [] },
    maxWalBytes: parseSize(raw.capture.max_wal),
    keeper: { outlive: raw.keeper.outlive, spoolBytes: parseSize(raw.keeper.spool), patienceMs: parseDuration(raw.keeper.patience) },
    deleteAll: raw.capture.delete_all,
    retention: { maxAgeMs: parseDuration(raw.retention.age), maxBytes: parseSize(raw.retention.size), force: raw.retention.force },
    sinks: sinks.map((sink) => resolveSink(source, sink, directory)),
    log: raw.log,
  };
  checkPaths(source, config, sinks);
  return deepFreeze(config);
};

/** Blade keeps its databases as `databases/<id>/db.sqlite`, with the id URI-encoded; else the file's name. */
export const hiveName = (hive: string): string => {
  if (basename(hive) !== 'db.sqlite' || basename(dirname(dirname(hive))) !== 'databases') return basename(hive, extname(hive));
  try {
    return decodeURIComponent(basename(dirname(hive)));
  } catch {
    return basename(dirname(hive));
  }
};

const resolveSink = (source: ConfigSource, { name, type, common, options, connector }: RawSink, directory: string): SinkConfig => {
  const place = (path: readonly string[]): string => source.place(['sinks', name, ...path], { key: true });
  const { include, exclude, ...tables } = common.tables ?? {};
  const located = connector.withPaths === null ? options : connector.withPaths(options, (path) => resolve(directory, path));
  const absolute = Object.fromEntries(
    Object.entries(located).map(([option, value]: [string, unknown]) => [
      option,
      connector.paths.includes(option) && typeof value === 'string' ? resolve(directory, value) : value,
    ]),
  );
  return {
    name,
    type,
    enabled: common.enabled,
    fill: common.fill,
    target: describeTarget(absolute, connector),
    options: absolute,
    filter: { ...(include && { include }), ...(exclude && { exclude }) },
    tables: tables as Record<string, TableOptions>,
    maskKey: common.mask_key ?? null,
    transform:
      common.transform === undefined
        ? null
        : {
            place: place(['transform', 'module']),
            module: resolve(directory, common.transform.module),
            timeoutMs: parseDuration(common.transform.timeout),
          },
    place,
    tablesIn: connector.tablesIn === null ? null : `${type} ${connector.tablesIn(absolute)}`,
    deadLetters: common.on_error === 'stop' ? null : { limit: common.dead_letters.limit },
    verifyEveryMs: common.verify === undefined ? null : parseDuration(common.verify.every),
    batch: { ...(common.batch.rows === undefined ? {} : { rows: common.batch.rows }), delayMs: parseDuration(common.batch.delay) },
  };
};

/** The path, or host and database of the URL; never user, password or a token. */
const describeTarget = (options: Readonly<Record<string, unknown>>, connector: Connector): string => {
  if (connector.describe !== null) return connector.describe(options);
  for (const option of connector.paths) if (typeof options[option] === 'string') return options[option];
  const url = Object.values(options).find((value) => typeof value === 'string' && URL.canParse(value));
  if (typeof url === 'string') {
    const { host, pathname } = new URL(url);
    return host + pathname;
  }
  return options['stdout'] === true ? 'standard output' : '';
};

/** Two sinks on one file, or a sink on the hive, would destroy what stands there. */
const checkPaths = (source: ConfigSource, config: Config, sinks: readonly RawSink[]): void => {
  const owners = new Map([
    [realPath(config.hive), 'the hive'],
    [realPath(config.state), 'the state directory'],
  ]);
  if (owners.size === 1) throw source.invalid(['state'], 'is the hive itself');
  for (const [index, { name, connector }] of sinks.entries()) {
    for (const option of connector.paths) {
      const path: unknown = (config.sinks[index]!.options as Record<string, unknown>)[option];
      if (typeof path !== 'string') continue;
      const real = realPath(path);
      const owner = owners.get(real);
      if (owner !== undefined) throw source.invalid(['sinks', name, option], `${owner} is at this path, too`);
      owners.set(real, `the sink ${name}`);
    }
  }
};

/** Without symbolic links, as far as the path is there. */
const realPath = (path: string): string => {
  try {
    return realpathSync(path);
  } catch {
    return dirname(path) === path ? path : join(realPath(dirname(path)), basename(path));
  }
};

const deepFreeze = <T>(value: T): T => {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    Object.values(value).forEach(deepFreeze);
  }
  return value;
};
