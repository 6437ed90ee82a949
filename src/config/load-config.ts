/** From a configuration file to the checked, resolved, frozen `Config`. */
import { dirname, resolve } from 'node:path';
import { CONNECTORS } from '../../connectors/registry.ts';
import { WaggleError } from '../support/errors.ts';
import { suggestion } from '../support/nearest-name.ts';
import type { Config } from './config.ts';
import { ConfigSource, type ConfigPath } from './config-source.ts';
import { describeIssue } from './issues.ts';
import { knownOptions } from './json-schema.ts';
import { resolveConfig, type RawSink } from './resolve-config.ts';
import { configSchema, SINK_COMMON_OPTIONS, sinkCommonSchema } from './schema.ts';
import type { z } from 'zod';

/** Throws CONFIG_MISSING, CONFIG_INVALID (names file, line, column, the option's path and the mend). Touches nothing but the file. */
export const loadConfig = (file: string, env: NodeJS.ProcessEnv = process.env): Config => {
  const source = ConfigSource.read(resolve(file), env);
  const reader = new ConfigReader(source);
  const raw = reader.check(configSchema, source.value() ?? {}, []);
  const sinks = Object.entries(raw.sinks).map(([name, sink]) => reader.checkSink(name, sink));
  return resolveConfig(source, raw, sinks);
};

export interface StatePlace {
  /** Absolute path of the state directory. */
  readonly state: string;
  /** What is wrong with the rest of the configuration. */
  readonly fault: WaggleError | null;
}

/**
 * The state directory alone, for commands that need nothing else: a fault elsewhere must not keep anybody from stopping the daemon or looking at it.
 * Throws where the place itself cannot be told: CONFIG_MISSING, CONFIG_INVALID.
 */
export const loadStatePlace = (file: string, env: NodeJS.ProcessEnv = process.env): StatePlace => {
  try {
    return { state: loadConfig(file, env).state, fault: null };
  } catch (fault) {
    if (!(fault instanceof WaggleError) || fault.code !== 'CONFIG_INVALID') throw fault;
    return { state: stateAlone(resolve(file), env, fault), fault };
  }
};

/** Throws where the fault is in the state directory's own line, or the file is no YAML. */
const stateAlone = (path: string, env: NodeJS.ProcessEnv, fault: WaggleError): string => {
  try {
    const state = configSchema.shape.state.safeParse(ConfigSource.read(path, env, { only: 'state' }).value('state'));
    if (!state.success) throw fault;
    return resolve(dirname(path), state.data);
  } catch (error) {
    if (!(error instanceof WaggleError)) throw error;
    throw new WaggleError(error.code, error.message, { cause: error, hint: `${error.hint} Or name the state directory: --state DIR.` });
  }
};

class ConfigReader {
  readonly #source: ConfigSource;

  constructor(source: ConfigSource) {
    this.#source = source;
  }

  check<T>(schema: z.ZodType<T>, value: unknown, path: ConfigPath): T {
    const result = schema.safeParse(value, { reportInput: true });
    if (result.success) return result.data;
    const { issues } = result.error;
    // A mistyped name often is why another one is missing.
    const first = issues.find((issue) => issue.code === 'unrecognized_keys') ?? issues[0]!;
    const finding = describeIssue({ ...first, path: [...path, ...first.path] }, (at) => knownOptions(at, (sink) => this.#typeOf(sink)));
    const more = issues.length === 1 ? '' : ` (and ${issues.length - 1} more)`;
    throw this.#source.invalid(finding.path, finding.message + more, { key: finding.key });
  }

  checkSink(name: string, sink: { readonly type: string }): RawSink {
    const path = ['sinks', name];
    const connector = CONNECTORS[sink.type];
    if (connector === undefined) {
      const shown = this.#source.isSubstituted([...path, 'type']) ? '' : ` \`${sink.type}\``;
      throw this.#source.invalid([...path, 'type'], `unknown sink type${shown}${suggestion(sink.type, Object.keys(CONNECTORS))}`);
    }
    const { type, ...rest } = sink;
    const common = Object.fromEntries(Object.entries(rest).filter(([option]) => SINK_COMMON_OPTIONS.includes(option)));
    const own = Object.fromEntries(Object.entries(rest).filter(([option]) => !SINK_COMMON_OPTIONS.includes(option)));
    return { name, type, common: this.check(sinkCommonSchema, common, path), options: this.check(connector.options, own, path), connector };
  }

  #typeOf(sink: ConfigPath): unknown {
    const sinks = (this.#source.value() as { sinks?: Record<string, { type?: unknown }> }).sinks;
    return sinks?.[String(sink[1])]?.type;
  }
}
