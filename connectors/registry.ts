/**
 * The kinds of targets, by the `type` of a sink in the configuration. Options are checked without loading the
 * connector; its code (and PGlite's 500 MB) is loaded when a sink of it is made.
 */
import type { z } from 'zod';
import type { Sink } from '../src/pipeline/sink.ts';
import { options as jsonl } from './jsonl/options.ts';
import { options as mongodb } from './mongodb/options.ts';
import { options as mysql } from './mysql/options.ts';
import { options as pglite } from './pglite/options.ts';
import { options as postgres } from './postgres/options.ts';
import { options as sqlite } from './sqlite/options.ts';
import { options as webhook } from './webhook/options.ts';

export interface Connector {
  /** The connector's own options, without `type`, `tables`, `batch`, `fill`. An object schema, strict. */
  readonly options: z.ZodType<object>;
  /** Options that are paths, relative to the configuration file. */
  readonly paths: readonly string[];
  /** Options that can hold secrets: never to be shown. */
  readonly secrets: readonly string[];
  /** Where it goes, for people, where a path or the host and path of a URL would tell too much. */
  readonly describe: ((options: object) => string) | null;
  /** Null: it keeps no tables. Else what, beside the target, names the place of its tables: a schema, or ''. Two sinks must not write one table. */
  readonly tablesIn: ((options: object) => string) | null;
  /** Loads the code. `createSink` wants what `options` gave, with absolute paths. */
  load(): Promise<CreateSink>;
}

export type CreateSink = (options: object) => Sink;

/** Binds a connector's options and its factory: what its schema gave is what its factory gets. */
const connector = <T extends object>(entry: {
  readonly options: z.ZodType<T>;
  readonly paths?: readonly (keyof T & string)[];
  readonly secrets?: readonly (keyof T & string)[];
  readonly describe?: (options: T) => string;
  readonly tablesIn?: (options: T) => string;
  readonly load: () => Promise<{ readonly createSink: (options: T) => Sink }>;
}): Connector => ({
  options: entry.options,
  paths: entry.paths ?? [],
  secrets: entry.secrets ?? [],
  tablesIn: (entry.tablesIn as Connector['tablesIn'] | undefined) ?? null,
  describe: (entry.describe as Connector['describe'] | undefined) ?? null,
  load: async () => (await entry.load()).createSink as CreateSink,
});

/** The path of a webhook may hold its token. */
const hostOf = ({ url }: { readonly url: string }): string => new URL(url).host;

export const CONNECTORS: Readonly<Record<string, Connector>> = {
  jsonl: connector({ options: jsonl, paths: ['file'], load: () => import('./jsonl/sink.ts') }),
  mongodb: connector({ options: mongodb, secrets: ['url'], load: () => import('./mongodb/sink.ts') }),
  mysql: connector({ options: mysql, secrets: ['url', 'password'], load: () => import('./mysql/sink.ts') }),
  pglite: connector({ options: pglite, paths: ['dir'], load: () => import('./pglite/sink.ts') }),
  postgres: connector({ options: postgres, secrets: ['url'], tablesIn: ({ schema = 'public' }) => schema, load: () => import('./postgres/sink.ts') }),
  sqlite: connector({ options: sqlite, paths: ['file'], load: () => import('./sqlite/sink.ts') }),
  webhook: connector({ options: webhook, secrets: ['url', 'secret', 'headers'], describe: hostOf, load: () => import('./webhook/sink.ts') }),
};
